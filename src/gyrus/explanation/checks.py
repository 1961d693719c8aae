"""The checks of heat maps: which are run, the score and verdict of each method, and the findings in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor, nn

from gyrus.evaluation.bootstrap import BootstrapConfig, estimate_mean
from gyrus.evaluation.result import Estimate
from gyrus.explanation.background_reliance import BackgroundReliance
from gyrus.explanation.deletion_insertion import DeletionInsertion, deletion_insertion, edge_maps
from gyrus.explanation.methods import METHODS
from gyrus.explanation.occlusion import random_maps
from gyrus.explanation.randomisation_and_stability import (
    MapFunction,
    Stability,
    WeightRandomisation,
    agreement_between_models,
    network_parts,
    randomise_weights,
    similarity,
    stability,
)
from gyrus.explanation.regions import fraction_inside
from gyrus.explanation.targets import ClassContrast
from gyrus.inference.engines import Engine
from gyrus.serialisation import Saved, renamed

Verdict = Literal["passes all checks", "fails some checks", "not better than an edge detector"]

SAME_MAP = 0.5
"""From this rank correlation on, the map of a network without knowledge counts as the same map."""

STABLE = 0.5
"""Below this rank correlation, the map of a slightly changed image counts as another map."""

MOSTLY_EMPTY = 0.2
"""Fraction of empty maps from which on a method fails."""

BACKGROUND_LIMIT = 0.25
"""Above this fraction of effect outside the brain, the network counts as relying on the background."""


@dataclass(frozen=True)
class MethodReport(Saved):
    """The checks of one method on one network.

    Attributes:
        method: Name of the method.
        layer: Its layer, if it uses one.
        deletion: Mean area under the deletion curve.
        insertion: Mean area under the insertion curve.
        over_edges: Insertion minus deletion, less that of an edge detector on the same images.
        over_chance: Insertion minus deletion, less that of random maps.
        beats_edges: Fraction of images on which the method exceeds the edge detector.
        weights: Similarity to the maps of the network with randomised weights, from the head down.
        labels: Similarity to the maps of a network trained on shuffled labels; None without one.
        stability: Similarity to the maps of slightly changed images.
        folds: Similarity of the maps of several networks, such as the folds of a cross-validation; None for one.
        in_brain: Mean fraction of the map inside the brain.
        in_structures: Mean fraction inside the structures that are known to differ; None where unknown.
        empty_maps: Fraction of images whose map is constant.
    """

    SCHEMA = "gyrus.method-report/1"

    method: str
    layer: str | None
    deletion: float
    insertion: float
    over_edges: Estimate
    over_chance: Estimate
    beats_edges: float
    weights: WeightRandomisation
    labels: float | None
    stability: Stability
    folds: float | None
    in_brain: float | None
    in_structures: float | None
    empty_maps: Annotated[float, renamed("empty_maps", "silent")]

    @property
    def score(self) -> float:
        """From 0 to 1, the least of: how often it exceeds an edge detector, dependence on the weights, and stability.

        A method is as good as its weakest property.
        """
        alike = max(self.weights.whole, self.labels or 0.0)
        return float(np.clip(min(self.beats_edges, 1 - alike, self.stability.noise, self.stability.shift), 0, 1))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The checks that it fails, in words."""
        low_edges, low_chance = self.over_edges.low, self.over_chance.low
        weights, labels = self.weights.whole, self.labels or 0.0
        noise, shift = self.stability.noise, self.stability.shift
        checks = [
            (low_edges is None or low_edges <= 0, "its pixels affect the prediction no more than edges do"),
            (low_chance is None or low_chance <= 0, "its pixels affect the prediction no more than random pixels do"),
            (weights >= SAME_MAP, f"randomised weights give the same map (rank correlation {weights:.2f})"),
            (labels >= SAME_MAP, f"training on shuffled labels gives the same map (rank correlation {labels:.2f})"),
            (noise < STABLE, f"slight noise changes the map (rank correlation {noise:.2f})"),
            (shift < STABLE, f"a small shift changes the map (rank correlation {shift:.2f})"),
            (self.empty_maps >= MOSTLY_EMPTY, f"{100 * self.empty_maps:.0f} % of its maps are empty"),
        ]
        return tuple(reason for failed, reason in checks if failed)

    @property
    def verdict(self) -> Verdict:
        """The result of all checks."""
        if self.over_edges.low is None or self.over_edges.low <= 0:
            return "not better than an edge detector"
        return "fails some checks" if self.reasons else "passes all checks"


@dataclass(frozen=True, eq=False)
class CheckRunner:
    """The checks, set up for a network and some images.

    Attributes:
        model: The network.
        images: float32 (N, C, *spatial).
        contrast: The class that each map is about.
        subjects: int64 (N,), the subject of each image; every number in [0, S) occurs.
        edges: Deletion and insertion curves of an edge detector.
        chance: Deletion and insertion curves of random maps.
        brains: bool (N, *spatial), the brain; None where unknown.
        structures: bool (N, *spatial), the structures that are known to differ; None where unknown.
        shuffled: A network trained on shuffled labels; None without one.
        sampling: Bootstrap of the confidence intervals.
        seed: Seed of everything random.
        engine: Runs the network where no gradients are needed; None for the network itself.
    """

    model: nn.Module
    images: Tensor
    contrast: ClassContrast
    subjects: np.ndarray
    edges: DeletionInsertion
    chance: DeletionInsertion
    brains: np.ndarray | None = None
    structures: np.ndarray | None = None
    shuffled: nn.Module | None = None
    sampling: BootstrapConfig = field(default_factory=BootstrapConfig)
    seed: int = 0
    engine: Engine | None = None

    @classmethod
    def prepare(
        cls,
        model: nn.Module,
        images: Tensor,
        contrast: ClassContrast,
        subjects: np.ndarray,
        *,
        seed: int = 0,
        engine: Engine | None = None,
        advance: Callable[[int], None] = lambda _: None,
        **attributes: Any,
    ) -> CheckRunner:
        """Compute the curves that every method is compared with; ``attributes`` are the remaining attributes.

        ``advance`` is called with the number of images of each pass, twice those of a map.
        """
        random = random_maps(len(images), tuple(images.shape[2:]), seed)
        edges, chance = (
            deletion_insertion(engine or model, images, contrast, maps, seed=seed, advance=advance)
            for maps in (edge_maps(images), random)
        )
        return cls(model, images, contrast, subjects, edges, chance, seed=seed, engine=engine, **attributes)

    @property
    def maps_needed(self) -> int:
        """How often a check computes the maps of all images: for each randomised network and changed image."""
        return len(network_parts(self.model)) + 2 + (self.shuffled is not None)

    def run(
        self,
        method: str,
        maps: np.ndarray,
        maps_of: MapFunction,
        *,
        layer: str | None = None,
        folds: Sequence[np.ndarray] = (),
        advance: Callable[[int], None] = lambda _: None,
    ) -> MethodReport:
        """Run all checks of one method.

        Args:
            method: Its name.
            maps: (N, *spatial), its maps of the images.
            maps_of: Computes its maps for another network or other images.
            layer: Its layer, for the report.
            folds: Maps of the same images by other networks, each with its own preprocessing.
            advance: Called with the number of images of each pass of deletion and insertion.
        """
        curves = deletion_insertion(
            self.engine or self.model, self.images, self.contrast, maps, seed=self.seed, advance=advance
        )
        weights = randomise_weights(self.model, self.images, maps, maps_of, seed=self.seed)
        steady = stability(self.model, self.images, maps, maps_of, seed=self.seed)
        labels = float(similarity(maps, maps_of(self.shuffled, self.images)).mean()) if self.shuffled else None
        above = curves.gain - self.edges.gain
        return MethodReport(
            method=method,
            layer=layer,
            deletion=float(curves.deletion_area.mean()),
            insertion=float(curves.insertion_area.mean()),
            over_edges=estimate_mean(above, self.subjects, self.sampling),
            over_chance=estimate_mean(curves.gain - self.chance.gain, self.subjects, self.sampling),
            beats_edges=float(((above > 0) + 0.5 * (above == 0)).mean()),
            weights=weights,
            labels=labels,
            stability=steady,
            folds=agreement_between_models([maps, *folds]) if folds else None,
            in_brain=_mean_fraction(maps, self.brains),
            in_structures=_mean_fraction(maps, self.structures),
            empty_maps=float((np.ptp(maps.reshape(len(maps), -1), axis=1) == 0).mean()),
        )


@dataclass(frozen=True)
class ExplanationChecks(Saved):
    """The checks of the heat maps of a network, and of the network itself.

    Attributes:
        title: Name of the run.
        target: Description of the class that the maps are about.
        images: Number of images in the checks.
        subjects: Number of their subjects.
        methods: One report per method.
        agreement: Mean similarity of the maps of each pair of methods, in the order of ``methods``.
        brain_area: Mean fraction of the image that is brain; None where unknown.
        structure_area: The same for the structures that are known to differ.
        reliance: Whether predictions depend on the brain; None if it cannot be determined.
        notes: Notes for the reader.
    """

    SCHEMA = "gyrus.explanation/1"

    title: str
    target: str
    images: int
    subjects: Annotated[int, renamed("subjects", "people")]
    methods: tuple[MethodReport, ...]
    agreement: tuple[tuple[float, ...], ...]
    brain_area: float | None = None
    structure_area: float | None = None
    reliance: BackgroundReliance | None = None
    notes: tuple[str, ...] = ()

    @property
    def relies_on_background(self) -> bool:
        """Whether much of the effect on the predictions lies outside the brain."""
        return self.reliance is not None and self.reliance.outside_fraction > BACKGROUND_LIMIT

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings, the most serious first."""
        verdicts = ("passes all checks", "fails some checks", "not better than an edge detector")
        groups = {
            verdict: [METHODS[report.method].title for report in self.methods if report.verdict == verdict]
            for verdict in verdicts
        }
        by_verdict = (f"{', '.join(titles)}: {verdict}." for verdict, titles in groups.items() if titles)
        return (*self._reliance_sentences(), *by_verdict)

    def _reliance_sentences(self) -> tuple[str, ...]:
        if self.reliance is None:
            return ()
        outside = self.reliance.outside_fraction
        if self.relies_on_background:
            return (
                f"The network relies on the background: {100 * outside:.0f} % of the effect on the predicted "
                "probability lies outside the brain. With the background of another image, "
                f"{100 * self.reliance.outside_changed:.0f} % of the predictions change to the class of that image.",
            )
        if outside != outside:  # NaN
            return ("Exchanging the brain or the background does not change the predictions.",)
        return (
            f"The network relies on the brain: {100 * (1 - outside):.0f} % of the effect on the predicted probability "
            "lies inside it.",
        )

    def to_document(self) -> dict[str, Any]:
        """The fields as plain values, with the findings and the score and verdict of each method."""
        document = super().to_document()
        for entry, report in zip(document["methods"], self.methods, strict=True):
            entry |= {"score": report.score, "verdict": report.verdict}
        return document | {"sentences": list(self.sentences)}


def _mean_fraction(maps: np.ndarray, masks: np.ndarray | None) -> float | None:
    if masks is None:
        return None
    fractions = fraction_inside(maps, masks)
    return float(np.nanmean(fractions)) if np.isfinite(fractions).any() else None
