"""Scores on comparable people: do the predictions show the class, or only age, sex and site?

Three answers on the same predictions. **Matched**: each subject of the smaller class gets its own partner of the other,
with equal categories and numbers within calipers; scores are those of these pairs. **Weighted**: subjects are weighted
by the inverse probability of their class given the columns, which makes both classes alike in the columns (Austin and
Stuart 2015, doi:10.1002/sim.6607). **Permuted**: the classes are permuted among subjects with alike columns; the mean
ROC AUC of the permutations is what the columns alone account for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.datasets.identifiers import comparable
from gyrus.datasets.table_features import ColumnKind, TableEncoder, find_column, first_of_each, text_of_cells
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import DEFAULT_BOOTSTRAP, BootstrapConfig, resample_blocks
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.result import Estimate, Unit
from gyrus.evaluation.roc import rank
from gyrus.inference.predictions import SUBJECT_OF_VISIT, Predictions
from gyrus.serialisation import Saved
from gyrus.text import aligned, counted, one_per_line, p_value_text

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

CALIPER = 0.2
"""How far numbers of a pair, or of a stratum, may differ, in standard deviations of all subjects."""

PROPENSITIES = (0.05, 0.95)
"""Estimated probabilities of the class are clipped to these, so no weight exceeds 20 times that of chance."""

PENALTY = 100.0
"""Inverse of the L2 penalty of the propensity model: next to none, but finite where columns separate the classes."""

UNBALANCED = 0.1
"""Standardised mean difference from which the classes count as different in a column (Austin 2009)."""

LEAST_OF_A_CLASS = 5
"""With fewer subjects of a class there are no matched and weighted scores."""

MOST_CELLS = 40_000_000
"""Possible pairs of one combination of categories, at most: their distances are in memory at once (320 MB)."""


@dataclass(frozen=True)
class ComparableScores:
    """The scores of some subjects, or of weighted subjects.

    Attributes:
        positive: How many subjects of the class.
        negative: How many of the others.
        effective: The effective sample size, (sum of weights)^2 / sum of squared weights; the count without weights.
        roc_auc: Area under the ROC curve.
        balanced_accuracy: Mean of sensitivity and specificity of the most probable class.
        imbalance: Standardised mean difference of each feature between the class and the others; 0 is alike.
    """

    positive: int
    negative: int
    effective: float
    roc_auc: Estimate
    balanced_accuracy: Estimate
    imbalance: Mapping[str, float]

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """Features in which the classes still differ."""
        return tuple(name for name, value in self.imbalance.items() if abs(value) > UNBALANCED)


@dataclass(frozen=True)
class ClassScores:
    """One class against the others.

    Attributes:
        positive: The class.
        unmatched: All subjects.
        matched: The pairs; None where there are too few.
        weighted: All subjects, weighted; None where a class has too few.
        permuted_auc: Mean ROC AUC when classes are permuted among subjects with alike columns; None where no stratum
            holds both classes.
        p_value: Of that test, one-sided: the share of permutations with at least the ROC AUC found.
        permuted: How many subjects are in strata with both classes; only these can be permuted.
    """

    positive: str
    unmatched: ComparableScores
    matched: ComparableScores | None
    weighted: ComparableScores | None
    permuted_auc: float | None
    p_value: float | None
    permuted: int


@dataclass(frozen=True)
class MatchedScores(Saved):
    """Scores on matched and on weighted subjects, and the permutation within strata.

    Attributes:
        columns: The columns and what they hold.
        unit: What was scored.
        count: How many, without those that lack a cell.
        left_out: How many lack a cell of a column.
        classes: Of two classes the second, else each class against the others.
        caliper: In standard deviations.
        level: Confidence level.
        resamples: Bootstrap resamples of subjects or of pairs, and permutations.
        seed: Seed of both.
        notes: What else a reader must know.
    """

    SCHEMA: ClassVar[str] = "gyrus.matched-scores/1"

    columns: tuple[str, ...]
    unit: Unit
    count: int
    left_out: int
    classes: tuple[ClassScores, ...]
    caliper: float
    level: float
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def _names(self) -> str:
        return " and ".join([", ".join(self.columns[:-1]), self.columns[-1]] if len(self.columns) > 1 else self.columns)

    def verdict(self, scores: ClassScores) -> str:
        """Whether the predictions show a class beyond the columns, in a sentence."""
        if scores.p_value is None and scores.permuted:
            return f"'{scores.positive}': without resamples nothing is tested."
        if scores.p_value is None:
            return f"'{scores.positive}': no two subjects of different classes are alike in {self._names}; not tested."
        shown = scores.p_value < 1 - self.level
        tested = (
            f"ROC AUC {_number(scores.unmatched.roc_auc.value)}, {_number(scores.permuted_auc)} if classes are "
            f"permuted among subjects alike in {self._names}; {p_value_text(scores.p_value)}"
        )
        low = scores.matched.roc_auc.low if scores.matched else None
        if not shown:
            return f"It is not shown that the predictions tell '{scores.positive}' beyond {self._names} ({tested})."
        if low is not None and low > 0.5:
            return f"The predictions tell '{scores.positive}' beyond {self._names} ({tested})."
        return (
            f"The predictions carry information on '{scores.positive}' beyond {self._names} ({tested}), but the ROC "
            "AUC of matched subjects is not shown to be above 0.5."
        )

    def text(self) -> str:
        """The verdict of each class, then a table of its scores."""
        head = f"Scores on subjects alike in {self._names} ({counted(self.count, self.unit)})"
        lines = [head, "-" * len(head)]
        for scores in self.classes:
            lines += [self.verdict(scores), ""]
            rows = [["", "Subjects", "Effective", "ROC AUC", "Balanced accuracy", "Largest imbalance"]]
            parts = {"Unmatched": scores.unmatched, "Matched": scores.matched, "Weighted": scores.weighted}
            for title, part in parts.items():
                rows.append([title, *_cells(part)])
            lines += [*aligned(rows), *_warnings(parts), ""]
        lines.append(
            f"Imbalance: standardised mean difference between the classes; above {UNBALANCED} they differ. Pairs "
            f"within {self.caliper} standard deviations, categories equal. In brackets: {self.level * 100:g} % "
            f"confidence intervals, {self.resamples:,} resamples of subjects or pairs."
        )
        if self.left_out:
            lines.append(f"{counted(self.left_out, self.unit)} left out for a missing cell.")
        return one_per_line([*lines, *(f"Note: {note}" for note in self.notes)])


def matched_scores(
    predictions: Predictions,
    rows: pd.DataFrame,
    columns: Mapping[str, ColumnKind],
    *,
    caliper: float = CALIPER,
    bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP,
) -> MatchedScores:
    """Score predictions on subjects that are alike in some columns.

    Args:
        predictions: For subjects that the classifier has not seen. Rows without a true class are left out. Of several
            visits of a subject the first counts.
        rows: The columns of these samples, with ``sample``.
        columns: The columns, and what they hold.
        caliper: How far numbers of a pair may differ, in standard deviations of all subjects.
        bootstrap: Resamples of subjects (of pairs where matched), and as many permutations.

    Raises:
        ConfigError: No column is named, or the data lack one.
        DataError: A cell is not what its column holds, or the subjects with all cells are of one class.
    """
    if not columns:
        raise ConfigError("Name at least one column to match by, such as age.")
    for name in columns:
        find_column(rows, name)
    unit: Unit = "subject" if predictions.subjects_known else "image"
    answers, notes = _one_per_subject(labelled_rows(predictions, unit))
    own = predictions.table.set_index("sample")["subject"]
    units = [str(own.get(name)) if unit == "subject" else str(name) for name in rows["sample"]]
    people = first_of_each(rows, units).reindex(answers.table["sample"].tolist())
    cells = {name: text_of_cells(people[find_column(people, name)]) for name in columns}
    whole = np.array([all(cell is not None for cell in row) for row in zip(*cells.values(), strict=True)], dtype=bool)
    if len(np.unique(answers.targets[whole])) < 2:
        raise DataError(
            f"Of {counted(len(whole), unit)} {int(whole.sum())} have a value in all of {', '.join(columns)}, and these "
            "are not of two classes. Name fewer columns, or fill their cells."
        )
    answers, people = answers.select(whole), people[whole]
    encoder = TableEncoder.fit(people, columns)
    subjects = _People(people, encoder)
    targets, predicted, logits = answers.targets, answers.predicted, answers.logits
    found = []
    for index in [1] if len(answers.classes) == 2 else np.unique(targets):
        # The logit of the class against all others, which orders as its probability does but is never rounded to 1.
        others = np.logaddexp.reduce(np.delete(logits, index, axis=1), axis=1)
        one = _Binary(targets == index, predicted == index, logits[:, index] - others, subjects, bootstrap)
        found.append(one.scores(answers.classes[index], caliper))
    return MatchedScores(
        columns=tuple(column.name for column in encoder.columns),
        unit=unit,
        count=len(answers),
        left_out=int((~whole).sum()),
        classes=tuple(found),
        caliper=caliper,
        level=bootstrap.level,
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        notes=notes,
    )


def match_pairs(positive: Booleans, numbers: Floats, categories: Sequence[object], caliper: float) -> Integers:
    """Pairs of a subject of the class and one of the others, each subject in one pair at most.

    As many pairs as possible, and of all such choices the one with the smallest sum of distances.

    Args:
        positive: Whether each subject is of the class, (N,).
        numbers: Standardised numbers, (N, F).
        categories: What must be equal within a pair, (N,).
        caliper: How far each number may differ.

    Returns:
        The positions of the subjects, (pairs, 2): of the class, and of the others.

    Raises:
        DataError: There are too many possible pairs.
    """
    codes = np.unique(np.array([str(value) for value in categories]), return_inverse=True)[1]
    found = [np.empty((0, 2), np.int64)]
    for code in range(int(codes.max(initial=-1)) + 1):
        cases = np.flatnonzero((codes == code) & positive)
        controls = np.flatnonzero((codes == code) & ~positive)
        if not len(cases) or not len(controls):
            continue
        if len(cases) * len(controls) > MOST_CELLS:
            raise DataError(
                f"{len(cases):,} x {len(controls):,} subjects are too many to match. Add a column of categories, such "
                "as sex or site."
            )
        squares, allowed = np.zeros((len(cases), len(controls))), np.ones((len(cases), len(controls)), dtype=bool)
        for values in numbers.T:
            difference = np.abs(values[cases][:, None] - values[controls][None])
            allowed &= difference <= caliper + 1e-12
            squares += difference**2
        # A pair that is not allowed costs more than any number of allowed ones.
        worst = 1.0 + caliper * np.sqrt(max(numbers.shape[1], 1))
        cost = np.where(allowed, np.sqrt(squares), worst * (min(allowed.shape) + 1))
        chosen = np.column_stack(scipy.optimize.linear_sum_assignment(cost))
        chosen = chosen[allowed[chosen[:, 0], chosen[:, 1]]]
        found.append(np.column_stack([cases[chosen[:, 0]], controls[chosen[:, 1]]]))
    return np.concatenate(found)


def inverse_probability_weights(positive: Booleans, features: Floats) -> Floats:
    """Weights that make the class and the others alike in some features.

    The probability of the class given the features is that of a logistic regression, with the squares of numbers, and
    is clipped to :data:`PROPENSITIES`. A weight is the fraction of the subject's class divided by its probability.

    Args:
        positive: Whether each subject is of the class, (N,).
        features: Standardised numbers and indicators, (N, F).

    Returns:
        Weights, (N,).
    """
    from sklearn.linear_model import LogisticRegression

    curved = [column**2 - 1 for column in features.T if len(np.unique(column)) > 2]
    design = np.column_stack([features, *curved])
    model = LogisticRegression(C=PENALTY, max_iter=5000).fit(design, positive)
    chance = np.clip(model.predict_proba(design)[:, 1], *PROPENSITIES)
    rate = positive.mean()
    return np.where(positive, rate / chance, (1 - rate) / (1 - chance))


class _People:
    """The columns of the subjects, as matching, weighting and strata need them."""

    def __init__(self, people: pd.DataFrame, encoder: TableEncoder) -> None:
        self.features, self.names = encoder.encode(people), encoder.names
        is_number = [column.kind == "number" for column in encoder.columns for _ in column.features]
        self.numbers = self.features[:, is_number]
        cells = [
            [comparable(str(cell)) for cell in text_of_cells(people[find_column(people, column.name)])]
            for column in encoder.columns
            if column.kind == "category"
        ]
        self.categories = list(zip(*cells, strict=True)) if cells else [()] * len(people)

    def strata(self, caliper: float) -> Integers:
        """The stratum of each subject: equal categories, and numbers in the same band as wide as the caliper, (N,)."""
        bands = np.floor(self.numbers / caliper).astype(np.int64).tolist()
        keys = [str((group, band)) for group, band in zip(self.categories, bands, strict=True)]
        return np.unique(np.array(keys), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class _Binary:
    """One class against the others."""

    positive: Booleans
    called: Booleans
    values: Floats
    people: _People
    bootstrap: BootstrapConfig

    def scores(self, name: str, caliper: float) -> ClassScores:
        count = len(self.positive)
        everybody, once = np.arange(count), np.ones(count)
        few = min(int(self.positive.sum()), int((~self.positive).sum())) < LEAST_OF_A_CLASS
        pairs = match_pairs(self.positive, self.people.numbers, self.people.categories, caliper)
        members = pairs.ravel()
        matched = None
        if len(pairs) >= LEAST_OF_A_CLASS:
            matched = self._scores(members, np.repeat(np.arange(len(pairs)), 2), once[members])
        weights = inverse_probability_weights(self.positive, self.people.features) if not few else once
        expected, p_value, permuted = self._permuted(caliper)
        return ClassScores(
            name,
            self._scores(everybody, everybody, once),
            matched,
            None if few else self._scores(everybody, everybody, weights),
            expected,
            p_value,
            permuted,
        )

    def _scores(self, members: Integers, clusters: Integers, weights: Floats) -> ComparableScores:
        """Scores of some subjects, with intervals by resampling clusters: subjects, or pairs."""
        positive, called = self.positive[members], self.called[members]
        ranking = rank(positive, self.values[members], clusters=clusters, weights=weights)
        total = int(clusters.max()) + 1
        # Sums per cluster: subjects of the class and of the others, and how many of them are classified correctly.
        sums = np.stack(
            [
                np.bincount(clusters, weights * chosen, total)
                for chosen in (positive, positive & called, ~positive, ~positive & ~called)
            ]
        )

        def both(counts: Floats) -> Floats:
            in_class, found, others, rejected = sums @ counts
            with np.errstate(invalid="ignore", divide="ignore"):
                balanced = (found / in_class + rejected / others) / 2
            return np.stack([ranking.areas(counts).roc, balanced])

        point = both(np.ones((total, 1)))[:, 0]
        blocks = resample_blocks(total, self.bootstrap.resamples, self.bootstrap.seed)
        drawn = np.concatenate([both(counts) for counts in blocks], axis=1)
        auc, balanced = (_estimate(*each, self.bootstrap.level) for each in zip(point, drawn, strict=True))
        features = self.people.features[members]
        imbalance = _standardised_differences(positive, features, weights, self.people.names)
        return ComparableScores(
            int(positive.sum()),
            int((~positive).sum()),
            float(weights.sum() ** 2 / (weights**2).sum()),
            auc,
            balanced,
            imbalance,
        )

    def _permuted(self, caliper: float) -> tuple[float | None, float | None, int]:
        """Mean ROC AUC of the permutations within strata, the p-value, and how many subjects are permuted."""
        strata = self.people.strata(caliper)
        sizes, inside = np.bincount(strata), np.bincount(strata, self.positive)
        mixed = ((inside > 0) & (inside < sizes))[strata]
        repeats = self.bootstrap.resamples
        if not mixed.any() or not repeats:
            return None, None, int(mixed.sum())
        ranks = scipy.stats.rankdata(self.values)
        positives, negatives = int(self.positive.sum()), int((~self.positive).sum())
        random = np.random.default_rng((self.bootstrap.seed, 0x3A7C))
        order = np.argsort(strata, kind="stable")
        own = self.positive[order]
        found = float(ranks[self.positive].sum())
        drawn = np.empty(repeats)
        for repeat in range(repeats):
            mixed_up = random.permutation(len(strata))
            # Subjects in random order, then by stratum: a permutation of the ranks within each stratum.
            source = mixed_up[np.argsort(strata[mixed_up], kind="stable")]
            drawn[repeat] = ranks[source][own].sum()
        lowest = positives * (positives + 1) / 2
        p_value = (1 + int((drawn >= found - 1e-9).sum())) / (1 + repeats)
        return float((drawn.mean() - lowest) / (positives * negatives)), p_value, int(mixed.sum())


def _one_per_subject(answers: Predictions) -> tuple[Predictions, tuple[str, ...]]:
    """The first visit of each subject, where visits are scored: visits of one subject are not independent."""
    if SUBJECT_OF_VISIT not in answers.table:
        return answers, ()
    first = ~answers.table[SUBJECT_OF_VISIT].duplicated().to_numpy(dtype=bool)
    return answers.select(first), ("Of several visits of a subject the first counts.",) if not first.all() else ()


def _standardised_differences(
    positive: Booleans, features: Floats, weights: Floats, names: Sequence[str]
) -> dict[str, float]:
    """Weighted difference of means, divided by the pooled standard deviation without weights (Austin 2009)."""
    found = {}
    for name, values in zip(names, features.T, strict=True):
        means = [np.average(values[side], weights=weights[side]) for side in (positive, ~positive)]
        spread = np.sqrt((values[positive].var() + values[~positive].var()) / 2)
        difference = means[0] - means[1]
        found[name] = float(difference / spread) if spread > 0 else float(0.0 if difference == 0 else difference)
    return found


def _estimate(value: float, drawn: Floats, level: float) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None, note="The subjects are all of one class.")
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Estimate(float(value), note="No resamples.")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), method="bootstrap")


def _cells(part: ComparableScores | None) -> list[str]:
    if part is None:
        return ["too few", "", "", "", ""]
    largest = max(part.imbalance, key=lambda name: abs(part.imbalance[name]), default="")
    shown = f"{abs(part.imbalance[largest]):.2f} ({largest})" if largest else "none"
    subjects = f"{part.positive} and {part.negative}"
    return [subjects, f"{part.effective:.0f}", part.roc_auc.text(), part.balanced_accuracy.text(), shown]


def _warnings(parts: Mapping[str, ComparableScores | None]) -> list[str]:
    """Where classes still differ in a column after matching or weighting."""
    return [
        f"Warning: {title.lower()} subjects of the two classes still differ in {', '.join(part.unbalanced)}."
        for title, part in parts.items()
        if part is not None and title != "Unmatched" and part.unbalanced
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
