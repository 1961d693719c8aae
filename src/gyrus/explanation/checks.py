"""What the checks of a method come to: numbers, a score, and a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from gyrus.errors import DataError
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.sampling import BootstrapConfig, estimate_mean
from gyrus.explanation.background_reliance import BackgroundReliance
from gyrus.explanation.faithfulness import DeletionInsertion, edge_maps, follow, random_maps
from gyrus.explanation.localisation import share_inside
from gyrus.explanation.methods import METHODS
from gyrus.explanation.sanity_checks import (
    Explain,
    Stability,
    WeightRandomisation,
    agreement_between_models,
    shuffle_weights_step_by_step,
    similarity,
    stability,
)
from gyrus.explanation.targets import ClassContrast
from gyrus.files import read_json, write_json

SCHEMA = "gyrus.explanation/1"

Verdict = Literal["trustworthy", "doubtful", "not better than an edge detector"]

TOO_ALIKE = 0.5
"""From this rank correlation on, the map of a network that means nothing is taken to be the same map."""

STABLE = 0.5
"""Below it, the map of a hardly changed image is taken to be another map."""

MOSTLY_EMPTY = 0.2
"""Share of maps without any value from which on a method is said to be silent."""

LOOKS_PAST = 0.25
"""Share of what moves the answer that may lie outside the brain; where much of it does, the network looks past it."""


@dataclass(frozen=True)
class MethodReport:
    """What the checks found out about one method on one network.

    Attributes:
        method: Name in the table of methods.
        layer: What it looked at, if it looks at a layer.
        deletion: Mean area under the deletion curve.
        insertion: Mean area under the insertion curve.
        over_edges: By how much insertion minus deletion is above that of an edge detector on the same images.
        over_chance: By how much it is above that of random spots.
        beats_edges: The share of images on which it is above that of an edge detector.
        weights: How alike the maps of the network with shuffled weights are, part by part from the head down.
        labels: How alike the maps of a network that learnt shuffled labels are; None where there was none.
        stability: How alike the maps of hardly changed images are.
        folds: How alike the maps of networks of other folds are; None where there were none.
        in_brain: Mean share of the map inside the brain.
        in_structures: Mean share inside the structures that are known to differ; None where they are not known.
        silent: Share of images whose map has no value at all.
    """

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
    silent: float

    @property
    def score(self) -> float:
        """From 0 to 1: how often it beats an edge detector, hangs on the weights, and is stable, whichever is least.

        A map is worth as much as its weakest part.
        """
        alike = max(self.weights.whole, self.labels or 0.0)
        return float(np.clip(min(self.beats_edges, 1 - alike, self.stability.noise, self.stability.shift), 0, 1))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against it, in words."""
        low_edges, low_chance = self.over_edges.low, self.over_chance.low
        weights, labels = self.weights.whole, self.labels or 0.0
        found = [
            (low_edges is None or low_edges <= 0, "the pixels it names matter no more than edges do"),
            (low_chance is None or low_chance <= 0, "the pixels it names matter no more than random ones"),
            (
                weights >= TOO_ALIKE,
                f"a network with shuffled weights has the same map (rank correlation {weights:.2f})",
            ),
            (
                labels >= TOO_ALIKE,
                f"a network that learnt shuffled labels has the same map (rank correlation {labels:.2f})",
            ),
            (self.stability.noise < STABLE, f"little noise changes it (rank correlation {self.stability.noise:.2f})"),
            (self.stability.shift < STABLE, f"a small shift changes it (rank correlation {self.stability.shift:.2f})"),
            (self.silent >= MOSTLY_EMPTY, f"{self.silent:.0%} of its maps are empty"),
        ]
        return tuple(words for holds, words in found if holds)

    @property
    def verdict(self) -> Verdict:
        """Whether it may be believed."""
        if self.over_edges.low is None or self.over_edges.low <= 0:
            return "not better than an edge detector"
        return "doubtful" if self.reasons else "trustworthy"

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> MethodReport:
        """The way back from :func:`dataclasses.asdict` through JSON."""
        cascade = document["weights"]
        nested = {
            "over_edges": Estimate(**document["over_edges"]),
            "over_chance": Estimate(**document["over_chance"]),
            "weights": WeightRandomisation(tuple(cascade["parts"]), tuple(cascade["similarities"])),
            "stability": Stability(**document["stability"]),
        }
        return cls(**(document | nested))


@dataclass(frozen=True, eq=False)
class CheckRunner:
    """The images that methods are tried on, with what they must beat.

    Attributes:
        model: The network.
        images: float32 (N, C, *spatial).
        contrast: What is asked about.
        people: int64 (N,), the person of each image, all of [0, S) in use.
        edges: Curves of an edge detector.
        chance: Curves of random spots.
        brains: bool (N, *spatial), where the brain is; None where unknown.
        structures: bool (N, *spatial), what is known to differ; None where unknown.
        shuffled: A network that learnt shuffled labels; None where there is none.
        sampling: How intervals are made.
        seed: Decides what is left to chance.
    """

    model: nn.Module
    images: Tensor
    contrast: ClassContrast
    people: np.ndarray
    edges: DeletionInsertion
    chance: DeletionInsertion
    brains: np.ndarray | None = None
    structures: np.ndarray | None = None
    shuffled: nn.Module | None = None
    sampling: BootstrapConfig = field(default_factory=BootstrapConfig)
    seed: int = 0

    @classmethod
    def of(
        cls, model: nn.Module, images: Tensor, contrast: ClassContrast, people: np.ndarray, **more: Any
    ) -> CheckRunner:
        """A trial with the curves that every method must beat; ``more`` are further attributes."""
        seed = more.get("seed", 0)
        chance = random_maps(len(images), tuple(images.shape[2:]), seed)
        edges, random = (follow(model, images, contrast, maps, seed=seed) for maps in (edge_maps(images), chance))
        return cls(model, images, contrast, people, edges, random, **more)

    def judge(
        self,
        method: str,
        maps: np.ndarray,
        explain: Explain,
        *,
        layer: str | None = None,
        folds: Sequence[np.ndarray] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> MethodReport:
        """Run all checks of one method.

        Args:
            method: Its name.
            maps: (N, *spatial), what it made of the images of the trial.
            explain: The method with target, layer and settings decided.
            layer: The layer, for the report.
            folds: Maps of the same images by the networks of other folds, each fed as it is used to.
            progress: Called with the number of checks done and of all.
        """
        tell = progress or _tell_nobody
        curves = follow(self.model, self.images, self.contrast, maps, seed=self.seed)
        tell(1, 4)
        weights = shuffle_weights_step_by_step(self.model, self.images, maps, explain, seed=self.seed)
        tell(2, 4)
        steady = stability(self.model, self.images, maps, explain, seed=self.seed)
        tell(3, 4)
        labels = float(similarity(maps, explain(self.shuffled, self.images)).mean()) if self.shuffled else None
        tell(4, 4)
        above = curves.gain - self.edges.gain
        return MethodReport(
            method=method,
            layer=layer,
            deletion=float(curves.deletion_area.mean()),
            insertion=float(curves.insertion_area.mean()),
            over_edges=self._mean(above),
            over_chance=self._mean(curves.gain - self.chance.gain),
            beats_edges=float(((above > 0) + 0.5 * (above == 0)).mean()),
            weights=weights,
            labels=labels,
            stability=steady,
            folds=agreement_between_models([maps, *folds]) if folds else None,
            in_brain=_mean_share(maps, self.brains),
            in_structures=_mean_share(maps, self.structures),
            silent=float((np.ptp(maps.reshape(len(maps), -1), axis=1) == 0).mean()),
        )

    def _mean(self, values: np.ndarray) -> Estimate:
        return estimate_mean(values, self.people, self.sampling)


@dataclass(frozen=True)
class ExplanationChecks:
    """What was found out about the maps of a network, and about the network by them.

    Attributes:
        title: Name of the run.
        target: What was asked about.
        images: How many images the checks used.
        people: Of how many people.
        methods: One report a method.
        agreement: Mean similarity of the maps of each two methods, in the order of ``methods``.
        brain_area: Mean share of the image that is brain; None where unknown.
        structure_area: The same of the structures that are known to differ.
        reliance: Whether the answer follows the brain; None where it cannot be told.
        notes: What a reader must know.
    """

    title: str
    target: str
    images: int
    people: int
    methods: tuple[MethodReport, ...]
    agreement: tuple[tuple[float, ...], ...]
    brain_area: float | None = None
    structure_area: float | None = None
    reliance: BackgroundReliance | None = None
    notes: tuple[str, ...] = ()

    @property
    def looks_past_brain(self) -> bool:
        """Whether much of what moves the answer lies outside the brain."""
        return self.reliance is not None and self.reliance.outside_share > LOOKS_PAST

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it comes to, the gravest first."""
        return (*self._about_network(), *self._about_methods())

    def _about_network(self) -> tuple[str, ...]:
        if self.reliance is None:
            return ()
        moved = self.reliance.outside_share
        if self.looks_past_brain:
            return (
                f"The network looks past the brain: {moved:.0%} of what moves its answer lies outside it. With the "
                f"surroundings of another image, {self.reliance.outside_changed:.0%} of the answers become those of "
                "that image.",
            )
        if moved != moved:
            return ("Neither another brain nor other surroundings move the answer.",)
        return (f"What moves the answer lies in the brain: {1 - moved:.0%} of it.",)

    def _about_methods(self) -> tuple[str, ...]:
        words = {
            "trustworthy": "may be believed on this network",
            "doubtful": "doubtful",
            "not better than an edge detector": "not better than an edge detector",
        }
        groups = {
            verdict: [METHODS[each.method].title for each in self.methods if each.verdict == verdict]
            for verdict in words
        }
        return tuple(f"{', '.join(names)}: {words[verdict]}." for verdict, names in groups.items() if names)

    def save(self, path: Path) -> None:
        """Write as JSON, with score and verdict of each method."""
        told = [asdict(each) | {"score": each.score, "verdict": each.verdict} for each in self.methods]
        document = asdict(self) | {"methods": told}
        write_json(path, {"schema": SCHEMA, "sentences": list(self.sentences), **document})

    @classmethod
    def load(cls, path: Path) -> ExplanationChecks:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: It is something else.
        """
        document = read_json(path)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise DataError(f"{path} does not hold the checks of explanations (schema {SCHEMA}).")
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        methods = [{k: v for k, v in each.items() if k not in ("score", "verdict")} for each in fields["methods"]]
        return cls(
            **fields
            | {
                "methods": tuple(MethodReport.from_document(each) for each in methods),
                "agreement": tuple(map(tuple, fields["agreement"])),
                "reliance": BackgroundReliance(**fields["reliance"]) if fields["reliance"] else None,
                "notes": tuple(fields["notes"]),
            }
        )


def _tell_nobody(_done: int, _total: int) -> None:
    pass


def as_table(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """An array as tuples, as :class:`ExplanationChecks` holds it."""
    return tuple(tuple(map(float, row)) for row in values)


def _mean_share(maps: np.ndarray, masks: np.ndarray | None) -> float | None:
    if masks is None:
        return None
    shares = share_inside(maps, masks)
    return float(np.nanmean(shares)) if np.isfinite(shares).any() else None
