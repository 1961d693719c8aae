from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets import store as store_module
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.store import open_store, without_unusable
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import DataError, NothingUsableError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.transforms.contrast_enhancement import Clahe, NonLocalMeans
from gyrus.transforms.image_steps import Grayscale, Resize
from gyrus.transforms.normalisation import IntensityScaling, Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from tests.support.heads import nifti, noise

PREPROCESSING = PreprocessingConfig(steps=(Resize(size=(24, 24)),))


@pytest.fixture
def slices(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "slices" / label).mkdir(parents=True)
        for subject in range(4):
            for number in range(3):
                pixels = generator.integers(0, 256, (20, 30), dtype=np.uint8)
                name = f"sub-{label}{subject}_slice-{number}.png"
                Image.fromarray(pixels).save(tmp_path / "slices" / label / name)
    return tmp_path / "slices"


def _entries(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "stores").iterdir() if path.suffix != ".lock")


def test_pixels_are_those_of_the_steps_in_the_order_of_the_manifest(slices, tmp_path):
    manifest = scan(slices)
    store = open_store(manifest, PREPROCESSING, cache=tmp_path / "cache")
    assert store.pixels.shape == (24, 1, 24, 24)
    for row in (0, 11, 23):
        image = np.asarray(Image.open(slices / manifest.table["path"][row]))[None]
        np.testing.assert_array_equal(store.pixels[row], PREPROCESSING.apply(image))
        np.testing.assert_allclose(store.statistics[row, 0, 0], store.pixels[row].mean() / 255, atol=1e-6)


def test_images_are_decoded_once_for_the_same_steps(slices, tmp_path):
    manifest, cache = scan(slices), tmp_path / "cache"
    seen = []
    for preprocessing in (PREPROCESSING, PREPROCESSING, PreprocessingConfig(steps=(Resize(size=(8, 8)),))):
        open_store(manifest, preprocessing, cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 48
    assert len(_entries(cache)) == 2


def _damage(path: Path, how: str) -> None:
    length = path.stat().st_size
    if how == "truncated":
        os.truncate(path, length // 2)
    elif how == "zeros":
        path.write_bytes(b"\0" * length)
    elif how == "one bit":
        content = bytearray(path.read_bytes())
        content[length * 2 // 3] ^= 1
        path.write_bytes(bytes(content))
    elif how == "missing":
        path.unlink()
    elif how == "other JSON":
        path.write_text("[1, 2]")
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("pixels.npy", how) for how in ("truncated", "zeros", "one bit", "missing", "folder")),
        *(("statistics.npy", how) for how in ("truncated", "one bit", "missing")),
        *(("store.json", how) for how in ("truncated", "zeros", "missing", "other JSON", "folder")),
    ],
)
def test_a_damaged_store_is_rebuilt(slices, tmp_path, name, how):
    manifest, cache = scan(slices), tmp_path / "cache"
    store = open_store(manifest, PREPROCESSING, cache=cache)
    expected = np.array(store.pixels), np.array(store.statistics)
    built = []
    _damage(store.folder / name, how)
    again = open_store(manifest, PREPROCESSING, cache=cache, progress=lambda done, _: built.append(done))
    np.testing.assert_array_equal(again.pixels, expected[0])
    np.testing.assert_array_equal(again.statistics, expected[1])
    assert len(built) == 24
    assert _entries(cache) == [store.folder.name]


def test_a_whole_store_is_checked_once_per_process(slices, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.datasets.store.BLOCK", 1000)
    manifest, cache = scan(slices), tmp_path / "cache"
    open_store(manifest, PREPROCESSING, cache=cache)
    checked = []
    checksums = store_module._checksums
    monkeypatch.setattr(store_module, "_checksums", lambda path: checked.append(path.name) or checksums(path))
    for _ in range(2):
        open_store(manifest, PREPROCESSING, cache=cache)
    assert checked == ["pixels.npy", "statistics.npy"]


def test_a_store_of_an_earlier_version_without_checksums_is_used(slices, tmp_path):
    manifest, cache = scan(slices), tmp_path / "cache"
    about = open_store(manifest, PREPROCESSING, cache=cache).folder / "store.json"
    content = json.loads(about.read_text())
    del content["checksums"]
    about.write_text(json.dumps(content))
    open_store(manifest, PREPROCESSING, cache=cache, progress=lambda *_: pytest.fail("built again"))


def test_different_sizes_are_refused_and_leave_nothing_behind(slices, tmp_path):
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(slices / "a" / "sub-a0_slice-9.png")
    with pytest.raises(DataError, match="resize step"):
        open_store(scan(slices), PreprocessingConfig(steps=()), cache=tmp_path / "cache")
    assert _entries(tmp_path / "cache") == []


def test_a_file_that_changed_since_the_scan_is_refused(slices, tmp_path):
    manifest = scan(slices)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(slices / manifest.table["path"][5])
    with pytest.raises(DataError, match="changed since the scan"):
        open_store(manifest, PREPROCESSING, cache=tmp_path / "cache")


BUILD = """
    import sys, resource
    from pathlib import Path
    from gyrus.transforms.preprocessing import PreprocessingConfig
    from gyrus.transforms.image_steps import Resize
    from gyrus.datasets.scan import scan
    from gyrus.datasets.store import open_store
    from gyrus.errors import GyrusError

    from gyrus.datasets import store_shards

    slices, cache, action = sys.argv[1:]
    store_shards.IMAGES = 4
    manifest = scan(slices)
    if action == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    def progress(done, total):
        if action == "kill" and done == 10:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        open_store(manifest, PreprocessingConfig(steps=(Resize(size=(24, 24)),)), cache=Path(cache), progress=progress)
    except GyrusError as error:
        sys.exit(str(error))
"""


def _build(slices: Path, cache: Path, action: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(slices), str(cache), action]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_no_store_and_the_next_build_continues_it(slices, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.datasets.store_shards.IMAGES", 4)
    manifest = scan(slices)
    expected = open_store(manifest, PREPROCESSING, cache=tmp_path / "whole").folder
    process = _build(slices, tmp_path / "killed", "kill")  # at the tenth image, in the third shard
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (building,) = _entries(tmp_path / "killed")
    read = []
    monkeypatch.setattr(Reader, "read", lambda *given, old=Reader.read: read.append(given[1]) or old(*given))

    # Of shards that were appended, that wait in their own file, and that were damaged by a failing disk.
    for damage, images in {"nothing": 16, "appended": 24, "waiting": 20, "mark": 24}.items():
        cache = tmp_path / damage
        shutil.copytree(tmp_path / "killed", cache)
        folder = cache / "stores" / building
        second = 128 + 4 * 24 * 24
        if damage == "appended":
            _damage(folder / "pixels.npy", "zeros")
        elif damage == "waiting":
            content = (folder / "pixels.npy").read_bytes()
            os.truncate(folder / "pixels.npy", second)
            (folder / "shards" / "000001.pixels").write_bytes(content[second:][::-1])
        elif damage == "mark":
            _damage(folder / "shards" / "000000.npz", "one bit")
        read.clear()
        store = open_store(manifest, PREPROCESSING, cache=cache)
        assert len(read) == images, damage
        assert _entries(cache) == [store.folder.name]
        assert sorted(path.name for path in store.folder.iterdir()) == ["pixels.npy", "statistics.npy", "store.json"]
        for path in store.folder.iterdir():
            assert path.read_bytes() == (expected / path.name).read_bytes()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of the size of files")
def test_a_full_disk_is_reported_and_leaves_nothing_behind(slices, tmp_path):
    process = _build(slices, tmp_path / "cache", "full")
    message = process.communicate(timeout=60)[1]
    assert "The disk is full" in message
    assert "GYRUS_CACHE" in message
    assert _entries(tmp_path / "cache") == []


def test_two_builds_at_the_same_time_make_one_store(slices, tmp_path):
    processes = [_build(slices, tmp_path / "cache", "build") for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in processes] == ["", ""]
    assert len(_entries(tmp_path / "cache")) == 1


def test_a_pickled_store_is_a_path_not_pixels(slices, tmp_path):
    store = open_store(scan(slices), PREPROCESSING, cache=tmp_path / "cache")
    assert store.pixels is not None
    content = pickle.dumps(store)
    assert len(content) < 1000 + len(os.fspath(tmp_path))
    np.testing.assert_array_equal(pickle.loads(content).pixels, store.pixels)


@pytest.mark.parametrize("method", ["fixed", "zscore", "dataset", "percentile"])
def test_batches_hold_the_normalised_pixels_of_their_subset(slices, tmp_path, method):
    manifest = scan(slices)
    intensity = IntensityScaling(method=method)
    preprocessing = PreprocessingConfig(steps=PREPROCESSING.steps, intensity=intensity)
    store = open_store(manifest, preprocessing, cache=tmp_path / "cache")
    rows = np.array([3, 7, 20])
    normalisation = Normalisation.fit(intensity, store.statistics[rows])
    dataset = PixelDataset(store, rows, manifest.targets.to_numpy()[rows], normalisation)
    batch = dataset.__getitems__([2, 0])
    assert batch.images.dtype.is_floating_point
    assert batch.targets.tolist() == [1, 0]
    assert batch.positions.tolist() == [2, 0]
    shift, scale = normalisation.shift_and_scale(store.statistics[[20]])
    expected = (store.pixels[20] / 255 - shift[0, 0]) / scale[0, 0]
    expected = np.clip(expected, 0, 1) if method == "percentile" else expected
    np.testing.assert_allclose(batch.images[0].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(dataset[0].images[0].numpy(), batch.images[1].numpy())


def test_each_list_of_steps_has_its_own_store(tmp_path: Path) -> None:
    manifest = scan(write(generate(subjects=2, slices=2, classes=2, size=32, seed=0), tmp_path / "data"))
    steps = (Grayscale(), Resize(size=(24, 24)))
    stores = [
        open_store(manifest, PreprocessingConfig(steps=(*steps, *last)), cache=tmp_path / "cache")
        for last in ((), (Clahe(),), (Clahe(clip_limit=3),), (NonLocalMeans(),))
    ]
    assert len({store.folder for store in stores}) == 4
    np.testing.assert_array_equal(stores[1].pixels[0], Clahe()(np.array(stores[0].pixels[0])))


def test_samples_that_cannot_be_prepared_become_problems(tmp_path):
    heads = tmp_path / "heads"
    for number in range(6):
        # The fourth head has too few slices for the stack, the fifth other rows.
        shape = (6 if number != 4 else 9, 6, 3 if number == 3 else 8)
        nifti(noise(shape, number), heads / "ab"[number % 2] / f"sub-{number}_T1w.nii.gz", np.eye(4))
    manifest = stack_slices(scan(heads), StackConfig(slices=5))
    preprocessing = PreprocessingConfig(steps=())

    with pytest.raises(DataError, match="sub-4_T1w"):
        open_store(manifest, preprocessing, cache=tmp_path / "cache")
    usable = without_unusable(manifest, preprocessing, cache=tmp_path / "cache")

    assert [(problem.sample, problem.kind) for problem in usable.problems] == [
        ("a/sub-4_T1w.nii.gz", "not prepared"),
        ("b/sub-3_T1w.nii.gz", "too few slices"),
    ]
    assert "3 slices" in usable.problems[1].message
    store = open_store(usable, preprocessing, cache=tmp_path / "cache")
    assert len(usable) == len(store) == 4
    expected = [Reader(usable, preprocessing.volume).read(row) for row in range(4)]
    np.testing.assert_array_equal(store.pixels, expected)
    with pytest.raises(NothingUsableError, match="None of the 6 images") as caught:
        without_unusable(stack_slices(scan(heads), StackConfig(slices=9)), preprocessing, cache=tmp_path / "cache")
    assert {problem.kind for problem in caught.value.problems} == {"too few slices"}


def test_the_store_depends_on_what_is_assumed_about_files(tmp_path):
    deep = tmp_path / "deep" / "a"
    deep.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(noise((20, 30, 1), number)[..., 0].astype(np.uint16)).save(deep / f"{number}.png")
    found = [
        open_store(scan(deep.parent, window=window), PREPROCESSING, cache=tmp_path / "cache")
        for window in ((0, 2000), (0, 1000))
    ]
    assert found[0].folder != found[1].folder
    assert (found[0].pixels <= found[1].pixels).all()
