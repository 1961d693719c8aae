from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from gyrus.datasets import store as store_module
from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import ASSUMED
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.store import open_store, stored_shape, without_unusable
from gyrus.datasets.store_shards import Shard
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import DataError, GyrusError, NothingUsableError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.transforms.contrast_enhancement import Clahe, NonLocalMeans
from gyrus.transforms.image_steps import Grayscale, Resize
from gyrus.transforms.normalisation import IntensityScaling, Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Percentiles, Shape
from tests.support.heads import nifti, noise
from tests.support.manifests import manifest_of

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


def _small(folder: Path, *shapes: tuple[int, int]) -> Manifest:
    """A manifest of one image a subject, whose pixels differ."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, shape in enumerate(shapes):
        name = f"{number}.png"
        Image.fromarray(np.full(shape, 10 * number, np.uint8)).save(folder / name)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rows.append({"sample": name, "path": name, "label": "a", "subject": f"s{number}", "digest": digest})
    return Manifest.from_rows(pd.DataFrame(rows), root=folder, subject_kind="subject")


UNCHANGED = PreprocessingConfig(steps=())


class Killed(BaseException):
    """Stands for the death of the process."""


def test_a_killed_build_is_continued_from_its_last_whole_shard(tmp_path, monkeypatch) -> None:
    """Each image is prepared once, also by workers; and progress counts all."""
    monkeypatch.setattr("gyrus.datasets.store_shards.IMAGES", 2)
    manifest, cache = _small(tmp_path / "data", *[(3, 4)] * 7), tmp_path / "cache"
    seen: list[tuple[int, int]] = []

    def kill(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        open_store(manifest, UNCHANGED, cache=cache, progress=kill)
    assert seen == [(number, 7) for number in range(1, 6)]
    (building,) = _entries(cache)
    assert building.endswith(store_module.BUILDING)
    other = shutil.copytree(cache, tmp_path / "other")

    seen.clear()
    store = open_store(manifest, UNCHANGED, cache=cache, progress=lambda *given: seen.append(given))
    assert seen == [(2, 7), (4, 7), (5, 7), (6, 7), (7, 7)]
    assert store.pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert sorted(path.name for path in store.folder.iterdir()) == ["pixels.npy", "statistics.npy", "store.json"]
    about = json.loads((store.folder / "store.json").read_text())
    assert (about["format"], about["images"]) == (store_module.FORMAT, 7)

    def by_workers(_, missing: Sequence[int], *, part: Callable[[int], Callable[[], Shard]]) -> Iterator[Shard]:
        assert list(missing) == [2, 3]
        for number in missing:
            yield part(number)()

    seen.clear()
    monkeypatch.setattr(store_module, "runs_here", lambda: False)
    monkeypatch.setattr(store_module, "map_tasks", by_workers)
    theirs = open_store(manifest, UNCHANGED, cache=other, progress=lambda *given: seen.append(given))
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]
    for path in store.folder.iterdir():
        assert path.read_bytes() == (theirs.folder / path.name).read_bytes()


def test_workers_are_ended_where_a_sample_cannot_be_prepared(tmp_path, monkeypatch) -> None:
    ended = []

    def by_workers(*_: object, part: Callable[[int], Callable[[], Shard]]) -> Iterator[Shard]:
        try:
            while True:
                yield part(0)()
        finally:
            ended.append(True)

    monkeypatch.setattr(store_module, "runs_here", lambda: False)
    monkeypatch.setattr(store_module, "map_tasks", by_workers)
    manifest = _small(tmp_path / "data", (3, 4), (3, 4))
    (tmp_path / "data" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png") as caught:
        open_store(manifest, UNCHANGED, cache=tmp_path / "cache")
    assert ended == [True]
    assert caught.value is not None  # holds the frames, so that nothing but the store has closed the generator


@pytest.mark.parametrize("shards", [True, False])
def test_a_build_that_was_killed_when_it_was_whole_is_used(tmp_path, shards) -> None:
    manifest, cache = _small(tmp_path / "data", (3, 4)), tmp_path / "cache"
    folder = open_store(manifest, UNCHANGED, cache=cache).folder
    building = folder.rename(folder.with_suffix(store_module.BUILDING))
    if shards:
        (building / "shards").mkdir()
    open_store(manifest, UNCHANGED, cache=cache, progress=lambda *_: pytest.fail("built again"))
    assert _entries(cache) == [folder.name]
    assert not (folder / "shards").exists()


def test_a_whole_store_is_opened_without_a_lock(tmp_path) -> None:
    """The cache may be read-only then."""
    manifest, cache = _small(tmp_path / "data", (3, 4)), tmp_path / "cache"
    folder = open_store(manifest, UNCHANGED, cache=cache).folder
    folder.with_suffix(".lock").unlink(missing_ok=True)
    assert open_store(manifest, UNCHANGED, cache=cache).folder == folder
    assert [path.name for path in (cache / "stores").iterdir()] == [folder.name]


def test_a_store_that_another_process_has_just_built_is_used(tmp_path, monkeypatch) -> None:
    manifest, cache = _small(tmp_path / "data", (3, 4)), tmp_path / "cache"
    folder = open_store(manifest, UNCHANGED, cache=cache).folder
    answers, asked = iter([False, True]), []
    monkeypatch.setattr(store_module, "_is_whole", lambda path: asked.append(path) or next(answers))
    monkeypatch.setattr(store_module, "_build", lambda *_: pytest.fail("built again"))
    open_store(manifest, UNCHANGED, cache=cache)
    assert asked == [folder, folder]


@pytest.mark.parametrize("by_worker", [False, True])
@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (OSError(errno.ENOSPC, "no space"), "The disk is full.*GYRUS_CACHE"),
        (OSError(errno.EIO, "bad disk"), "bad disk"),
    ],
)
def test_a_disk_that_cannot_be_written_leaves_no_build(tmp_path, monkeypatch, reason, message, by_worker) -> None:
    def fail(folder: Path, *_: object) -> None:
        (folder / "pixels.npy").write_bytes(b"half")
        if by_worker:
            raise GyrusError("Cannot write.") from reason
        raise reason

    monkeypatch.setattr(store_module, "_fill", fail)
    with pytest.raises(DataError, match=message):
        open_store(_small(tmp_path / "data", (3, 4)), UNCHANGED, cache=tmp_path / "cache")
    assert _entries(tmp_path / "cache") == []


def test_what_else_ends_a_build_is_told_as_it_is_and_the_build_can_be_continued(tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise GyrusError("The workers died.")

    monkeypatch.setattr(store_module, "_fill", fail)
    with pytest.raises(GyrusError, match=r"^The workers died\.$"):
        open_store(_small(tmp_path / "data", (3, 4)), UNCHANGED, cache=tmp_path / "cache")
    assert len(_entries(tmp_path / "cache")) == 1


def test_a_build_is_removed_also_where_an_earlier_one_could_not_be(tmp_path) -> None:
    building, gone = tmp_path / f"key{store_module.BUILDING}", tmp_path / "key.removed"
    for folder in (building, gone):
        folder.mkdir()
        (folder / "pixels.npy").touch()
    store_module._remove(building)
    assert list(tmp_path.iterdir()) == []
    store_module._remove(building)


def test_builds_that_nobody_continues_are_removed_after_a_week(tmp_path) -> None:
    now, week = time.time(), store_module.FOREIGN_AGE
    for name, age, age_of_content in (
        ("old", week + 60, week + 60),
        ("young", week - 60, week - 60),
        ("busy", week + 60, week - 60),
        ("locked", week + 60, week + 60),
        ("broken", week + 60, week + 60),
    ):
        folder = tmp_path / (name + store_module.BUILDING)
        folder.mkdir()
        (folder / "pixels.npy").touch()
        os.utime(folder / "pixels.npy", (now - age_of_content,) * 2)
        os.utime(folder, (now - age,) * 2)
    (tmp_path / "broken.lock").mkdir()
    with FileLock(tmp_path / "locked.lock"):
        store_module._remove_old_builds(tmp_path)
    left = {path.stem for path in tmp_path.glob(f"*{store_module.BUILDING}")}
    assert left == {"young", "busy", "locked", "broken"}
    assert {path.name for path in tmp_path.glob("*.lock")} >= {"young.lock", "busy.lock", "locked.lock"}


def test_checksums_that_are_no_checksums_are_damage(tmp_path) -> None:
    manifest, cache = _small(tmp_path / "data", (3, 4)), tmp_path / "cache"
    about = open_store(manifest, UNCHANGED, cache=cache).folder / "store.json"
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, "checksums": []}))
    store_module._WHOLE.clear()
    open_store(manifest, UNCHANGED, cache=cache)
    assert json.loads(about.read_text()) == content


def test_each_block_of_a_file_has_its_checksum(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK", 10)
    content = bytes(range(35))
    (tmp_path / "file").write_bytes(content)
    expected = [zlib.crc32(content[start : start + 10]) for start in (0, 10, 20, 30)]
    assert store_module._checksums(tmp_path / "file") == expected


VOLUMES = {VOLUME_FILES: [("a.nii",)] * 2}


@pytest.mark.parametrize(
    ("preprocessing", "columns", "key"),
    [
        (UNCHANGED, {}, "d936d6fe784cbeb4cd7e5993f0148cb8"),
        (PreprocessingConfig(steps=(Resize(size=(24, 24)),)), {}, "7003cc7369c424414bbb770adf52bae3"),
        (
            PreprocessingConfig(steps=(), intensity=IntensityScaling(low=2.0, high=97.0)),
            {},
            "8f2047f3b4d9fca6a128bcc734674a31",
        ),
        (
            PreprocessingConfig(steps=(), intensity=IntensityScaling(method="histogram")),
            {},
            "8b8026bf1e64f3c9a8f14bfa6442ae32",
        ),
        (UNCHANGED, {ASSUMED: ["spacing 1", None]}, "13b00904a7fbca3185254a98e4ea7104"),
        (UNCHANGED, {ASSUMED: [None, None]}, "d936d6fe784cbeb4cd7e5993f0148cb8"),
        (UNCHANGED, VOLUMES, "12adf22cdc37060d950726a43783cee7"),
        (PreprocessingConfig(steps=(), volume=(Percentiles(low=2.0),)), VOLUMES, "75236d3404058935b104a5ef1e4e9cd0"),
        (PreprocessingConfig(steps=(), volume=(Percentiles(low=2.0),)), {}, "d936d6fe784cbeb4cd7e5993f0148cb8"),
    ],
)
def test_stores_of_earlier_versions_are_found(tmp_path, preprocessing, columns, key) -> None:
    """The name of a store changes only with what changes its pixels; another name decodes all images again."""
    manifest = manifest_of({"one": "a"}, slices=2)
    manifest = replace(manifest, table=manifest.table.assign(**columns))
    assert store_module._place(manifest, preprocessing, tmp_path) == tmp_path / "stores" / key


def test_neighbouring_slices_are_not_taken_as_colours(tmp_path) -> None:
    manifest = manifest_of({"one": "a"}, slices=2)

    def shown(*neighbours: int | None) -> Manifest:
        views = [None if number is None else json.dumps({"neighbours": number}) for number in neighbours]
        return replace(manifest, table=manifest.table.assign(**{VIEW: views}))

    gray, resized = (PreprocessingConfig(steps=(step,)) for step in (Grayscale(), Resize(size=(4, 4))))
    with pytest.raises(DataError, match="'grayscale' would treat neighbouring slices"):
        store_module._place(shown(None, 1), gray, tmp_path)
    for accepted, preprocessing in ((shown(None, 0), gray), (shown(1, 1), resized), (manifest, gray)):
        store_module._place(accepted, preprocessing, tmp_path)


def test_samples_of_another_size_than_most_or_than_that_of_the_network_are_left_out(tmp_path) -> None:
    """Also where the first is the odd one. All of them are found at once."""
    shapes = (2, 2), (3, 4), (5, 4), (3, 4), (3, 4), (5, 4), (3, 4)
    manifest, cache = _small(tmp_path / "data", *shapes), tmp_path / "cache"
    (tmp_path / "data" / "4.png").unlink()
    most, others = ["1.png", "3.png", "6.png"], ["2.png", "5.png"]
    seen: list[tuple[int, int]] = []
    for size, kept, stores in ((None, most, 1), ((1, 5, 4), others, 2), ((1, 9, 9), most, 2)):
        seen.clear()
        usable = without_unusable(
            manifest, UNCHANGED, cache=cache, progress=lambda *given: seen.append(given), size=size
        )
        assert usable.table["sample"].tolist() == kept
        assert sorted(problem.sample for problem in usable.problems) == sorted({*manifest.table["sample"]} - {*kept})
        assert {problem.kind for problem in usable.problems if problem.sample != "4.png"} == {"not prepared"}
        assert seen[:7] == [(number, 7) for number in range(1, 8)]
        assert len(seen) == 7 + (len(kept) if size != (1, 9, 9) else 0)  # the last store has been built before
        assert len(_entries(cache)) == stores
    shape = {problem.sample: problem.message for problem in usable.problems}["0.png"]
    assert shape == "shape [1, 2, 2] after the steps, not [1, 3, 4]"
    assert without_unusable(usable, UNCHANGED, cache=cache) is usable


def test_the_shape_in_a_store_is_known_before_it_is_built(tmp_path) -> None:
    manifest, cache = _small(tmp_path / "data", (3, 4), (5, 4)), tmp_path / "cache"
    assert stored_shape(manifest, UNCHANGED, cache=cache) == (1, 3, 4)
    assert stored_shape(manifest, PREPROCESSING, cache=cache) == (1, 24, 24)
    assert not cache.exists()
    open_store(manifest, PREPROCESSING, cache=cache)
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    assert stored_shape(manifest, PREPROCESSING, cache=cache) == (1, 24, 24)


def test_the_shape_of_a_volume_is_that_after_its_steps(tmp_path) -> None:
    nifti(noise((7, 6, 5)), tmp_path / "data" / "a" / "sub-1_T1w.nii.gz", np.eye(4))
    manifest = scan(tmp_path / "data")
    preprocessing = PreprocessingConfig(steps=(), volume=(Shape(size=(4, 9, 8)), Percentiles()))
    assert stored_shape(manifest, preprocessing, cache=tmp_path / "cache") == (1, 4, 9, 8)
    assert open_store(manifest, preprocessing, cache=tmp_path / "cache").pixels.shape == (1, 1, 4, 9, 8)
