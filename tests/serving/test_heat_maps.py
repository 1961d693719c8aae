"""Heat maps of bundles: what fits the time, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gyrus.export.bundle import Bundle
from gyrus.imaging.volume_formats import write_nifti
from gyrus.serving import heat_maps
from gyrus.serving.errors import RequestError
from gyrus.serving.heat_maps import explain
from gyrus.serving.prepare import NO_NUMBERS, Prepared, prepare
from gyrus.serving.scans import Scan
from tests.support.bundles import SIDE, as_volume, volume


class Clock:
    """A time that only networks let pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


class Network:
    """An engine with the logits of a function, that takes some seconds per image."""

    name = "a network"

    def __init__(self, logits: Callable[[np.ndarray], np.ndarray], clock: Clock, seconds: float, first: float = 0.0):
        self.logits, self.clock, self.seconds, self.first = logits, clock, seconds, first

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.clock.now += len(images) * self.seconds + self.first
        self.first = 0.0
        return self.logits(images).astype(np.float32)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(heat_maps, "time", found)
    return found


@pytest.fixture
def explained(volume_bundle, clock, tmp_path) -> Callable[..., dict]:
    """The heat map of a volume by a network that takes some seconds per image, with the time that it took."""
    bundle = Bundle.open(volume_bundle)
    write_nifti(as_volume(volume(5, 0.95)), tmp_path / "scan.nii.gz")
    scan = prepare(bundle, Scan("scan.nii.gz", "volume", tmp_path / "scan.nii.gz"))

    def explained(seconds: float, limit: float = 60.0, first: float = 0.0) -> dict:
        (member,) = bundle.members
        slow = replace(member, engine=Network(member.engine, clock, seconds, first))
        start = clock.now
        found = explain(replace(bundle, members=(slow,)), scan, None, tmp_path, limit)
        return {**found, "took": clock.now - start}

    return explained


def test_a_slow_network_gets_a_coarser_map_within_the_limit(explained):
    finest = explained(0.0)
    assert "coarser" not in finest["method"]
    assert explained(0.0, first=1e3)["method"] == finest["method"]  # only the first pass is slow
    sizes = set()
    for seconds in (0.05, 0.1, 0.2):
        found = explained(seconds)
        sizes.add(found["method"])
        assert found["method"].endswith("coarser than usual, to answer within 60 s")
        assert found["verdict"]["trusted"] is True
        assert found["took"] < 60
    assert len(sizes) > 1


def test_a_verdict_that_takes_too_long_is_not_given(explained):
    found = explained(0.5)
    assert found["took"] < 60
    assert found["verdict"]["trusted"] is None
    assert "of the 19 orders that a verdict needs" in found["verdict"]["words"]
    with pytest.raises(RequestError, match=r"takes about .* s here, too much for the limit of 60 s") as refused:
        explained(5.0)
    assert refused.value.status == 504


def test_a_map_that_is_no_better_than_chance_is_not_to_be_trusted(image_bundle, clock, tmp_path):
    """Every pixel of this picture counts the same, so no order is better than another."""
    rows, columns = np.indices((SIDE, SIDE))
    texture = np.where((rows + columns) % 2, 1.0, -1.0)
    bundle = Bundle.open(image_bundle)
    (member,) = bundle.members

    def logits(images: np.ndarray) -> np.ndarray:
        for_dementia = (images[:, 0] * texture).mean(axis=(1, 2))
        return np.stack([-for_dementia, for_dementia, *np.zeros((3, len(images)))], axis=1)

    pixels = (128 + 60 * texture).astype(np.uint8)[None]
    each, statistics = member.prepare(pixels)
    members = ((each[None], statistics[None], NO_NUMBERS),)
    path = _saved(pixels, tmp_path)
    scan = Prepared(Scan(path.name, "image", path), members, (), np.zeros((1, 0)), ())
    network = replace(member, engine=Network(logits, clock, 0.0))
    verdict = explain(replace(bundle, members=(network,)), scan, None, tmp_path, 60.0)["verdict"]
    assert verdict["trusted"] is False
    assert verdict["words"].startswith("Do not trust this map: blurring this scan in the order of the map lowers")


def _saved(pixels: np.ndarray, folder: Path) -> Path:
    from gyrus.imaging.decoding import encode_png

    path = folder / "texture.png"
    path.write_bytes(encode_png(pixels))
    return path
