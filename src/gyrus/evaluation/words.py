"""An evaluation in words: the verdict, what to distrust, and the classification report as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Scores

FEW_OF_A_CLASS = 10
FEW_IN_ALL = 50
"""Below these numbers of subjects a score is called uncertain in words, whatever its interval says."""


def verdict(evaluation: Evaluation) -> tuple[str, ...]:
    """What the classifier can do and how sure that is, compared with always saying the most frequent class.

    Returns:
        Sentences, the most important first.
    """
    scores = evaluation.headline
    return (*_accuracy_sentences(evaluation, scores), *_ranking_sentences(scores))


def cautions(evaluation: Evaluation) -> tuple[str, ...]:
    """What a reader should distrust, in sentences; the warning about the split comes first."""
    return (
        *([f"{_capital(evaluation.statement)}. {_LEAK}"] if evaluation.statement else []),
        *evaluation.notes,
        *_size_cautions(evaluation),
        *_unlabelled_caution(evaluation),
    )


def report_text(evaluation: Evaluation) -> str:
    """The classification report as text: warnings, then a block a unit, by subject first."""
    lines = [f"Evaluation of part '{evaluation.part}'"]
    if evaluation.statement:
        lines.append(f"WARNING: {evaluation.statement}")
    lines += ["", *verdict(evaluation)]
    for scores in evaluation.scores.values():
        lines += ["", *_block(evaluation, scores)]
    lines += ["", _interval_line(evaluation)]
    lines += [f"Note: {caution}" for caution in cautions(evaluation)[bool(evaluation.statement) :]]
    return "\n".join(lines) + "\n"


def unit_word(evaluation: Evaluation, scores: Scores, number: int = 1) -> str:
    """What one judged unit is called: "subject", "scan" or "image", in the plural unless ``number`` is 1."""
    word = "image" if scores.unit == "image" else evaluation.group
    return word if number == 1 else f"{word}s"


_LEAK = (
    "The classifier may have seen other images of the same people while it learnt, "
    "so that these scores do not tell how it does on new people"
)


def _accuracy_sentences(evaluation: Evaluation, scores: Scores) -> list[str]:
    metrics = scores.metrics
    units = unit_word(evaluation, scores, scores.count)
    first = (
        f"Of {scores.count} {units} the classifier gets {_percent(metrics['accuracy'].value)} right"
        f"{_percent_interval(metrics['accuracy'].low, metrics['accuracy'].high)}; "
        f"always saying '{scores.majority_class}' gets {_percent(scores.majority_share)}."
    )
    gain = metrics["accuracy_gain"]
    if gain.low is None or gain.high is None:
        return [first, "Whether that is a real difference cannot be told from so few data."]
    if gain.low > 0:
        return [first, "It is better than that by more than chance explains."]
    if gain.high < 0:
        return [first, "It is worse than that: as it is, it should not be used."]
    return [first, "It is not shown to be better than that."]


def _ranking_sentences(scores: Scores) -> list[str]:
    area = scores.metrics["macro_roc_auc"]
    if area.value is None or area.low is None or area.high is None:
        return []
    if area.low > 0.5:
        return [f"Its probabilities do rank the classes better than chance: macro ROC AUC {area.text(2)}, chance 0.5."]
    return [f"Its probabilities are not shown to rank the classes better than chance: macro ROC AUC {area.text(2)}."]


def _size_cautions(evaluation: Evaluation) -> list[str]:
    scores, found = evaluation.headline, []
    if scores.count < FEW_IN_ALL:
        units = unit_word(evaluation, scores, scores.count)
        found.append(f"Only {scores.count} {units} could be judged: every score is uncertain.")
    for name, count in scores.class_counts.items():
        units = unit_word(evaluation, scores, count)
        if not count:
            found.append(f"There are no {units} of class '{name}': nothing is known about it.")
        elif count < FEW_OF_A_CLASS:
            found.append(f"Class '{name}' has only {count} {units}: its scores say little.")
    return found


def _unlabelled_caution(evaluation: Evaluation) -> list[str]:
    if not evaluation.unlabelled:
        return []
    return [f"{evaluation.unlabelled} images without a known class were left out."]


def _block(evaluation: Evaluation, scores: Scores) -> list[str]:
    head = f"By {unit_word(evaluation, scores)} ({scores.count} {unit_word(evaluation, scores, scores.count)})"
    return [head, "-" * len(head), *_overall_rows(scores), "", *_class_rows(scores), "", *_confusion_rows(scores)]


def _overall_rows(scores: Scores) -> list[str]:
    rows = [(metric.title, scores.metrics[name].text()) for name, metric in METRICS.items()]
    rows.insert(1, (f"Always '{scores.majority_class}'", f"{scores.majority_share:.3f}"))
    titles = {name: metric.title for name, metric in METRICS.items()}
    return _aligned(rows) + note_lines(scores.metrics, titles)


def _class_rows(scores: Scores) -> list[str]:
    titles = {name: metric.title for name, metric in CLASS_METRICS.items()}
    rows = [
        (name, *(estimates[metric].text(2) for metric in titles), str(scores.class_counts[name]))
        for name, estimates in scores.by_class.items()
    ]
    notes = [f"{name}: {line}" for name, values in scores.by_class.items() for line in note_lines(values, titles)]
    return _aligned([("Class", *titles.values(), "Count"), *rows]) + notes


def note_lines(estimates: Mapping[str, Estimate], titles: Mapping[str, str]) -> list[str]:
    """Each note once, with the scores that it is about: "Precision, Recall: no interval: ..."."""
    notes = dict.fromkeys(estimate.note for estimate in estimates.values() if estimate.note)
    about = {note: [titles[name] for name, value in estimates.items() if value.note == note] for note in notes}
    return [f"{_listed(names, titles)}: {note}" for note, names in about.items()]


def _listed(names: Sequence[str], titles: Mapping[str, str]) -> str:
    return "All scores" if len(names) == len(titles) else ", ".join(names)


def _confusion_rows(scores: Scores) -> list[str]:
    classes = list(scores.class_counts)
    rows = [(name, *map(str, row)) for name, row in zip(classes, scores.confusion, strict=True)]
    return ["Confusion matrix: true class in rows, called class in columns", *_aligned([("", *classes), *rows])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _interval_line(evaluation: Evaluation) -> str:
    if not evaluation.resamples:
        return "No intervals: no resamples were asked for."
    return (
        f"In brackets: {evaluation.level:.0%} intervals, percentiles of {evaluation.resamples} bootstrap resamples "
        f"of {evaluation.group}s, seed {evaluation.seed}."
    )


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.0%}"


def _percent_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (between {low:.0%} and {high:.0%})"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
