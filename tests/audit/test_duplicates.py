from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gyrus.audit.checks import AuditContext, audit, gather
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate, write


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> AuditContext:
    """30 phantom people with two slices each, and copies of some under other names."""
    phantom = generate(subjects=30, slices=2, classes=2, size=128, seed=6)
    folder = write(phantom, tmp_path_factory.mktemp("copies") / "data")
    control = folder / "Control"
    source = sorted(control.glob("*.png"))
    (control / "same.png").write_bytes(source[0].read_bytes())
    (folder / "Dementia" / "contrary.png").write_bytes(source[1].read_bytes())
    pixels = np.asarray(Image.open(source[2]))
    Image.fromarray(pixels[:, ::-1]).save(control / "mirrored.png")
    brighter = np.clip(pixels.astype(int) * 0.9 + 8, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).resize((120, 120)).save(control / "altered.jpg", quality=70)
    return gather(scan(folder, subject_rule="none"))


@pytest.mark.parametrize(
    ("name", "kind"), [("same", "same file"), ("mirrored", "mirrored copy"), ("altered", "near copy")]
)
def test_copies_are_found(material: AuditContext, name: str, kind: str) -> None:
    samples = material.manifest.table["sample"]
    kinds = {pair.kind for pair in material.pairs if any(name in samples[row] for row in (pair.first, pair.second))}
    assert kind in kinds


def test_nothing_else_is_a_copy(material: AuditContext) -> None:
    samples = material.manifest.table["sample"]
    made = ("same", "contrary", "mirrored", "altered")
    for pair in material.pairs:
        assert any(name in samples[row] for name in made for row in (pair.first, pair.second))


def test_copies_with_different_labels_are_an_error(material: AuditContext) -> None:
    found = audit(material, title="phantom", checks=["duplicates"])
    assert [entry.severity for entry in found.entries] == ["error", "warning"]
    assert any("contrary" in flag.sample + flag.reason for flag in found.entries[0].samples)
