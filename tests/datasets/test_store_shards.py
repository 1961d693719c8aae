"""Shards of a store: what is written, what a killed build leaves, and how it is recovered."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets import store_shards
from gyrus.datasets.file_counts import FileCounts
from gyrus.datasets.manifest import MEMBERS, VOLUME_FILES, Problem
from gyrus.datasets.store_shards import Shard, ShardTask, append, mark_of, recover, rows_of, shard_rows
from gyrus.errors import DataError, GyrusError, UnusableSampleError
from gyrus.transforms.preprocessing import PreprocessingConfig
from tests.support.manifests import manifest_of, subjects_per_label

NO_STEPS = PreprocessingConfig(steps=())
SHAPE = (1, 2, 3)
ROWS = [range(2), range(2, 4), range(4, 5)]
PIXELS = np.random.default_rng(0).integers(0, 256, size=(5, *SHAPE), dtype=np.uint8)


def test_a_mark_holds_all_but_the_pixels(tmp_path) -> None:
    statistics = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    path = tmp_path / "0.npz"
    Shard([SHAPE, SHAPE], "|u1", 2**32 - 1, statistics).save(path)
    read = Shard.load(path, samples=2)
    assert (read.found, read.kind, read.checksum, read.size) == ([SHAPE, SHAPE], "|u1", 2**32 - 1, 12)
    np.testing.assert_array_equal(read.statistics, statistics)
    assert Shard.load(path, samples=3) is None
    Shard([SHAPE, SHAPE], "|u1", 7, statistics[:1]).save(path)
    assert Shard.load(path, samples=2) is None
    assert Shard.load(path, samples=1) is None
    path.write_bytes(path.read_bytes()[:-30])
    assert Shard.load(path, samples=2) is None
    assert Shard.load(tmp_path / "1.npz", samples=2) is None
    with pytest.raises(GyrusError):
        Shard([SHAPE, SHAPE], "|u1", 7, statistics).save(tmp_path / "no folder" / "0.npz")
    assert not (tmp_path / "no folder").exists()


class Build:
    """A build of three shards that was killed after the second one had been appended."""

    def __init__(self, folder: Path) -> None:
        self.pixels, self.paths = folder / "pixels.npy", [folder / f"{number}.pixels" for number in range(3)]
        for number, rows in enumerate(ROWS):
            content = PIXELS[rows.start : rows.stop].tobytes()
            statistics = np.full((len(rows), 1, 4), number, np.float32)
            shard = Shard([SHAPE] * len(rows), "|u1", zlib.crc32(content), statistics)
            shard.save(mark_of(self.paths[number]))
            self.paths[number].write_bytes(content)
            if number < 2:
                append(self.pixels, shard, self.paths[number], first=number == 0, total=5)

    def recover(self) -> tuple[list[int], int]:
        """The numbers of the shards that are whole, and how many of them are appended."""
        whole, appended = recover(self.pixels, self.paths, ROWS)
        for number, shard in whole.items():
            np.testing.assert_array_equal(shard.statistics, np.full((len(ROWS[number]), 1, 4), number))
        return sorted(whole), appended

    def wait(self, number: int) -> None:
        """Let an appended shard wait in its own file."""
        self.paths[number].write_bytes(PIXELS[ROWS[number].start : ROWS[number].stop].tobytes())


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def _first_waits(build: Build) -> None:
    build.wait(0)
    build.wait(1)


def _half_of_the_next(build: Build) -> None:
    with build.pixels.open("ab") as file:
        file.write(b"half")


def _longer(build: Build) -> None:
    build.paths[2].write_bytes(build.paths[2].read_bytes() + b"x")


def _without_second_mark(build: Build) -> None:
    _first_waits(build)
    mark_of(build.paths[1]).unlink()


@pytest.mark.parametrize(
    ("happens", "whole", "appended"),
    [
        (lambda _: None, [0, 1, 2], 2),
        (_half_of_the_next, [0, 1, 2], 2),
        (lambda build: build.wait(1), [0, 1, 2], 1),  # the file of all pixels may hold only a part of it
        (_first_waits, [0, 1, 2], 0),
        (_without_second_mark, [0, 2], 0),
        (lambda build: _flip(build.pixels, -12), [0, 2], 1),
        (lambda build: _flip(build.pixels, 128), [2], 0),
        (lambda build: _flip(build.pixels, 8), [2], 0),  # the header
        (lambda build: _flip(build.paths[2], 0), [0, 1], 2),
        (_longer, [0, 1], 2),
        (lambda build: build.paths[2].write_bytes(b""), [0, 1], 2),
        (lambda build: build.paths[2].unlink(), [0, 1], 2),
        (lambda build: mark_of(build.paths[0]).unlink(), [2], 0),
        (lambda build: mark_of(build.paths[1]).unlink(), [0, 2], 1),
        (lambda build: build.pixels.unlink(), [2], 0),
    ],
)
def test_what_a_killed_build_has_finished_is_recovered_if_undamaged(
    tmp_path, happens: Callable[[Build], object], whole: list[int], appended: int
) -> None:
    build = Build(tmp_path)
    happens(build)
    assert build.recover() == (whole, appended)
    if build.pixels.exists():  # cut after the last shard that is whole
        assert build.pixels.stat().st_size == (128 + 12 * appended if appended else 0)


def test_recovered_shards_are_continued_to_the_file_of_a_whole_build(tmp_path) -> None:
    build = Build(tmp_path)
    _half_of_the_next(build)
    whole, _ = recover(build.pixels, build.paths, ROWS)
    append(build.pixels, whole[2], build.paths[2], first=False, total=5)
    np.testing.assert_array_equal(np.load(build.pixels), PIXELS)
    assert not any(path.exists() for path in build.paths)


def test_bytes_are_copied_piece_by_piece(monkeypatch) -> None:
    monkeypatch.setattr(store_shards, "PIECE", 5)
    content = bytes(range(20))
    for size in (11, 12, 30):
        source, target = io.BytesIO(content), io.BytesIO()
        assert store_shards._copy(source, target, size) == zlib.crc32(content[:size])
        assert (target.getvalue(), source.tell()) == (content[:size], min(size, 20))
    assert store_shards._copy(io.BytesIO(content), None, 7) == zlib.crc32(content[:7])


def test_a_file_of_another_machine_is_awaited(tmp_path, monkeypatch) -> None:
    path, waited = tmp_path / "0.pixels", []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            path.write_bytes(b"there")

    monkeypatch.setattr(store_shards.time, "sleep", sleep)
    with store_shards._open_when_visible(path) as file:
        assert file.read() == b"there"
    assert waited == [1, 1]
    with pytest.raises(DataError, match="GYRUS_CACHE"):
        store_shards._open_when_visible(tmp_path / "never")
    assert len(waited) == 2 + store_shards.VISIBLE


def test_the_same_images_are_in_a_shard_wherever_it_is_written() -> None:
    manifest = manifest_of(subjects_per_label(a=600, b=433), slices=1)
    assert shard_rows(manifest) == [range(512), range(512, 1024), range(1024, 1033)]
    stacks = manifest.table.assign(**{MEMBERS: [({},) * (100 if row == 3 else 2) for row in range(1033)]})
    assert shard_rows(replace(manifest, table=stacks))[:2] == [range(5), range(5, 10)]
    assert len(shard_rows(replace(manifest, table=stacks))) == 207
    tall = manifest.table.assign(**{MEMBERS: [({},) * 1000] * 1033})
    assert shard_rows(replace(manifest, table=tall))[:2] == [range(1), range(1, 2)]


def test_slices_of_a_volume_are_in_one_shard_of_eight_volumes() -> None:
    slices = [3, 1, 2, 3, 3, 3, 3, 3, 3, 3, 1, 3, 3, 3, 3, 3, 4]
    files = [(f"{volume}.nii",) for volume, number in enumerate(slices) for _ in range(number)]
    manifest = manifest_of(subjects_per_label(a=len(files)), slices=1)
    manifest = replace(manifest, table=manifest.table.assign(**{VOLUME_FILES: files}))
    eighth, last = sum(slices[:8]), sum(slices[:16])
    assert shard_rows(manifest) == [range(eighth), range(eighth, last), range(last, last + 4)]
    first = replace(manifest, table=manifest.table.iloc[:3])
    assert shard_rows(first) == [range(3)]


def test_a_shard_gets_its_rows_and_nothing_else() -> None:
    whole = replace(
        manifest_of(subjects_per_label(a=4), slices=1),
        problems=(Problem("x", "kind", "message"),),
        notes=("note",),
        files=FileCounts(used=1),
        constant=("digest",),
    )
    part = rows_of(whole, range(1, 3))
    assert part.table["sample"].tolist() == whole.table["sample"].tolist()[1:3]
    assert (part.problems, part.notes, part.files, part.constant) == ((), (), None, ())
    assert (part.classes, part.root) == (whole.classes, whole.root)


def _unusable(number: int) -> UnusableSampleError:
    return UnusableSampleError(f"kind {number}", f"reason {number}", f"message {number}")


class Prepared:
    """A task whose samples are prepared already."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._patch, self.seen = folder / "0.pixels", monkeypatch, []

    def write(self, *images: np.ndarray | UnusableSampleError, all_problems: bool = True) -> Shard:
        def prepared(*_: object) -> Iterator[np.ndarray | UnusableSampleError]:
            yield from images

        manifest = manifest_of(subjects_per_label(a=len(images)), slices=1)
        self._patch.setattr(store_shards, "_images", prepared)
        self.seen = []
        return ShardTask(manifest, NO_STEPS, self.path, all_problems=all_problems)(self.seen.append)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Prepared:
    return Prepared(tmp_path, monkeypatch)


def test_a_shard_holds_the_bytes_of_its_images_and_their_checksum(prepared) -> None:
    images = [PIXELS[0], PIXELS[1].astype(np.int32), PIXELS[2]]  # a step may give another type for some images
    shard = prepared.write(*images)
    content = PIXELS[:3].tobytes()
    assert prepared.path.read_bytes() == content
    assert (shard.found, shard.kind, shard.checksum) == ([SHAPE] * 3, "|u1", zlib.crc32(content))
    assert shard.statistics[:, 0, 0] == pytest.approx(PIXELS[:3].mean(axis=(1, 2, 3)) / 255)
    read = Shard.load(mark_of(prepared.path), 3)
    assert (read.found, read.kind, read.checksum) == (shard.found, shard.kind, shard.checksum)
    np.testing.assert_array_equal(read.statistics, shard.statistics)
    assert prepared.seen == [1, 2, 3]
    assert prepared.files == ["0.npz", "0.pixels"]


def test_a_shard_with_a_sample_that_cannot_be_prepared_is_not_written(prepared) -> None:
    """Either all such samples are named, or the first."""
    images = (PIXELS[0], _unusable(1), PIXELS[2], _unusable(3), PIXELS[4])
    found = prepared.write(*images).found
    problems = [Problem(f"a/a{row:03d}_00.png", f"kind {row}", f"reason {row}") for row in (1, 3)]
    assert found == [SHAPE, problems[0], SHAPE, problems[1], SHAPE]
    assert prepared.seen == [1, 2, 3, 4, 5]
    *before, error = prepared.write(*images, all_problems=False).found
    assert before == [SHAPE]
    assert (error.kind, error.reason, str(error)) == ("kind 1", "reason 1", "message 1")
    assert prepared.files == []


def test_a_shard_with_images_of_two_sizes_is_not_written(prepared) -> None:
    larger = np.zeros((1, 4, 4), np.uint8)
    assert prepared.write(PIXELS[0], larger, PIXELS[1]).found == [SHAPE, (1, 4, 4), SHAPE]
    assert prepared.files == []


def test_a_machine_without_the_shared_folder_says_so(tmp_path) -> None:
    task = ShardTask(manifest_of({"a": "b"}), NO_STEPS, tmp_path / "elsewhere" / "0.pixels", all_problems=False)
    with pytest.raises(DataError, match=r"one shared folder.*GYRUS_CACHE"):
        task()
    assert not list(tmp_path.iterdir())


def test_why_an_image_cannot_be_prepared_is_told_with_its_name(monkeypatch) -> None:
    """In the order of the manifest, with the steps for volumes."""
    manifest = manifest_of(subjects_per_label(a=3), slices=1)

    class Reader:
        def __init__(self, *given: object) -> None:
            assert given == (manifest, NO_STEPS.volume)

        def read(self, position: int) -> np.ndarray:
            if position == 1:
                raise DataError("no memory")
            if position == 2:
                raise _unusable(2)
            return PIXELS[position]

    monkeypatch.setattr(store_shards, "Reader", Reader)
    image, other, own = store_shards._images(manifest, NO_STEPS)
    np.testing.assert_array_equal(image, PIXELS[0])
    name = manifest.table["sample"][1]
    assert (other.kind, other.reason, str(other)) == ("not prepared", "no memory", f"{name}: no memory")
    assert (own.kind, own.reason, str(own)) == ("kind 2", "reason 2", "message 2")


def test_volumes_are_prepared_one_ahead_and_images_many(monkeypatch) -> None:
    """Prepared volumes wait in memory for those before them."""
    asked = []
    monkeypatch.setattr(store_shards, "map_tasks", lambda *_, ahead: asked.append(ahead))
    monkeypatch.setattr(store_shards, "Reader", lambda *_: None)
    manifest = manifest_of({"a": "b"})
    store_shards._images(manifest, NO_STEPS)
    table = manifest.table.assign(**{VOLUME_FILES: pd.Series([("a.nii",)] * len(manifest))})
    store_shards._images(replace(manifest, table=table), NO_STEPS)
    assert asked == [32, 1]
