from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gyrus.audit.checks import audit, gather
from gyrus.audit.findings import Finding
from gyrus.audit.leakage import leak_score
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, split
from gyrus.synthetic.phantom import generate, write


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """24 phantom people with 24 slices each, whose names tell nobody."""
    phantom = generate(subjects=24, slices=24, classes=2, size=64, seed=5)
    return scan(write(phantom, tmp_path_factory.mktemp("leak") / "data"), subject_rule="none")


def leakage(manifest: Manifest, **keywords: object) -> Finding:
    return audit(gather(manifest, **keywords), title="phantom", checks=["leakage"]).entries[0]


def test_a_split_by_image_leaks_and_is_told_so(hidden: Manifest) -> None:
    found = leakage(hidden, split=split(hidden, SplitConfig(unit="image")))
    assert found.severity == "error"
    assert found.numbers["leak score"] > 0.95
    assert found.numbers["twins"] > 0.95
    assert found.numbers["labels shuffled among people"] > found.numbers["chance with shuffled labels"] + 0.3
    assert found.samples


def test_an_honest_split_does_not_leak(hidden: Manifest) -> None:
    names = scan(hidden.root)
    found = leakage(hidden, split=split(names, SplitConfig()))
    assert found.severity == "ok"
    assert found.numbers["leak score"] == 0.0
    assert abs(found.numbers["labels shuffled among people"] - found.numbers["chance with shuffled labels"]) < 0.2


def test_without_parts_a_split_by_image_is_tried(hidden: Manifest) -> None:
    found = leakage(hidden)
    assert found.severity == "warning"
    assert "Split by subject" in found.verdict


def test_copies_across_parts_are_found_though_names_differ(tmp_path: Path) -> None:
    phantom = generate(subjects=16, slices=2, classes=2, size=64)
    folder = write(phantom, tmp_path / "data", "train-test")
    test_image = next((folder / "test").rglob("*.png"))
    copy = folder / "train" / test_image.parent.name / "sub-P999_slice-00.png"
    copy.write_bytes(test_image.read_bytes())
    found = audit(gather(scan(folder)), title="phantom", checks=["leakage"])
    across = next(entry for entry in found.entries if "copies across parts" in entry.numbers)
    assert across.severity == "error"
    assert any(flag.sample.endswith(test_image.name) or "P999" in flag.sample for flag in across.samples)


def test_leak_score_of_random_pictures() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 5)
    faces = generator.integers(0, 255, (40, 16, 16))
    pictures = np.clip(faces[people] + generator.normal(0, 10, (200, 16, 16)), 0, 255).astype(np.uint8)
    targets = people % 2
    mixed = generator.permutation(200)
    leaking = leak_score(pictures, targets, people, mixed[:150], mixed[150:])
    honest = leak_score(pictures, targets, people, np.arange(150), np.arange(150, 200))
    assert leaking.score == pytest.approx(1.0)
    assert leaking.by_image == pytest.approx(1.0)
    assert leaking.by_person < 0.8
    assert leaking.shuffled == pytest.approx(1.0)
    assert honest.score == 0.0
    assert honest.chance == pytest.approx(2 * 20 * 19 / (40 * 39))
