"""Several files of a session become the channels of one sample, in every layout that has files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.slices import SliceConfig, slice_volumes
from gyrus.datasets.sources.listing import wildcards
from gyrus.datasets.store import open_store
from gyrus.errors import DataError
from gyrus.imaging.decoding import decode
from gyrus.transforms.image_steps import Grayscale, Rgb
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Window
from tests.support import images
from tests.support.dicoms import write_series
from tests.support.heads import nifti

CHANNELS = {"t1": "*_T1w", "flair": "*_FLAIR"}
LABELS = {"s1": "AD", "s2": "AD", "s3": "NC", "s4": "NC"}
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def _volume(name: str, path: Path, affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = (6, 7, 8)) -> None:
    seed = int(name[1]) + 10 * ("FLAIR" in path.name)
    nifti(np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8), path, affine)


def _each(write: Callable[[str, str, str], None]) -> None:
    for name, label in LABELS.items():
        for sequence in ("T1w", "FLAIR"):
            write(name, label, sequence)


def _class_folders(root: Path) -> Path:
    _each(lambda name, label, sequence: _volume(name, root / label / f"{name}_{sequence}.nii.gz"))
    return root


def _folders_of_subjects(root: Path) -> Path:
    _each(lambda name, label, sequence: _volume(name, root / label / name / f"head_{sequence}.nii"))
    return root


def _folders_of_sequences(root: Path) -> Path:
    _each(lambda name, label, sequence: _volume(name, root / label / sequence / f"{name}_{sequence}.nii"))
    return root


def _table(root: Path) -> Path:
    _class_folders(root)
    rows = [
        (f"{label}/{name}_{sequence}.nii.gz", label, name)
        for name, label in LABELS.items()
        for sequence in ("FLAIR", "T1w")
    ]
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "all.csv", index=False)
    return root


def _id_table(root: Path) -> Path:
    _each(lambda name, _, sequence: _volume(name, root / "scans" / f"{name}_{sequence}.nii.gz"))
    pd.DataFrame(LABELS.items(), columns=["subject", "label"]).to_csv(root / "labels.csv", index=False)
    return root


def _bids(root: Path) -> Path:
    def write(name: str, _: str, sequence: str) -> None:
        acquired = "acq-mprage_" if sequence == "T1w" else ""  # other entities than those of the other sequence
        _volume(name, root / f"sub-{name}" / "anat" / f"sub-{name}_{acquired}{sequence}.nii.gz")

    _each(write)
    table = pd.DataFrame({"participant_id": [f"sub-{name}" for name in LABELS], "diagnosis": list(LABELS.values())})
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    return root


VOLUMES = {
    function.__name__.lstrip("_"): function
    for function in (_class_folders, _folders_of_subjects, _table, _id_table, _bids)
}


@pytest.mark.parametrize("layout", VOLUMES)
def test_a_session_is_a_sample_in_every_layout(layout, tmp_path):
    manifest = scan(VOLUMES[layout](tmp_path), channels=CHANNELS)
    assert manifest.table["label"].tolist() == ["AD", "AD", "NC", "NC"]
    assert manifest.channels == ("t1", "flair")
    assert set(manifest.table["sequences"]) == {"t1+flair"}
    assert manifest.files is not None
    assert manifest.files.used == 8
    expected = [np.random.default_rng(3 + shift).integers(1, 255, (6, 7, 8)) for shift in (0, 10)]
    pixels = Reader(manifest, [Window()]).read(2)
    assert pixels.shape == (2, 8, 7, 6)
    for channel, values in zip(pixels, expected, strict=True):
        assert np.array_equal(channel, values.transpose(2, 1, 0)[:, ::-1, ::-1])
    if layout in ("table", "id_table", "bids"):
        assert manifest.table["subject"].nunique() == 4
    manifest.save(tmp_path / "manifest.parquet")
    assert Manifest.load(tmp_path / "manifest.parquet").digest == manifest.digest
    assert np.array_equal(Reader(Manifest.load(tmp_path / "manifest.parquet"), [Window()]).read(2), pixels)


def test_folders_may_name_the_sequences(tmp_path):
    manifest = scan(
        _folders_of_sequences(tmp_path), channels={"flair": "*/FLAIR/*_FLAIR", "t1": "*/t1w/*_t1w"}, subject_rule="none"
    )
    assert manifest.table["sample"].tolist() == ["AD/s1", "AD/s2", "NC/s3", "NC/s4"]
    assert manifest.channels == ("flair", "t1")


def test_series_of_one_study_are_the_channels(tmp_path):
    for number, label in enumerate(("AD", "NC")):
        for sequence in ("T1 MPRAGE", "T2 FLAIR"):
            array = np.random.default_rng(number).integers(0, 900, (4, 5, 6)).astype(np.uint16)
            folder = tmp_path / label / f"p{number}" / sequence.replace(" ", "")
            tags = {"SeriesDescription": sequence, "PatientID": f"MRN{number}", "StudyInstanceUID": f"1.2.{number}"}
            write_series(array, folder, **tags)
    manifest = scan(tmp_path, channels={"t1": "t1*", "flair": "*flair*"})
    assert manifest.table[["label", "subject", "session", "sequences"]].to_numpy().tolist() == [
        ["AD", "AD/p0", "visit-1", "t1+flair"],
        ["NC", "NC/p1", "visit-1", "t1+flair"],
    ]
    assert Reader(manifest).read(0).shape == (2, 4, 5, 6)


@pytest.fixture
def slices(tmp_path):
    """Slices of four subjects with two sequences as images."""
    seed = 0
    for name, label in LABELS.items():
        for number in range(3):
            for sequence in ("T1w", "FLAIR"):
                seed += 1
                path = tmp_path / label / f"sub-{name}_{sequence}_slice-{number}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(images.gray(seed))
    return tmp_path


IN_SLICES = {"t1": "*_T1w_*", "flair": "*_FLAIR_*"}


def test_slices_have_one_image_for_each_channel(slices):
    manifest = scan(slices, channels=IN_SLICES)
    assert len(manifest) == 12
    assert manifest.spatial_dims == 2
    first = manifest.table.iloc[0]
    assert (first["sample"], first["subject"], first["slice"]) == ("AD/sub-s1_slice-0", "sub-s1", 0)
    pixels = Reader(manifest).read(0)
    files = [slices / "AD" / f"sub-s1_{sequence}_slice-0.png" for sequence in ("T1w", "FLAIR")]
    assert np.array_equal(pixels, np.concatenate([decode(file.read_bytes()) for file in files]))
    # The channels are no colours, whatever the steps are.
    for steps in ((), (Grayscale(),), (Rgb(),)):
        store = open_store(manifest, PreprocessingConfig(steps=steps), cache=slices.parent / "cache")
        assert np.array_equal(store.pixels[0], pixels)


def test_images_of_one_session_must_have_one_size(slices):
    path = slices / "AD" / "sub-s1_FLAIR_slice-0.png"
    from PIL import Image

    Image.fromarray(images.pixels(5, (20, 11))).save(path)
    (problem,) = scan(slices, channels=IN_SLICES).problems
    assert problem.kind == "geometry"
    assert "13 x 11, 20 x 11" in problem.message


def test_stacks_of_images_with_channels_are_refused(slices):
    manifest = scan(slices, channels=IN_SLICES)
    with pytest.raises(DataError, match="cannot be combined with channels"):
        stack_slices(manifest, StackConfig(slices=3))


def test_slices_and_stacks_of_volumes_keep_the_channels(tmp_path):
    manifest = scan(_class_folders(tmp_path), channels=CHANNELS)
    whole = Reader(manifest).read(0)
    sliced = slice_volumes(manifest, SliceConfig(range=(0.5, 0.6)))
    assert np.array_equal(Reader(sliced).read(0), whole[:, 4])
    stacked = stack_slices(manifest, StackConfig(slices=3))
    assert np.array_equal(Reader(stacked).read(0), whole[:, 2:5])
    assert sliced.channels == stacked.channels == ("t1", "flair")


@pytest.mark.parametrize("policy", ["refuse", "leave-out", "learn"])
def test_a_missing_channel(policy, tmp_path):
    root = _class_folders(tmp_path)
    (root / "AD" / "s2_FLAIR.nii.gz").unlink()
    (root / "NC" / "s3_T1w.nii.gz").unlink()
    manifest = scan(root, channels=CHANNELS, missing_channel=policy)
    names = manifest.table["sample"].tolist()
    assert any("2 x t1+flair, 1 x flair, 1 x t1" in note for note in manifest.notes)
    assert names == (["AD/s1", "AD/s2", "NC/s3", "NC/s4"] if policy == "learn" else ["AD/s1", "NC/s4"])
    if policy == "refuse":
        assert [problem.kind for problem in manifest.problems] == ["channel missing"] * 2
        assert "no file of flair='*_FLAIR' beside 'AD/s2_T1w.nii.gz'" in manifest.problems[0].message
    else:
        assert not manifest.problems
    if policy == "learn":
        assert manifest.table["sequences"].tolist() == ["t1+flair", "t1", "flair", "t1+flair"]
        reader = Reader(manifest)
        assert [reader.read(row).any(axis=(1, 2, 3)).tolist() for row in (1, 2)] == [[True, False], [False, True]]


def test_a_missing_image_is_an_empty_channel(slices):
    (slices / "AD" / "sub-s1_T1w_slice-0.png").unlink()
    manifest = scan(slices, channels=IN_SLICES, missing_channel="learn")
    pixels = Reader(manifest).read(0)
    assert not pixels[0].any()
    assert pixels[1].any()


def test_a_channel_comes_to_the_grid_of_the_first_by_its_position(tmp_path):
    """A bright block stays at its place in mm, whatever the voxels of the second sequence are."""
    values = np.full((12, 12, 12), 10, np.uint8)
    values[6:10, 2:6, 4:8] = 200
    coarse = np.full((6, 6, 6), 20, np.uint8)
    coarse[3:5, 1:3, 2:4] = 220
    moved = np.diag([4.0, 4.0, 4.0, 1.0])
    moved[:3, 3] = 1.0  # the centre of the first large voxel lies between the first two small ones
    for label, name in (("AD", "a"), ("NC", "b")):
        nifti(values, tmp_path / label / f"{name}_T1w.nii", AFFINE)
        nifti(coarse, tmp_path / label / f"{name}_FLAIR.nii", moved)
    manifest = scan(tmp_path, channels=CHANNELS, subject_rule="none")
    assert "2 x a channel was resampled to the grid of the first one of its session (flair)" in manifest.notes
    t1, flair = Reader(manifest, [Window()]).read(0)
    assert t1.shape == flair.shape
    inside, outside = t1 == 200, t1 == 10
    assert flair[inside].mean() > 150
    assert np.median(flair[outside]) == 20
    assert ((flair > 120) & outside).sum() < 0.05 * outside.sum()


def test_sequences_that_do_not_overlap_are_refused(tmp_path):
    root = _class_folders(tmp_path)
    away = AFFINE.copy()
    away[0, 3] = 500
    _volume("s1", root / "AD" / "s1_FLAIR.nii.gz", away)
    (problem,) = scan(root, channels=CHANNELS).problems
    assert problem.kind == "geometry"
    assert problem.message.startswith("flair (s1_FLAIR.nii.gz): by the positions in the headers")


def test_every_file_of_a_session_counts(tmp_path):
    root = _class_folders(tmp_path / "data")
    before = scan(root, channels=CHANNELS)
    config = PreprocessingConfig(volume=(Window(),), steps=())
    first = open_store(before, config, cache=tmp_path / "cache")
    _volume("s9", root / "AD" / "s1_FLAIR.nii.gz")
    with pytest.raises(DataError, match="has changed since the scan"):
        Reader(before).read(0)
    after = scan(root, channels=CHANNELS)
    assert after.digest != before.digest
    assert open_store(after, config, cache=tmp_path / "cache").folder != first.folder
    swapped = scan(root, channels=dict(reversed(CHANNELS.items())))
    assert swapped.digest != after.digest


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"t1": "*_T1w", "any": "s*"}, "matches the patterns of 2 channels"),
        ({"t1": "*_T1w", "t2": "*_T2w"}, r"No file below .* is of the channel t2='\*_T2w'"),
    ],
)
def test_patterns(channels, message, tmp_path):
    root = _class_folders(tmp_path)
    with pytest.raises(DataError, match=message):
        scan(root, channels=channels)


def test_two_files_of_one_channel_are_refused(tmp_path):
    root = _bids(tmp_path)
    for run in (1, 2):
        _volume("s1", root / "sub-s1" / "anat" / f"sub-s1_run-{run}_FLAIR.nii.gz")
    with pytest.raises(DataError, match=r"1 session has several files of one channel, the first of flair"):
        scan(root, channels=CHANNELS)


def test_channels_with_other_labels_are_a_problem(tmp_path):
    root = _table(tmp_path)
    table = pd.read_csv(root / "all.csv")
    table.loc[0, "label"] = "NC"
    table.to_csv(root / "all.csv", index=False)
    (problem,) = scan(root, channels=CHANNELS).problems
    assert (problem.sample, problem.kind) == ("AD/s1", "two labels")


def test_cells_of_a_table_are_refused(tmp_path):
    rows = {"image": [images.gray(0), images.gray(1)], "label": ["a", "b"]}
    pq.write_table(pa.table(rows), tmp_path / "data.parquet")
    with pytest.raises(DataError, match="are cells of a table, not files"):
        scan(tmp_path / "data.parquet", channels=CHANNELS)


def test_several_sequences_side_by_side_name_the_option(tmp_path):
    with pytest.raises(DataError) as raised:
        scan(_class_folders(tmp_path))
    assert "--channel t1w='*_T1w.nii.gz' --channel flair='*_FLAIR.nii.gz'" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "pattern", "found"),
    [
        ("a/sub-1_T1w.nii.gz", "*_t1w", ("sub-1",)),
        ("a/sub-1_T1w.nii.gz", "*_T1w.nii.gz", ("sub-1",)),
        ("a/sub-1_T1w.nii.gz", "T1w", ("sub-1",)),
        ("a/T1.nii", "t1", ()),
        ("a/xT1.nii", "t1", None),
        ("a/T1/s.nii", "*/T1/*", ("a", "s")),
        ("a/T1/s.nii", "T1*", None),
        ("img2_T1.png", "img[0-9]_T1", ("2",)),
        ("img2_T1.png", "img[!2]_T1", None),
        ("img2_T1.png", "img?_T1", ("2",)),
        ("imgx.T1.png", "img?.T1", ("x",)),
        ("imgx-T1.png", "img?.T1", None),
    ],
)
def test_wildcards(name, pattern, found):
    assert wildcards(name, pattern) == found
