from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gyrus
from gyrus.datasets.table_features import TableEncoder
from gyrus.errors import DataError, MissingDependencyError, NothingUsableError
from gyrus.synthetic.phantom_nifti import save_volume, write_tables
from gyrus.volumetry import template as template_module
from gyrus.workflows import features as workflow
from tests.support.command_line import succeeded
from tests.support.volumetry import head, measure_coarsely, template


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of eight phantom heads, two classes."""
    folder = tmp_path_factory.mktemp("slices") / "phantom"
    gyrus.phantom(folder, subjects=8, slices=4, classes=2, size=64, seed=2)
    return folder


@pytest.fixture
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BIDS: a head, noise that is no head, and a smaller head."""
    measure_coarsely(monkeypatch)
    monkeypatch.setattr(workflow, "load_template", _template)
    folder = tmp_path / "bids"
    generator = np.random.default_rng(0)
    first = head()[0]
    noise = np.zeros(first.shape, np.uint8)
    noise[:, :, :6] = generator.integers(60, 200, (*first.shape[:2], 6))
    arrays = {"A": first.array, "B": noise, "C": head(scale=0.93)[0].array}
    for name, array in arrays.items():
        voxels = np.clip(np.rint(array), 0, 255).astype(np.uint8)
        save_volume(voxels, first.affine, folder / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz")
    write_tables(
        folder, {"participant_id": [f"sub-{n}" for n in arrays], "age": [40, 50, 60], "diagnosis": list("xyx")}
    )
    return folder


_MADE: list[template_module.Template] = []


def _template() -> template_module.Template:
    if not _MADE:
        _MADE.append(template())
    return _MADE[0]


def test_heads_give_a_table_pictures_and_named_failures(heads: Path, tmp_path: Path) -> None:
    found = gyrus.features(heads, out=tmp_path / "volumes.csv")
    table = pd.read_csv(found.table)
    assert table["subject"].tolist() == ["sub-A", "sub-B", "sub-C"]
    assert table["label"].tolist() == ["x", "y", "x"]
    assert table["age"].tolist() == [40, 50, 60]
    assert table["intracranial_ml"].isna().tolist() == [False, True, False]
    assert table["intracranial_ml"][2] < table["intracranial_ml"][0]
    assert [session.name for session in found.failures] == ["sub-B_T1w"]
    assert "overlaps with the brain" in found.failures[0].reason
    folder = tmp_path / "volumes"
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["sub-A_T1w.png", "sub-C_T1w.png"]
    assert pd.read_csv(folder / "failures.csv")["session"].tolist() == ["sub-B_T1w"]
    page = found.page.read_text(encoding="utf-8")
    assert "2 sessions measured, 1 failed" in page
    assert page.count("data:image/jpeg") == 2


def test_a_second_call_measures_only_what_is_new_or_failed(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gyrus.features(heads, out=tmp_path / "volumes.csv")
    before = first.table.read_bytes()
    measured = []
    real = workflow.measure_head
    monkeypatch.setattr(workflow, "measure_head", lambda *each: measured.append(1) or real(*each))
    (tmp_path / "volumes" / "records" / "sub-C_T1w.json").write_text("{")
    gyrus.features(heads, out=tmp_path / "volumes.csv")
    assert len(measured) == 2  # the failure, and the head whose record is damaged
    assert first.table.read_bytes() == before


def test_slices_give_fractions_and_say_what_they_are(slices: Path, tmp_path: Path) -> None:
    said = []
    display = type("Display", (type(gyrus.SILENT),), {"say": lambda _, text: said.append(text)})()
    found = gyrus.features(slices, out=tmp_path / "slices.csv", display=display)
    table = pd.read_csv(found.table)
    names = ["csf_fraction", "gray_matter_fraction", "white_matter_fraction", "brain_fraction"]
    assert len(table) == 8
    np.testing.assert_allclose(table[names[:3]].sum(axis=1), 1, atol=1e-3)
    assert not [name for name in table if name.endswith("_ml")]
    assert any("within these slices" in text for text in said)
    assert len(list((tmp_path / "slices" / "pictures").iterdir())) == 8


def test_the_table_is_a_data_set_for_a_classifier_without_images(slices: Path, tmp_path: Path) -> None:
    table = gyrus.features(slices, out=tmp_path / "features.csv").table
    manifest = gyrus.scan(table, source="people")
    assert len(manifest.classes) == 2
    assert manifest.table["subject"].notna().all()
    encoder = TableEncoder.fit(manifest.table, {"csf_fraction": "auto", "gray_matter_fraction": "auto"})
    assert encoder.encode(manifest.table).shape == (8, 2)
    joined = gyrus.scan(slices, people=table)
    assert "csf_fraction" in joined.table


def test_workers_give_the_same_table(slices: Path, tmp_path: Path) -> None:
    here = gyrus.features(slices, out=tmp_path / "here.csv").table
    with gyrus.workers(jobs=1):
        there = gyrus.features(slices, out=tmp_path / "there.csv").table
    assert here.read_bytes() == there.read_bytes()


def test_records_keep_the_reason_and_the_digest(slices: Path, tmp_path: Path) -> None:
    found = gyrus.features(slices, out=tmp_path / "features.csv")
    record = json.loads((tmp_path / "features" / "records" / f"{found.sessions[0].name}.json").read_text())
    assert record["features"] == dict(found.sessions[0].features)
    assert record["digest"]


def test_a_table_without_the_ending_is_refused(slices: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs the ending \.csv"):
        gyrus.features(slices, out=tmp_path / "features")
    assert not list(tmp_path.iterdir())


def test_nothing_measured_is_an_error_with_the_first_reason(heads: Path, tmp_path: Path) -> None:
    for name in "AC":
        (heads / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz").unlink()
    with pytest.raises(NothingUsableError, match=r"None of 1 session could be measured.*overlaps"):
        gyrus.features(heads, out=tmp_path / "volumes.csv")
    assert not (tmp_path / "volumes.csv").exists()


def test_missing_packages_are_named_before_anything_is_measured(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise template_module.PackageNotFoundError(name)

    monkeypatch.setattr(template_module, "distribution", absent)
    template_module.load_template.cache_clear()
    monkeypatch.setattr(workflow, "load_template", template_module.load_template)
    with pytest.raises(MissingDependencyError, match=r"\[volumetry\]"):
        gyrus.features(heads, out=tmp_path / "volumes.csv")
    assert not (tmp_path / "volumes").exists()


def test_the_command_prints_what_was_measured(slices: Path, tmp_path: Path) -> None:
    output = succeeded("features", slices, "--out", tmp_path / "features.csv")
    assert "Measured 8 of 8 sessions." in output
    assert "features.csv" in output
