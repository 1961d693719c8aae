from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gyrus.curation.convert import TARGETS, ConversionOptions, convert
from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import VolumeFiles
from gyrus.datasets.scan import scan
from gyrus.datasets.slices import SliceConfig, slice_volumes
from gyrus.datasets.sources.bids import entities_of
from gyrus.errors import DataError, GyrusError, UnknownNameError
from gyrus.imaging.orientation import array_from_slices
from gyrus.transforms.volume_steps import Percentiles, Window
from tests.support.heads import OBLIQUE, nifti, noise

KEPT = ["label", "subject", "session", "slice", "subset", "age"]


SPACING = (4.0, 1.5, 1.0)


names = st.text("abcXYZ019 _-.é", min_size=1, max_size=6).map(str.strip).filter(lambda text: text not in ("", "n/a"))


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _slices(root: Path, people: list[tuple[str, str]], *, subset: str | None = None) -> Manifest:
    """Three slices of each (subject, session), numbered 4, 6 and 9, with a table."""
    rows = []
    for number, (subject, session) in enumerate(people):
        for place in (4, 6, 9):
            path = root / f"{number:03d}" / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_png(100 * number + place))
            label = ["AD", "NC"][len(subject) % 2]
            rows.append([path.relative_to(root), label, subject, session, place, 40 + len(subject), subset])
    table = pd.DataFrame(rows, columns=["path", "label", "subject", "session", "slice", "age", "subset"])
    table.dropna(axis=1).to_csv(root / "table.csv", index=False)
    return scan(root)


def _metadata(manifest: Manifest) -> pd.DataFrame:
    """The metadata of each image, by its pixels."""
    reader = Reader(manifest, (Window(),))
    pixels = [reader.read(number).tobytes() for number in range(len(manifest))]
    table = manifest.table.reindex(columns=KEPT).astype("string").assign(pixels=pixels)
    return table.sort_values(["pixels", "slice"]).reset_index(drop=True)


def _converted(manifest: Manifest, to: str, out: Path) -> Manifest:
    convert(manifest, to, out, ConversionOptions(spacing=SPACING))
    return scan(out)


def _no_spellings_of_one(people: list[tuple[str, str]]) -> bool:
    """Whether no two subjects, and no two sessions, differ only in what is taken as one id when data are read."""
    return all(len(set(texts)) == len({comparable(text) for text in texts}) for texts in zip(*people, strict=True))


@given(
    people=st.lists(st.tuples(names, names), min_size=2, max_size=4, unique_by=lambda one: (one[0], one[1])).filter(
        _no_spellings_of_one
    )
)
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("way", [["folder"], ["parquet"], ["stack"], ["nifti", "stack"], ["bids", "stack"]])
def test_a_round_trip_loses_nothing(way, people, tmp_path_factory):
    root = tmp_path_factory.mktemp("convert")
    (root / "0").mkdir()
    manifest = original = _slices(root / "0", people)
    for number, to in enumerate([*way, "folder"], 1):
        manifest = _converted(manifest, to, root / str(number))
    assert manifest.classes == original.classes
    assert manifest.subject_kind == "subject"
    assert len(manifest) == len(original)
    pd.testing.assert_frame_equal(_metadata(manifest), _metadata(original))


def test_volumes_keep_voxels_grid_and_subjects(tmp_path):
    for subject, label, seed in (("sub-1", "AD", 1), ("sub-2", "NC", 2)):
        nifti(noise(seed=seed), tmp_path / "a" / label / f"{subject}_ses-b_T1w.nii.gz")
    original = scan(tmp_path / "a")
    for number, to in enumerate(("nifti", "bids", "folder")):
        converted = _converted(original, to, tmp_path / str(number))
        assert converted.table[["label", "subject", "session"]].equals(original.table[["label", "subject", "session"]])
        for position in range(2):
            before = VolumeFiles(original.root, original.table).read(position)
            after = VolumeFiles(converted.root, converted.table).read(position)
            np.testing.assert_array_equal(after.array, before.array)
            np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
            assert after.stored == before.stored == np.int16


def test_8_bit_volumes_become_slices_and_volumes_again_with_their_grid(tmp_path):
    slices = np.random.default_rng(0).integers(0, 256, (7, 6, 5)).astype(np.uint8)
    for subject, label in (("sub-1", "AD"), ("sub-2", "NC")):
        nifti(array_from_slices(slices), tmp_path / "a" / label / f"{subject}_T1w.nii.gz", OBLIQUE)
    stacked = _converted(scan(tmp_path / "a"), "stack", tmp_path / "b")
    assert len(stacked) == 14
    again = _converted(stacked, "nifti", tmp_path / "c")
    volume = VolumeFiles(again.root, again.table).read(0)
    np.testing.assert_array_equal(volume.array, array_from_slices(slices))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


def test_volumes_of_more_than_8_bits_are_scaled_with_a_note(tmp_path):
    for name in ("AD/sub-1_T1w.nii", "NC/sub-2_T1w.nii"):
        nifti(noise(), tmp_path / "a" / name)
    notes = convert(
        scan(tmp_path / "a"), "stack", tmp_path / "b", ConversionOptions(steps=(Percentiles(low=1, high=99),))
    )
    assert "more than 8 bits" in notes[0]
    assert '"low": 1.0' in notes[0]


def test_selected_slices_of_volumes_become_images(tmp_path):
    for name in ("AD/sub-1_T1w.nii", "NC/sub-2_T1w.nii"):
        nifti(noise(), tmp_path / "a" / name)
    slices = slice_volumes(scan(tmp_path / "a"), SliceConfig(range=(0.25, 0.75), neighbours=1))
    convert(slices, "parquet", tmp_path / "b")
    images = scan(tmp_path / "b")
    assert images.table["subject"].tolist() == slices.table["subject"].tolist()
    np.testing.assert_array_equal(Reader(images).read(0), Reader(slices).read(0))


def test_subsets_and_the_order_of_classes_are_kept_in_parquet(tmp_path):
    for subset in ("train", "test"):
        for label in ("b", "a"):
            path = tmp_path / "a" / subset / label / f"sub-{subset}{label}_slice-1.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(_png(hash((subset, label)) % 1000))
    original = scan(tmp_path / "a", classes=["b", "a"])
    converted = _converted(original, "parquet", tmp_path / "b")
    assert converted.classes == ("b", "a")
    pd.testing.assert_frame_equal(_metadata(converted), _metadata(original))
    notes = convert(original, "folder", tmp_path / "c")
    assert notes == ("The order of the classes is not kept; give it with --classes b,a.",)
    assert sorted(scan(tmp_path / "c").table["subset"]) == ["test", "test", "train", "train"]


def test_scans_do_not_become_subjects(tmp_path):
    for label, scans in (("AD", (11, 12)), ("NC", (21, 22))):
        for number in scans:
            for place in range(3):
                path = tmp_path / "a" / label / f"{number}_{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (
                    np.random.default_rng(number).integers(0, 200, (32, 32)) + 10 * place
                )  # slices of a scan are alike
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    original = scan(tmp_path / "a")
    assert original.subject_kind == "scan"
    for to in ("folder", "stack", "parquet"):
        assert _converted(original, to, tmp_path / to).subject_kind == "scan"
    with pytest.raises(DataError, match="BIDS requires the subject of each scan"):
        convert(original, "bids", tmp_path / "no", ConversionOptions(spacing=SPACING))


def test_bids_labels_are_letters_and_digits_and_unique(tmp_path):
    manifest = _slices(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path, [("0_1", "v 1"), ("01", "v1")])
    convert(manifest, "bids", tmp_path / "b", ConversionOptions(spacing=SPACING))
    files = sorted((tmp_path / "b").rglob("*.nii.gz"))
    assert all(entities_of(file.name) for file in files)
    people = pd.read_csv(tmp_path / "b" / "participants.tsv", sep="\t", dtype=str)
    assert people["participant_id"].is_unique
    assert set(people["original_id"]) == {"0_1", "01"}


def test_missing_information_is_reported_and_nothing_is_left_behind(tmp_path, phantom_folder):
    manifest = scan(phantom_folder)
    with pytest.raises(UnknownNameError, match="Did you mean 'nifti'"):
        convert(manifest, "nifty", tmp_path / "out")
    with pytest.raises(DataError, match="--slice-spacing"):
        convert(manifest, "nifti", tmp_path / "out")
    nobody = scan(phantom_folder, subject_rule="none")
    with pytest.raises(DataError, match="Slices can become volumes only"):
        convert(nobody, "nifti", tmp_path / "out", ConversionOptions(spacing=SPACING))
    assert not (tmp_path / "out").exists()
    convert(manifest, "folder", tmp_path / "out")
    with pytest.raises(GyrusError, match="not an empty folder"):
        convert(manifest, "folder", tmp_path / "out")
    assert set(TARGETS) == {"folder", "parquet", "nifti", "bids", "stack"}


def test_a_column_that_is_empty_at_first_is_kept_in_parquet(tmp_path, monkeypatch):
    from gyrus.curation import convert as module

    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 2)
    (tmp_path / "a").mkdir()
    manifest = _slices(tmp_path / "a", [("p", "1"), ("qq", "1")])
    table = pd.read_csv(tmp_path / "a" / "table.csv").assign(grade=[None] * 4 + [1.5, 2.5], site=[None] * 5 + ["x"])
    table.to_csv(tmp_path / "a" / "table.csv", index=False)
    manifest = scan(tmp_path / "a")
    converted = _converted(manifest, "parquet", tmp_path / "b").table.sort_values(["subject", "slice"])
    original = manifest.table.sort_values(["subject", "slice"])
    for name in ("grade", "site"):
        assert (
            converted[name].astype("string").fillna("").tolist() == original[name].astype("string").fillna("").tolist()
        )
