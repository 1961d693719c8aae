"""How often a 95 % interval holds the truth: resampling people, and resampling their slices as if they were people.

People are easy or hard as a whole, so that their slices are right or wrong together. Many studies are drawn from the
same made-up population; the truth is what a very large study of it says.

Further tables: studies in which a class has one or two people (resampled within the classes, with and without added
subjects), and classifiers so good that many studies have a perfect score (exact intervals and bounds).

Run: ``python benchmarks/coverage.py``; ``--studies``, ``--resamples`` and ``--seed`` change the size, ``--people``
without a number leaves out the first tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from gyrus.evaluation.bootstrap import (
    IntervalNotes,
    bootstrap_metrics,
    cluster_samples,
    estimate,
    jackknife_metrics,
    percentile_interval,
    score_samples,
    stratify,
)
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.evaluation.result import Estimate
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WORDS = IntervalNotes("undefined", "scarce")

LIKENESS = 0.7
"""Share of the variance of the logits that is the person's, not the slice's."""

SKILL = 1.2
"""By how much the logit of the true class is higher on average."""


@dataclass(frozen=True)
class Study:
    """Slices of the people of one study."""

    targets: Integers
    scores: Floats
    people: Integers

    @classmethod
    def draw(cls, people: int, slices: int, random: np.random.Generator) -> Study:
        """Two thirds of the people are of the first class; both classes occur."""
        person = np.repeat(np.arange(people), slices)
        target = np.append([0, 1], random.random(people - 2) > 2 / 3).astype(np.int64)
        own = np.sqrt(LIKENESS) * random.normal(size=(people, 2))[person]
        logits = own + np.sqrt(1 - LIKENESS) * random.normal(size=(len(person), 2))
        logits[np.arange(len(person)), target[person]] += SKILL
        powers = np.exp(logits)
        return cls(target[person], powers / powers.sum(axis=1, keepdims=True), person)

    def pooled(self) -> Study:
        """One row a person: mean probability over the slices."""
        count = np.bincount(self.people)
        mean = np.column_stack([np.bincount(self.people, column) / count for column in self.scores.T])
        first = np.searchsorted(self.people, np.arange(len(count)))
        return Study(self.targets[first], mean, np.arange(len(count)))

    def as_if_slices_were_people(self) -> Study:
        """The same slices, each taken for a person of its own."""
        return Study(self.targets, self.scores, np.arange(len(self.targets)))


def estimates(study: Study, resamples: int, seed: int, *, bca: bool) -> dict[str, Estimate]:
    """The metrics of a study with their intervals."""
    samples = cluster_samples(study.targets, study.scores.argmax(axis=1), study.scores, study.people)
    point, reference, _ = score_samples(samples)
    resampled = bootstrap_metrics(samples, reference, resamples=resamples, seed=seed)
    left_out = jackknife_metrics(samples, reference) if bca else None
    return {
        name: estimate(
            point.overall[name][0],
            resampled.overall[name],
            0.95,
            WORDS,
            left_out.overall[name] if left_out else None,
        )
        for name in HEADLINE_METRICS
    }


WAYS = {
    "by subject, percentile": lambda study: (study.pooled(), False),
    "by subject, BCa": lambda study: (study.pooled(), True),
    "by image, people resampled": lambda study: (study, False),
    "by image, images resampled (naive)": lambda study: (study.as_if_slices_were_people(), False),
}


def truths(slices: int, seed: int) -> dict[str, dict[str, float]]:
    """What a study of 20,000 people says, by way and metric."""
    large = Study.draw(20_000, slices, np.random.default_rng((seed, 1)))
    found: dict[str, dict[str, float]] = {}
    for way, prepare in WAYS.items():
        study, _ = prepare(large)
        same = "by subject" if way.startswith("by subject") else "by image"
        known = next((values for other, values in found.items() if other.startswith(same)), None)
        found[way] = known or {name: float(one.value or 0) for name, one in estimates(study, 0, 0, bca=False).items()}
    return found


def coverage(
    people: int, slices: int, studies: int, resamples: int, seed: int
) -> Iterator[tuple[str, str, float, float]]:
    """For each way and metric how often the interval holds the truth, and how wide it is on average."""
    truth, random = truths(slices, seed), np.random.default_rng((seed, people, slices))
    held: dict[tuple[str, str], list[bool]] = {(way, name): [] for way in WAYS for name in HEADLINE_METRICS}
    width: dict[tuple[str, str], list[float]] = {key: [] for key in held}
    for number in range(studies):
        study = Study.draw(people, slices, random)
        for way, prepare in WAYS.items():
            drawn, bca = prepare(study)
            for name, one in estimates(drawn, resamples, seed + number, bca=bca).items():
                if one.low is not None and one.high is not None:
                    held[way, name].append(one.low <= truth[way][name] <= one.high)
                    width[way, name].append(one.high - one.low)
    for way, name in held:
        yield way, name, float(np.mean(held[way, name])), float(np.mean(width[way, name]))


FEW_OF_A_CLASS = ((15, 10, 5, 2), (15, 10, 6, 1), (14, 14, 2, 2), (20, 3, 1, 1))
NEARLY_PERFECT = ((4, 4), (20, 20), (20, 10, 6, 1))
MEAN_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", "macro_pr_auc")


def with_classes(sizes: tuple[int, ...], skill: float, random: np.random.Generator) -> Study:
    """People with one row each; ``sizes`` of each class."""
    target = np.repeat(np.arange(len(sizes)), sizes)
    logits = random.normal(size=(len(target), len(sizes)))
    logits[np.arange(len(target)), target] += skill
    powers = np.exp(logits)
    return Study(target, powers / powers.sum(axis=1, keepdims=True), np.arange(len(target)))


def within_classes(study: Study, resamples: int, seed: int, *, added: bool) -> dict[str, Estimate]:
    """The intervals of resamples within the classes, with or without added subjects."""
    rows = study.targets, study.scores.argmax(axis=1), study.scores, study.people
    point, reference, _ = score_samples(cluster_samples(*rows))
    strata = stratify(*rows)
    if not added:
        number = len(study.targets)
        plain = {name: getattr(strata, name)[:number] for name in ("targets", "predicted", "scores", "clusters")}
        strata = replace(strata, **plain, classes=study.targets, weights=np.ones(number))
    values = strata.metrics(reference, resamples=resamples, seed=seed).overall
    return {
        name: Estimate(float(point.overall[name][0]), *percentile_interval(values[name], 0.95)) for name in MEAN_METRICS
    }


def evaluated(study: Study, resamples: int, seed: int) -> dict[str, Estimate]:
    """The intervals that ``evaluate`` reports."""
    classes = [f"class {index}" for index in range(study.scores.shape[1])]
    people = [f"p{number:05}" for number in study.people]
    predictions = Predictions.from_logits(
        people,
        np.log(study.scores),
        classes=classes,
        split_unit="subject",
        subjects=people,
        targets=[classes[index] for index in study.targets],
    )
    return dict(evaluate(predictions, resamples=resamples, seed=seed).headline.metrics)


def print_classes(title: str, sizes: tuple[int, ...], skill: float, options: argparse.Namespace) -> None:
    """The coverage of the means over classes in studies with given numbers of people of each class."""
    large = with_classes(tuple(2000 * size for size in sizes), skill, np.random.default_rng((options.seed, 2)))
    point, _, _ = score_samples(cluster_samples(large.targets, large.scores.argmax(axis=1), large.scores, large.people))
    truth = {name: float(point.overall[name][0]) for name in MEAN_METRICS}
    ways = {
        "as reported": evaluated,
        "within classes, subjects added": partial(within_classes, added=True),
        "within classes, none added": partial(within_classes, added=False),
    }
    found: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    random, perfect = np.random.default_rng((options.seed, *sizes)), 0
    for number in range(options.studies):
        study = with_classes(sizes, skill, random)
        perfect += bool((study.scores.argmax(axis=1) == study.targets).all())
        for way, estimates_of in ways.items():
            for name, one in estimates_of(study, options.resamples, options.seed + number).items():
                if name in truth and one.low is not None and one.high is not None:
                    found.setdefault((way, name), []).append((one.low <= truth[name] <= one.high, one.high - one.low))
    share = f"{perfect / options.studies:.0%} of the studies have a perfect score"
    print(f"\n{title}: {sizes} people of the classes, skill {skill}, {options.studies} studies; {share}")
    print(f"{'interval':<32}" + "".join(f"{name:>22}" for name in MEAN_METRICS))
    for way in ways:
        cells = (np.mean(found[way, name], axis=0) for name in MEAN_METRICS)
        print(f"{way:<32}" + "".join(f"{held:>14.1%} ({width:.3f})".rjust(22) for held, width in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--people", type=int, nargs="*", default=[50, 100])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for people in options.people:
        print(f"\n{people} people, {options.slices} slices each, {options.studies} studies, seed {options.seed}")
        print(f"{'interval':<36}" + "".join(f"{name:>24}" for name in HEADLINE_METRICS))
        rows: dict[str, str] = {}
        for way, _, share, width in coverage(people, options.slices, options.studies, options.resamples, options.seed):
            rows[way] = rows.get(way, f"{way:<36}") + f"{share:>14.1%} ({width:.3f})".rjust(24)
        print("\n".join(rows.values()))
    for sizes in FEW_OF_A_CLASS:
        for skill in (1.0, 2.5):
            print_classes("Small classes", sizes, skill, options)
    for sizes in NEARLY_PERFECT:
        print_classes("Nearly perfect", sizes, 4.0, options)


if __name__ == "__main__":
    main()
