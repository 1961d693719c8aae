from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.errors import DataError
from gyrus.imaging.volume import Volume
from gyrus.inference import head_volumes
from gyrus.inference.features.base import FitSettings, Samples
from gyrus.inference.features.subject_features import SubjectFeatures
from gyrus.models.options import ClassicalOptions
from gyrus.synthetic.phantom_nifti import save_volume, write_tables
from gyrus.volumetry.measure import FEATURE_NAMES


@pytest.fixture
def heads(tmp_path) -> Manifest:
    """Five volumes with a label; the fourth cannot be measured."""
    generator = np.random.default_rng(0)
    names = [f"sub-{number}" for number in range(5)]
    for number, name in enumerate(names):
        voxels = generator.integers(10 + 20 * number, 60 + 20 * number, (6, 6, 6)).astype(np.uint8)
        save_volume(voxels, np.eye(4), tmp_path / "bids" / name / "anat" / f"{name}_T1w.nii.gz")
    write_tables(tmp_path / "bids", {"participant_id": names, "diagnosis": list("ababa")})
    return gyrus.scan(tmp_path / "bids")


@pytest.fixture
def measured(monkeypatch, tmp_path) -> list[float]:
    """The mean of each volume that is measured, by a method that takes no time."""
    calls: list[float] = []

    def measure(volume: Volume, _: object) -> SimpleNamespace:
        mean = float(volume.array.mean())
        calls.append(mean)
        if 80 < mean < 100:
            raise DataError("no brain is found")
        return SimpleNamespace(features={name: mean * (1 + number) for number, name in enumerate(FEATURE_NAMES)})

    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(head_volumes, "measure_head", measure)
    monkeypatch.setattr(head_volumes, "load_template", lambda: None)
    return calls


def samples_of(manifest: Manifest) -> Samples:
    return Samples(manifest, None, np.arange(len(manifest)), manifest.table["subject"].to_numpy(str))


def test_whole_heads_are_measured_once_and_failures_count_as_average(heads, measured) -> None:
    settings = FitSettings(ClassicalOptions(features=("volumes",)))
    fitted, features = SubjectFeatures.fit(samples_of(heads), settings)
    assert fitted.names == FEATURE_NAMES
    assert (features[3] == 0).all()
    assert (np.delete(features, 3, axis=0) != 0).all()
    assert features[4, 0] > features[0, 0]
    assert "1 training image could not be measured" in fitted.text
    assert len(set(measured)) == 5
    before = len(measured)
    _, again = fitted.of_units(samples_of(heads))
    np.testing.assert_array_equal(again, features)
    assert len(measured) == before


def test_a_damaged_record_is_measured_again(heads, measured, tmp_path) -> None:
    first = head_volumes.measure_heads(heads)
    for file in (tmp_path / "cache" / "volumetry").iterdir():
        file.write_text("{")
    assert head_volumes.measure_heads(heads) == first
    assert len(measured) == 10


@pytest.mark.usefixtures("measured")
def test_classifiers_of_whole_heads_refuse_slices(heads) -> None:
    fitted, _ = SubjectFeatures.fit(samples_of(heads), FitSettings(ClassicalOptions(features=("volumes",))))
    slices = Manifest.from_rows(heads.table[["sample", "path", "label", "subject"]], root=heads.root)
    with pytest.raises(DataError, match="fitted on volumes of whole heads"):
        fitted.of_units(samples_of(slices))
