"""The template in the cache."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gyrus.volumetry import template as module
from gyrus.volumetry.template import Region, Template


def test_the_first_call_which_assembles_the_template_gives_what_later_ones_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    maps = [random.uniform(0, scale, (4, 5, 6)).astype(np.float32) for scale in (200, 1, 1)]
    labels = {"gray_matter": np.ones((4, 5, 6), np.uint8), "csf": np.zeros((4, 5, 6), np.uint8)}
    assembled = Template(
        maps[0], maps[0] > 50, maps[1], maps[2], labels, (Region("frontal", "gray_matter"),), np.eye(4)
    )
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "distribution", lambda _: SimpleNamespace(version="1"))
    monkeypatch.setattr(module, "_assemble_packages", lambda: assembled)
    first, later = (module.load_template.__wrapped__() for _ in range(2))
    for name in ("gray_values", "brain", "gray", "white", "affine"):
        np.testing.assert_array_equal(getattr(first, name), getattr(later, name))
        assert getattr(first, name).dtype == getattr(later, name).dtype
    assert first.regions == later.regions
