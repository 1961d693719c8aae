"""An evaluation in words: the verdict, what to distrust, and the classification report as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Scores

TITLES = {name: metric.title for name, metric in METRICS.items() if name != "macro_recall"}
TITLES["balanced_accuracy"] = "Balanced accuracy (macro recall)"
INTERVAL_WORDS = {"percentile": "percentiles of", "bca": "bias-corrected and accelerated, from"}
CLASS_TITLES = {name: metric.title for name, metric in CLASS_METRICS.items()}
"""What is shown, by name; macro recall is the balanced accuracy under its other name."""

FEW_OF_A_CLASS = 10
FEW_IN_ALL = 50
"""Below these numbers of subjects a score is called uncertain in words, whatever its interval says."""


def verdict(evaluation: Evaluation) -> tuple[str, ...]:
    """What the classifier can do and how sure that is, compared with always saying the most frequent class.

    Returns:
        Sentences, the most important first.
    """
    scores = evaluation.headline
    if evaluation.statement:
        return _accuracy_sentence(evaluation, scores), "That does not tell how it does on people it has never seen."
    return _accuracy_sentence(evaluation, scores), _gain_sentence(scores), *_ranking_sentences(scores)


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
    lines = [f"Evaluation of part '{evaluation.subset}'"]
    if evaluation.statement:
        lines.append(f"WARNING: {evaluation.statement}")
    lines += ["", *verdict(evaluation)]
    for scores in evaluation.scores.values():
        lines += ["", *_block(evaluation, scores)]
    lines += ["", interval_line(evaluation)]
    lines += [f"Note: {note}" for note in (*score_notes(evaluation), *cautions(evaluation))]
    return "\n".join(lines) + "\n"


def interval_line(evaluation: Evaluation) -> str:
    """How the intervals were made."""
    if not evaluation.resamples:
        return "No intervals: no resamples were asked for."
    return (
        f"In brackets: {evaluation.level:.0%} intervals, {INTERVAL_WORDS[evaluation.interval]} "
        f"{evaluation.resamples} bootstrap resamples "
        f"of {evaluation.group}s, seed {evaluation.seed}."
    )


def unit_word(evaluation: Evaluation, scores: Scores, number: int = 1) -> str:
    """What one judged unit is called: "subject", "scan" or "image", in the plural unless ``number`` is 1."""
    word = "image" if scores.unit == "image" else evaluation.group
    return word if number == 1 else f"{word}s"


def percent(share: float) -> str:
    """A share as whole per cent; never 0% or 100% for what is neither none nor all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


_LEAK = (
    "The classifier may have seen other images of the same people while it learnt, "
    "so that these scores do not tell how it does on new people."
)


def _accuracy_sentence(evaluation: Evaluation, scores: Scores) -> str:
    accuracy, interval = scores.metrics["accuracy"], ""
    if accuracy.low is not None and accuracy.high is not None:
        interval = f" ({evaluation.level:.0%} interval {percent(accuracy.low)} to {percent(accuracy.high)})"
    return (
        f"Of {scores.count:,} {_whom(evaluation, scores)} the classifier gets {percent(accuracy.value or 0.0)} right"
        f"{interval}; always saying '{scores.majority_class}' gets {percent(scores.majority_share)}."
    )


def _gain_sentence(scores: Scores) -> str:
    gain = scores.metrics["accuracy_gain"]
    if gain.low is None or gain.high is None:
        return "Whether that is a real difference cannot be told from so few data."
    if gain.low > 0:
        return "It is better than that by more than chance explains."
    if gain.high < 0:
        return "It is worse than that: as it is, it should not be used."
    return "It is not shown to be better than that."


def _whom(evaluation: Evaluation, scores: Scores) -> str:
    """Who was judged, and what the classifier had seen of them."""
    units = unit_word(evaluation, scores, scores.count)
    whose = units if units.startswith("subject") else f"{units} of people"
    if evaluation.subset == "train":
        return f"{units} that it was trained on,"
    if evaluation.statement:
        return f"{whose} that it may have seen while it learnt,"
    return (
        f"{units} by which its weights were chosen,"
        if evaluation.subset == "val"
        else f"{whose} that it has never seen,"
    )


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
    few = {name: count for name, count in scores.class_counts.items() if 0 < count < FEW_OF_A_CLASS}
    if few:
        counts = ", ".join(f"'{name}' {count}" for name, count in few.items())
        found.append(f"Few {unit_word(evaluation, scores, 0)} of a class ({counts}): its scores say little.")
    absent = [f"'{name}'" for name, count in scores.class_counts.items() if not count]
    if absent:
        found.append(f"No {unit_word(evaluation, scores)} of class {', '.join(absent)}: nothing is known about it.")
    return found


def _unlabelled_caution(evaluation: Evaluation) -> list[str]:
    if not evaluation.unlabelled:
        return []
    return [f"{evaluation.unlabelled} images without a known class were left out."]


def score_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What must be said about single scores: each note once, with the scores that it is about."""
    units: dict[str, list[str]] = {}
    for scores in evaluation.scores.values():
        for note, about in _notes_of(scores).items():
            units.setdefault(f"{', '.join(about)}: {note}.", []).append(unit_word(evaluation, scores))
    return tuple(f"By {' and by '.join(words)}, {line}" for line, words in units.items())


def _notes_of(scores: Scores) -> dict[str, list[str]]:
    """Each note with what it is about; those of a class only where there is no interval for it."""
    notes: dict[str, list[str]] = {}
    for note, names in _by_note(scores.metrics, TITLES).items():
        averages = [name for name in TITLES if not name.startswith("accuracy")]
        notes[note] = ["averages over the classes"] if names == averages else [TITLES[name] for name in names]
    for name, values in scores.by_class.items():
        without = {metric: value for metric, value in values.items() if value.low is None}
        for note, metrics in _by_note(without, CLASS_TITLES).items():
            some = "" if len(metrics) == len(CLASS_TITLES) else f" ({', '.join(CLASS_TITLES[one] for one in metrics)})"
            notes.setdefault(note, []).append(f"class '{name}'{some}")
    return notes


def _by_note(estimates: Mapping[str, Estimate], titles: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in titles:
        if name in estimates and estimates[name].note:
            found.setdefault(estimates[name].note, []).append(name)
    return found


def _block(evaluation: Evaluation, scores: Scores) -> list[str]:
    head = f"By {unit_word(evaluation, scores)} ({scores.count:,} {unit_word(evaluation, scores, scores.count)})"
    return [head, "-" * len(head), *_overall_rows(scores), "", *_class_rows(scores), "", *_confusion_rows(scores)]


def _overall_rows(scores: Scores) -> list[str]:
    rows = [(title, scores.metrics[name].text()) for name, title in TITLES.items()]
    rows.insert(1, (f"Always '{scores.majority_class}'", f"{scores.majority_share:.3f}"))
    return _aligned(rows)


def _class_rows(scores: Scores) -> list[str]:
    rows = [
        (name, *(estimates[metric].text(2) for metric in CLASS_TITLES), str(scores.class_counts[name]))
        for name, estimates in scores.by_class.items()
    ]
    return _aligned([("Class", *CLASS_TITLES.values(), "Count"), *rows])


def _confusion_rows(scores: Scores) -> list[str]:
    classes = list(scores.class_counts)
    rows = [(name, *map(str, row)) for name, row in zip(classes, scores.confusion, strict=True)]
    return ["Confusion matrix: true class in rows, called class in columns", *_aligned([("", *classes), *rows])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def join_words(words: Sequence[str], last: str) -> str:
    """``a, b or c``, with ``last`` before the last one."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
