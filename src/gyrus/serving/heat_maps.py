"""Heat maps of a bundle by occlusion, without PyTorch, with a verdict that is measured on the image itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.datasets.slice_stacks import first_slice
from gyrus.errors import GyrusError
from gyrus.explanation.heat_map_coordinates import placement_of_slices, placement_of_volume
from gyrus.explanation.occlusion import (
    blurred,
    deletion_curve,
    each_random_map,
    occluding_step,
    occluding_window,
    occlusion_map,
    occlusion_passes,
)
from gyrus.export.bundle import Bundle, LoadedMember
from gyrus.imaging.decoding import GrayWindow, decode
from gyrus.imaging.orientation import array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.inference.decision_rule import softmax
from gyrus.inference.engines import images_at_once
from gyrus.serving.errors import RequestError
from gyrus.serving.prepare import Prepared
from gyrus.serving.scan_data import nifti, png, volume_of
from gyrus.transforms.volume_steps import apply_steps

RANDOM_MAPS = 19
"""Random orders that a map is compared with: faster than all of them has a probability of 1 in 20 by chance."""

INDIFFERENT = 0.05
"""Smallest difference of probabilities, between the classes or to the blurred image, at which an order can matter."""

NEGLIGIBLE = 0.01
"""Smaller differences of mean probabilities do not count as faster."""

FORECAST, WORK = 0.5, 0.8
"""Parts of the time limit: what a map and its verdict may take by the speed of the first passes, and after which no
further random order is tried. The rest is for decoding, for placing the map on the scan, and for a slower machine."""

PROBE = 8
"""Images on which the speed is measured, at most."""

PLANS = ((None, 0.5, 16), (None, 1.0, 16), (None, 1.0, 8), (1 / 4, 1.0, 8), (1 / 3, 1.0, 8), (1 / 3, 1.0, 4))
"""From fine to coarse: width of the square, as a fraction of the image; its step, as a fraction of the square; steps of
the deletion curves."""


def why_not(bundle: Bundle) -> str:
    """Why a bundle gives no heat maps; empty if it does."""
    about = bundle.manifest
    if about.target.is_number:
        return "Heat maps are of classes here, and this network predicts a number. Explain its run with gyrus explain."
    if len(bundle.members) > 1:
        return "Heat maps are of one network, and this classifier is an ensemble. Explain its runs with gyrus explain."
    if bundle.members[0].about.patches:
        return "This classifier averages patches, and has no heat map here. Explain its run with gyrus explain."
    if bundle.members[0].about.measures or not bundle.members[0].about.in_channels:
        return "This classifier takes measures of the whole image, and has no heat map. Use gyrus explain on its run."
    if about.slices:
        return "This classifier takes slices of volumes, and has no heat map here. Explain its run with gyrus explain."
    if about.stack and (about.inputs == "images" or first_slice(10 * about.stack.slices, about.stack) is None):
        return "This classifier takes stacks of single slices, and has no heat map here. Use gyrus explain."
    return ""


@dataclass(frozen=True)
class _Plan:
    """How fine a map and its verdict are computed.

    Attributes:
        window: Pixels of the occluding square along each axis.
        step: Pixels from one square to the next.
        steps: Of the deletion curves.
        is_coarse: Whether the time does not allow the finest.
    """

    window: tuple[int, ...]
    step: tuple[int, ...]
    steps: int
    is_coarse: bool


def explain(bundle: Bundle, scan: Prepared, target: str | None, folder: Path, seconds: float) -> dict[str, Any]:
    """The heat map of a scan on its own grid, and whether to trust it.

    Args:
        bundle: The bundle.
        scan: The scan.
        target: The class; None for the predicted one.
        folder: Of temporary files.
        seconds: Time limit of the answer.

    Raises:
        RequestError: The bundle gives no heat maps, there is no such class, or even a coarse map takes too long.
    """
    end = time.monotonic() + WORK * seconds
    if reason := why_not(bundle):
        raise RequestError(422, reason)
    classes, member = bundle.manifest.classes, bundle.members[0]
    pixels, statistics, _ = scan.members[0]
    image = member.about.normalisation.apply(pixels, statistics)[0]
    network = _Network(member, len(classes))
    logits = network(image[None])[0]
    chosen = int(logits.argmax()) if target is None else _index(target, classes)
    spatial, batch = image.shape[1:], images_at_once(image.shape)
    plan = _affordable(network, image, batch, seconds)
    heat = occlusion_map(lambda images: network(images)[:, chosen], image, plan.window, plan.step, batch)
    verdict = _verdict(network, image, heat, chosen, classes, batch, plan.steps, end)
    try:
        shown = _on_scan(bundle, scan, heat, spatial, folder)
    except GyrusError as error:
        raise RequestError(422, f"The heat map cannot be placed on the scan: {error}") from error
    size = " x ".join(map(str, plan.window))
    coarse = f"; coarser than usual, to answer within {seconds:g} s" if plan.is_coarse else ""
    return {
        "name": scan.scan.name,
        "target": classes[chosen],
        "method": f"Occlusion (Zeiler and Fergus 2014): decrease of the score of {classes[chosen]} when a region of "
        f"{size} {'voxels' if len(spatial) == 3 else 'pixels'} of the network's input is blurred{coarse}",
        **shown,
        "verdict": verdict,
    }


@dataclass(frozen=True)
class _Network:
    """From normalised images to logits float64 (B, K) in the order of the bundle's classes."""

    member: LoadedMember
    count: int

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = self.member.engine(np.ascontiguousarray(images, np.float32))[:, : self.count]
        return np.asarray(found[:, self.member.columns], np.float64)


def _index(target: str, classes: tuple[str, ...]) -> int:
    if target not in classes:
        raise RequestError(422, f"There is no class of this name. The classes are: {', '.join(classes)}.")
    return classes.index(target)


def _affordable(network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, batch: int, seconds: float) -> _Plan:
    """The finest plan that fits the time by the speed of the network; the coarsest if at least its map does.

    Raises:
        RequestError: None does.
    """
    each, spatial, left = math.inf, image.shape[1:], FORECAST * seconds
    few = min(batch, PROBE)
    for count in (1, few, few):  # the first pass of a size is slower than the next ones; one image has passed before
        images = np.repeat(image[None], count, axis=0)
        start = time.perf_counter()
        network(images)
        each = min(each, (time.perf_counter() - start) / count)
        for number, (fraction, stride, steps) in enumerate(PLANS):
            window = occluding_window(spatial, fraction)
            plan = _Plan(window, occluding_step(window, stride), steps, number > 0)
            of_map, of_verdict = occlusion_passes(spatial, window, plan.step), (1 + RANDOM_MAPS) * (steps + 1)
            if each * (of_map + of_verdict) <= left:
                return plan
    if each * of_map <= left:
        return plan
    raise RequestError(
        504,
        f"A heat map of this scan takes about {each * of_map:.0f} s here, too much for the limit of {seconds:g} s. "
        "Start the server with a longer limit (--seconds), or explain the run with gyrus explain.",
    )


def _verdict(
    network: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    heat: np.ndarray,
    chosen: int,
    classes: tuple[str, ...],
    batch: int,
    steps: int,
    end: float,
) -> dict[str, Any]:
    """Whether pixels in the order of the map change the probability faster than pixels in random orders.

    Args:
        network: From images to logits.
        image: float32 (C, *spatial), normalised.
        heat: (*spatial).
        chosen: The class.
        classes: The names.
        batch: Images per pass.
        steps: Of a curve.
        end: When no further order is tried, by :func:`time.monotonic`.
    """

    def probabilities(images: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(network(images))[:, chosen])

    ranked = np.sort(softmax(network(image[None]))[0])[::-1]
    name = classes[chosen]
    if ranked[0] - ranked[1] < INDIFFERENT:
        return _in_words(
            None,
            f"Not measured: the classifier is nearly indifferent between its classes (probabilities {ranked[0]:.2f} "
            f"and {ranked[1]:.2f}), so there is hardly anything to explain.",
        )
    erased = blurred(image)
    curve = deletion_curve(probabilities, image, heat, batch, steps, erased=erased)
    if curve[0] - curve[-1] < INDIFFERENT:
        return _in_words(
            None,
            f"Not measured: blurring the whole scan does not lower the probability of {name} "
            f"({curve[0]:.2f} before, {curve[-1]:.2f} after), so no region of it is needed for this class.",
        )
    own = float(np.trapezoid(curve, dx=1 / steps))
    others = list[float]()
    for each in islice(each_random_map(image.shape[1:], seed=0), RANDOM_MAPS):
        if time.monotonic() > end:
            break
        random = deletion_curve(probabilities, image, each, batch, steps, erased=erased)
        others.append(float(np.trapezoid(random, dx=1 / steps)))
    if not others:
        return _in_words(None, "Not measured: the map took all the time that this server gives to an answer.")
    better, tried = sum(own < other - NEGLIGIBLE for other in others), len(others)
    measured = (
        f"blurring this scan in the order of the map lowers the probability of {name} faster than in {better} of "
        f"{tried} random orders (mean probability {own:.2f}; random: {min(others):.2f} to {max(others):.2f})"
    )
    if better == tried < RANDOM_MAPS:
        return _in_words(
            None,
            f"Not measured to the end: {measured}. The time that this server gives to an answer allowed no more of the "
            f"{RANDOM_MAPS} orders that a verdict needs.",
        )
    if better == RANDOM_MAPS:
        return _in_words(
            True,
            f"The map marks what the classifier uses in this scan: {measured}. It does not show that the classifier is "
            "right.",
        )
    return _in_words(False, f"Do not trust this map: {measured}. All of them are expected for a map that can be used.")


def _in_words(trusted: bool | None, words: str) -> dict[str, Any]:
    return {"trusted": trusted, "words": words}


def _on_scan(bundle: Bundle, scan: Prepared, heat: np.ndarray, grid: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """The scan and the map, from -1 to 1, on the grid of the scan."""
    about, preprocessing = bundle.manifest, bundle.members[0].about.preprocessing
    heat = heat / max(float(np.abs(heat).max()), 1e-12)
    if heat.ndim == 2:
        pixels = decode(scan.scan.path.read_bytes(), GrayWindow(*about.window) if about.window else None)
        shown = placement_of_slices(preprocessing.steps, pixels.shape[1:], grid).to_original(heat)
        gray = np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)
        return {"scan": png(pixels), "heat_map": png(gray[None])}
    volume = volume_of(scan.scan)
    prepared = apply_steps(volume, preprocessing.volume)
    first = first_slice(prepared.shape[2], about.stack) if about.stack else 0
    if first is None:
        raise RequestError(422, "The slices of the stack are not consecutive, so the map has no place on the scan.")
    placement = placement_of_volume(preprocessing.steps, prepared, volume, grid, first)
    on_scan = Volume(np.ascontiguousarray(array_from_slices(placement.to_original(heat))), volume.affine)
    return {"scan": nifti(volume, folder), "heat_map": nifti(on_scan, folder)}
