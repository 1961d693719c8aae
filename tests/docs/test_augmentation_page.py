"""docs/augmentation.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from gyrus.configuration import parse
from gyrus.transforms.augmentation.config import AUGMENTATIONS, AugmentationConfig
from gyrus.transforms.augmentation.random_streams import Streams

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = {row.split("`")[1]: row for row in re.findall(r"^\| `.*\|$", PAGE, flags=re.MULTILINE)}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
@pytest.mark.parametrize("shape", [(32, 32), (6, 32, 32)], ids=["2d", "3d"])
def test_every_chain_of_the_page_runs(block, shape):
    chain = parse(AugmentationConfig, yaml.safe_load(block)["augmentation"], where="The page")
    images = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (8, 1, *shape))).float()
    augmented = chain.apply(images, chain.draw(Streams.at(0, np.arange(8)), shape))
    assert augmented.isfinite().all()
    assert ((augmented - images).abs().flatten(1).amax(1) > 1e-4).any()
    assert not chain.clamp or (augmented.min() >= 0 and augmented.max() <= 1)


def test_the_table_lists_every_step_and_its_flag():
    assert list(ROWS) == list(AUGMENTATIONS)
    flagged = [name for name, row in ROWS.items() if row.rstrip("| ").endswith("yes")]
    assert flagged == [name for name, step in AUGMENTATIONS.items() if step.may_change_meaning]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_table_tells_the_fields_and_their_defaults(name):
    told = dict(re.findall(r"`(\w+)(?:: ([^`]+))?`", ROWS[name]))
    step = AUGMENTATIONS[name]()
    assert set(type(step).model_fields) - {"step", "probability"} <= told.keys()
    for field, text in told.items():
        if text:
            default = yaml.safe_load(text)
            expected = getattr(step, field)
            np.testing.assert_array_equal(default, expected) if isinstance(
                default, str
            ) else np.testing.assert_allclose(default, expected, atol=1e-3)
