"""Reporting checklists (TRIPOD+AI, CLAIM) filled with what a run shows, and risks of bias in the sense of PROBAST+AI.

No item is claimed that the files of the run do not show; what only people can answer is marked so. The risks follow the
domains of PROBAST+AI (Moons KGM, et al. BMJ 2025;388:e082505) as far as a run shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import yaml

from gyrus.datasets.manifest import count_reasons
from gyrus.evaluation.assessment import assessment_sentences
from gyrus.evaluation.metrics import headline_metrics
from gyrus.evaluation.result import Evaluation, limitations, verdict
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.extras import missing_dependency
from gyrus.files import atomic_path
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.registry import look_up
from gyrus.reporting.html import subset_title
from gyrus.reporting.report_content import command_text, data_facts, environment_facts
from gyrus.reporting.run_report import RunResults, findings_of, split_facts, training_facts
from gyrus.text import counted, markdown
from gyrus.types import SUBSETS

if TYPE_CHECKING:
    from gyrus.runs.run_folder import Run

Status = Literal["from the run", "partly from the run", "only people can answer", "not shown by this run"]

STANDARDS = ("tripod-ai", "claim")

SITES = ("site", "center", "centre", "scanner")
"""Columns of the data that name clusters of people."""

PEOPLE = ("age", "sex", "gender", "ethnicity", "race", *SITES)
"""Columns of the data that make groups of people."""

MOST_EXCLUDED = 0.05
"""Fraction of excluded samples above which the exclusion is a risk."""

FEW_PEOPLE = 100
"""People of each class that an evaluation needs at least (Collins GS, et al. Stat Med 2016, doi 10.1002/sim.6787)."""


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes:
        number: Its number in the standard.
        section: Its section.
        text: What is asked, paraphrased.
        status: Who answers it.
        answer: What the run shows; empty if nothing.
        people: What only people can say; empty if nothing.
    """

    number: str
    section: str
    text: str
    status: Status
    answer: str
    people: str


@dataclass(frozen=True)
class Checklist:
    """A filled checklist.

    Attributes:
        title: Name of the standard.
        source: Its publication.
        about: How the items relate to the published form.
        run: Name of the run.
        items: In the order of the standard.
        risks: Risks of bias that the run shows, as sentences.
    """

    title: str
    source: str
    about: str
    run: str
    items: tuple[Item, ...]
    risks: tuple[str, ...]

    def summary(self) -> str:
        """How many items have which status."""
        counts = pd.Series([item.status for item in self.items]).value_counts()
        return "; ".join(f"{count} {status}" for status, count in counts.items())

    def markdown(self) -> str:
        """The checklist as Markdown."""
        lines = [
            f"# {self.title}: {markdown(self.run)}",
            "",
            f"{self.source} {self.about}",
            "",
            f"Items: {self.summary()}.",
        ]
        lines += ["", "| item | asked | answer | status |", "|---|---|---|---|"]
        for item in self.items:
            parts = [markdown(item.answer)] if item.answer else []
            parts += [f"*To do:* {markdown(item.people)}"] if item.people else []
            cells = (f"{item.number} {item.section}", item.text, "<br>".join(parts), item.status)
            lines.append("| " + " | ".join(cell.replace("\n", "<br>") for cell in cells) + " |")
        lines += ["", "## Risks of bias that the run shows", ""]
        lines += [f"- {markdown(risk)}" for risk in self.risks] or ["None of those that a run can show."]
        return "\n".join([*lines, "", "This does not replace an assessment with PROBAST+AI by people.", ""])

    def save_docx(self, path: Path) -> None:
        """Write the checklist as a Word document, atomically.

        Raises:
            MissingDependencyError: python-docx is not installed.
        """
        try:
            from docx import Document
            from docx.enum.section import WD_ORIENT
        except ImportError as error:
            raise missing_dependency("Writing DOCX", "docx") from error
        document = Document()
        page = document.sections[0]
        page.orientation = WD_ORIENT.LANDSCAPE
        page.page_width, page.page_height = page.page_height, page.page_width
        document.add_heading(f"{self.title}: {self.run}", 1)
        document.add_paragraph(f"{self.source} {self.about}")
        document.add_paragraph(f"Items: {self.summary()}.")
        table = document.add_table(rows=1, cols=4)
        table.style = "Light Grid"
        for cell, text in zip(table.rows[0].cells, ("Item", "Asked", "Answer", "Status"), strict=True):
            cell.text = text
        for item in self.items:
            people = f"To do: {item.people}" if item.people else ""
            answer = "\n".join(filter(None, [item.answer, people]))
            for cell, text in zip(
                table.add_row().cells, (f"{item.number} {item.section}", item.text, answer, item.status), strict=True
            ):
                cell.text = text
        document.add_heading("Risks of bias that the run shows", 2)
        for risk in self.risks or ("None of those that a run can show.",):
            document.add_paragraph(risk, style="List Bullet")
        with atomic_path(path) as temporary:
            document.save(str(temporary))


@dataclass(frozen=True, eq=False)
class Facts:
    """What the answers are made from.

    Attributes:
        run: The run.
        results: Its results: ``RunResults``, or the ``NumberResults`` of a run that predicts a number.
        config: Its config, as plain values.
    """

    run: Run
    results: Any
    config: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the config."""
        return self.config.get(name) or {}


def fill(run: Run, standard: str) -> Checklist:
    """Fill a checklist with what a finished run shows.

    Args:
        run: A run that predicts classes.
        standard: A name of :data:`STANDARDS`.

    Raises:
        UnknownNameError: There is no such standard.
        DataError: A file of the run is missing or damaged.
    """
    return fill_with(run, standard, RunResults.load(run), ANSWERS, risks)


def fill_with(
    run: Run,
    standard: str,
    results: Any,
    how: Mapping[str, Callable[[Facts], str]],
    risks_of: Callable[[Facts], tuple[str, ...]],
) -> Checklist:
    """Fill a checklist.

    Args:
        run: The run.
        standard: A name of :data:`STANDARDS`.
        results: Its results, as :class:`Facts` holds them.
        how: The answers by the names of the items.
        risks_of: The risks of bias.

    Raises:
        UnknownNameError: There is no such standard.
        DataError: A file of the run is missing or damaged.
    """
    look_up(standard, dict.fromkeys(STANDARDS), "checklist")
    text = (resources.files("gyrus.reporting") / "checklists" / f"{standard}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    facts = Facts(run, results, config)
    answers = {name: answer(facts) for name, answer in how.items()}
    items = tuple(_item(entry, answers) for entry in document["items"])
    return Checklist(document["title"], document["source"], document["about"], run.title, items, risks_of(facts))


def _item(entry: Mapping[str, str], answers: Mapping[str, str]) -> Item:
    key, people = entry.get("answer"), entry.get("people", "")
    answer = answers[key] if key else ""
    status: Status
    if answer:
        status = "partly from the run" if people else "from the run"
    else:
        status = "only people can answer" if people else "not shown by this run"
    return Item(entry["number"], entry["section"], entry["item"], status, answer, people)


def _lines(facts: Any) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts)


def _data(facts: Facts) -> str:
    manifest = facts.results.manifest
    return f"{_lines(data_facts(manifest))}."


def _purpose(facts: Facts) -> str:  # noqa: ARG001
    return "The run develops a classifier and evaluates it internally, on subjects of the same data set."


def _column(facts: Facts, *names: str) -> str:
    table = facts.results.manifest.table
    return next((name for name in table.columns if name.lower() in names), "")


def _sites(facts: Facts) -> str:
    name = _column(facts, *SITES)
    if not name:
        return ""
    counts = facts.results.manifest.table.drop_duplicates("subject")[name].value_counts()
    return f"Column {name}: " + ", ".join(f"{site}: {count} subjects" for site, count in counts.items())


def _preprocessing(facts: Facts) -> str:
    section = facts.section("preprocessing")
    steps = [*(section.get("volume") or ()), *(section.get("steps") or ())]
    words = [", ".join(str(value) for value in step.values() if value not in (None, "")) for step in steps]
    intensity = section.get("intensity") or {}
    fitted = (
        " Intensities are scaled with numbers fitted on the training set."
        if intensity.get("method") == "dataset"
        else ""
    )
    return f"Steps, the same for all images: {'; '.join(words)}.{fitted}"


def _outcome(facts: Facts) -> str:
    manifest = facts.results.manifest
    merged = facts.section("data").get("merge") or {}
    words = (
        f" Merged classes: {'; '.join(f'{name} = {list(parts)}' for name, parts in merged.items())}." if merged else ""
    )
    order = " The classes are ordered." if manifest.target.is_ordered else ""
    return f"Classes: {', '.join(manifest.classes)}.{order}{words}"


def _predictors(facts: Facts) -> str:
    columns = facts.section("data").get("table_columns") or ()
    image = f"Pixels of an image ({facts.results.manifest.spatial_dims}D)." if facts.results.manifest.has_images else ""
    table = f" Columns of a table: {', '.join(columns)}." if columns else ""
    return f"{image}{table}".strip()


def _acquisition(facts: Facts) -> str:
    manifest = facts.results.manifest
    if not manifest.has_images:
        return ""
    shapes = manifest.table["shape"].map(lambda shape: " x ".join(map(str, shape))).value_counts()
    sizes = ", ".join(f"{shape} ({count})" for shape, count in shapes.head(3).items())
    return f"Sizes of the images as stored: {sizes}{' and others' if len(shapes) > 3 else ''}."


def _sample_size(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    counts = ", ".join(f"{count} {name}" for name, count in scores.class_counts.items())
    return f"No sample size was calculated. The test set has {counts} ({unit_words(facts)})."


def unit_words(facts: Facts) -> str:
    """What the scores are by."""
    return "by subject" if facts.results.evaluation.headline.unit == "subject" else "by image"


def missing_words(facts: Facts) -> str:
    """How many samples were excluded, and why."""
    problems = facts.results.manifest.problems
    if not problems:
        return "No file was excluded."
    return f"{counted(len(problems), 'sample was', 'samples were')} excluded: {count_reasons(problems)}."


def _partitions(facts: Facts) -> str:
    return f"{_lines(split_facts(facts.results.split))}.{_inferred(facts)}"


def _inferred(facts: Facts) -> str:
    inferred = facts.section("data").get("subjects") == "inferred"
    return " Subjects were inferred from the pixels, so one person may be several of them." if inferred else ""


def _disjoint(facts: Facts) -> str:
    split = facts.results.split
    if not any(split.subjects.values()):
        return "Subjects are unknown; the images of the subsets are disjoint, the people may not be."
    shared = {
        f"{one} and {other}": len(set(split.subjects[one]) & set(split.subjects[other]))
        for number, one in enumerate(SUBSETS)
        for other in SUBSETS[number + 1 :]
    }
    counts = ", ".join(f"{names}: {count}" for names, count in shared.items())
    return f"Subjects in two subsets: {counts}.{_inferred(facts)}"


def _model(facts: Facts) -> str:
    return f"{_lines(training_facts(facts.run.facts, facts.run.description))}."


def _development(facts: Facts) -> str:
    return f"{_model(facts)} {_training(facts)}"


def _clusters(facts: Facts) -> str:
    level = facts.results.evaluation.level
    return " ".join(table.text(level) for table in _groups(facts) if table.column.lower() in SITES)


def _measures(facts: Facts) -> str:
    evaluation = facts.results.evaluation
    names = headline_metrics(ordered=evaluation.target.is_ordered).values()
    compared = " Baselines on the same subjects are compared by paired differences." if facts.results.baselines else ""
    by = unit_words(facts)
    return f"{', '.join(names)} and scores of each class, {by}; confusion matrix and ROC curves.{compared}"


def _uncertainty(facts: Facts) -> str:
    evaluation = facts.results.evaluation
    if not evaluation.resamples:
        return ""
    return (
        f"{evaluation.level:.0%} confidence intervals of all scores ({evaluation.interval}, {evaluation.resamples:,} "
        f"bootstrap resamples of {'subjects' if evaluation.group != 'image' else 'images'}, seed {evaluation.seed})."
    )


def _calibration(facts: Facts) -> str:
    assessment = facts.results.assessment
    if not assessment:
        return ""
    count = 3 if assessment.after else 2
    without = [note for note in assessment.notes if note.startswith("No calibration")]
    sentences = ["The model was not updated after its evaluation.", *assessment_sentences(assessment)[:count], *without]
    return " ".join(sentences)


def _prediction(facts: Facts) -> str:
    pooled = " Probabilities of the images of a subject are averaged." if unit_words(facts) == "by subject" else ""
    return f"Probabilities of the network for each image of the test set.{pooled}"


def _imbalance(facts: Facts) -> str:
    training, split = facts.section("training"), facts.results.split
    table = facts.results.manifest.table
    inside = table[table["sample"].isin(split.samples["train"])]["label"].value_counts()
    counts = ", ".join(f"{name}: {inside.get(name, 0)}" for name in facts.results.manifest.classes)
    weights, sampler = (training.get("loss") or {}).get("class_weights"), training.get("sampler")
    used = f"Class weights of the loss: {weights or 'none'}; sampler: {sampler or 'none'}."
    return f"Training images by class: {counts}. {used}"


def _subgroups(facts: Facts) -> str:
    level = facts.results.evaluation.level
    return " ".join(table.text(level) for table in _groups(facts) if table.column.lower() in PEOPLE)


def _groups(facts: Facts) -> tuple[SubgroupTable, ...]:
    return facts.results.subgroups.tables if facts.results.subgroups else ()


def _output(facts: Facts) -> str:
    assessment = facts.results.assessment
    points = f" Operating points chosen on the validation set: {len(assessment.points)}." if assessment else ""
    return f"A probability for each class; the class with the highest one is predicted.{points}"


def _differences(facts: Facts) -> str:
    group = facts.section("split").get("group")
    if facts.results.split.method == "leave-one-group-out":
        return f"The test set is one group of the column {group}; no image of this group was used in training."
    if facts.results.split.method == "given":
        return "The training and test sets are those that came with the data."
    return "Training and test set are random parts of one data set, read and prepared in the same way."


def _flow(facts: Facts) -> str:
    manifest, split = facts.results.manifest, facts.results.split
    table = manifest.table
    words = []
    for subset in SUBSETS:
        inside = table[table["sample"].isin(split.samples[subset])]
        classes = (
            inside.groupby("label")["subject"].nunique() if split.subjects[subset] else inside["label"].value_counts()
        )
        unit = "subjects" if split.subjects[subset] else "images"
        counts = ", ".join(f"{name} {classes.get(name, 0)}" for name in manifest.classes)
        words.append(f"{subset_title(subset)}: {counts} {unit}")
    return f"{'; '.join(words)}. {missing_words(facts)}"


def _characteristics(facts: Facts) -> str:
    table, split = facts.results.manifest.table, facts.results.split
    found = []
    for name in filter(None, (_column(facts, "age"), _column(facts, "sex", "gender"))):
        for subset in SUBSETS:
            inside = table[table["sample"].isin(split.samples[subset])].drop_duplicates("subject")[name].dropna()
            if len(inside):
                found.append(f"{name}, {subset_title(subset).lower()}: {_distribution(inside)}")
    return "; ".join(found)


def _distribution(values: pd.Series) -> str:
    """Mean and standard deviation of numbers, counts of others."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and numbers.nunique() > 5:
        return f"mean {numbers.mean():.1f}, SD {numbers.std():.1f} (n = {len(numbers)})"
    return ", ".join(f"{value} {count}" for value, count in values.astype(str).value_counts().items())


def _specification(facts: Facts) -> str:  # noqa: ARG001
    return (
        "Config, weights (safetensors), class names and intensity scaling are files of the run folder; gyrus export "
        "writes a bundle."
    )


def _performance(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    shown = []
    for name, title in headline_metrics(ordered=facts.results.evaluation.target.is_ordered).items():
        estimate = scores.metrics.get(name)
        if estimate is not None and estimate.value is not None:
            interval = f" [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.low is not None else ""
            shown.append(f"{title} {estimate.value:.3f}{interval}")
    return f"Test set, {scores.count} {'subjects' if scores.unit == 'subject' else 'images'}: {'; '.join(shown)}."


def _verdict(facts: Facts) -> str:
    return " ".join(verdict(facts.results.evaluation, facts.results.baselines))


def _limitations(facts: Facts) -> str:
    return " ".join(limitations(facts.results.evaluation))


def _unlike(facts: Facts) -> str:
    if not facts.run.likeness.is_file():
        return ""
    found = LikenessSummary.load(facts.run.likeness)
    skipped = facts.section("data").get("on_bad_file") == "skip"
    tested = "test subjects" if found.by_subject else "test images"
    return (
        f"Unreadable files are {'left out and listed' if skipped else 'refused'} with a reason. Each prediction has a "
        f"p-value of being unlike the training data; {found.unlike} of {found.count} {tested} have one of at most "
        f"{found.alarm:.2g}."
    )


def _code(facts: Facts) -> str:
    libraries = facts.run.environment["libraries"]
    version = next(iter(libraries.values()), "")
    return f"Gyrus {version}, Apache-2.0. Command: {command_text(facts.run.facts['command'])}"


def _software(facts: Facts) -> str:
    return f"{_lines(environment_facts(facts.run.environment))}."


def _initialisation(facts: Facts) -> str:
    model = facts.section("model")
    seed = facts.config.get("seed", 0)
    return f"Pretrained weights: {model['pretrained']}." if model.get("pretrained") else f"Random, seed {seed}."


def _training(facts: Facts) -> str:
    training, augmentation = facts.section("training"), facts.section("augmentation")
    steps = [step["step"] for step in augmentation.get("steps") or ()]
    optimiser = training.get("optimiser") or {}
    return (
        f"{optimiser.get('name', '')}, learning rate {optimiser.get('lr', '')}, "
        f"batch size {training.get('batch_size', '')}, at most {training.get('epochs', '')} epochs. "
        f"Augmentation: {', '.join(steps) or 'none'}. One model."
    )


def _model_selection(facts: Facts) -> str:
    epoch = facts.run.facts.get("best_epoch")
    monitor = facts.section("training").get("monitor")
    return f"Epoch {epoch}, selected by {monitor} on the validation set. The test set was not used." if epoch else ""


def _selection(facts: Facts) -> str:
    data = facts.section("data")
    chosen = {name: data.get(name) for name in ("slices", "stack", "patches", "files") if data.get(name)}
    return f"{chosen}." if chosen else "All images of the data set were used."


def _robustness(facts: Facts) -> str:
    level = facts.results.evaluation.level
    found = [table.text(level) for table in _groups(facts) if table.column.lower() not in PEOPLE]
    path = facts.run.shuffled / "metrics.json"
    if path.is_file():
        value = Evaluation.load(path).headline.metrics["balanced_accuracy"].value
        by = unit_words(facts)
        found.append(f"Control with labels shuffled across subjects: balanced accuracy {value:.3f} {by}.")
    return " ".join(found)


def _explanation(facts: Facts) -> str:
    checks = facts.run.explanation / "checks.json"
    if not checks.is_file():
        return ""
    return (
        "Heat maps, compared with an edge detector and with randomised weights; results in "
        "explanation/explanation.html."
    )


def _failures(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    wrong = sum(sum(row) - row[index] for index, row in enumerate(scores.confusion))
    page = "; report.html shows the most confident wrong predictions" if facts.run.report.is_file() else ""
    return f"{wrong} of {scores.count} wrong; the confusion matrix is in metrics.json{page}."


def _nothing(facts: Facts) -> str:  # noqa: ARG001
    return ""


ANSWERS: dict[str, Callable[[Facts], str]] = {
    "acquisition": _acquisition,
    "calibration": _calibration,
    "characteristics": _characteristics,
    "clusters": _clusters,
    "code": _code,
    "data": _data,
    "development": _development,
    "differences": _differences,
    "disjoint": _disjoint,
    "ensemble": _nothing,
    "explanation": _explanation,
    "external": _nothing,
    "failures": _failures,
    "flow": _flow,
    "imbalance": _imbalance,
    "initialisation": _initialisation,
    "limitations": _limitations,
    "measures": _measures,
    "missing": missing_words,
    "model": _model,
    "model_selection": _model_selection,
    "outcome": _outcome,
    "output": _output,
    "partitions": _partitions,
    "performance": _performance,
    "prediction": _prediction,
    "predictors": _predictors,
    "preprocessing": _preprocessing,
    "purpose": _purpose,
    "robustness": _robustness,
    "sample_size": _sample_size,
    "selection": _selection,
    "sites": _sites,
    "software": _software,
    "specification": _specification,
    "subgroups": _subgroups,
    "training": _training,
    "uncertainty": _uncertainty,
    "unlike": _unlike,
    "verdict": _verdict,
}
"""What a run can answer, by the name that the files of the standards use."""


def risks(facts: Facts) -> tuple[str, ...]:
    """Risks of bias that a run shows, by the domains of PROBAST+AI."""
    results = facts.results
    scores = results.evaluation.headline
    few = [f"{name} {count}" for name, count in scores.class_counts.items() if count < FEW_PEOPLE]
    small = f"Analysis: few {scores.unit}s in the test set ({', '.join(few)}; at least {FEW_PEOPLE} each are advised)."
    return shared_risks(facts, {small: bool(few)}, in_groups=bool(_subgroups(facts)))


def shared_risks(facts: Facts, of_the_sample: Mapping[str, bool], *, in_groups: bool) -> tuple[str, ...]:
    """Risks that do not depend on what is predicted.

    Args:
        facts: What the answers are made from.
        of_the_sample: Risks of the size of the test set, and whether they are present.
        in_groups: Whether groups of people were assessed.
    """
    results = facts.results
    evaluation, manifest = results.evaluation, results.manifest
    excluded = len(manifest.problems)
    every = excluded + len(manifest)
    found = {
        f"Analysis: {evaluation.warning}.": bool(evaluation.warning),
        "Participants: subjects were inferred from the pixels, not given.": facts.section("data").get("subjects")
        == "inferred",
        f"Participants: {excluded} of {every} samples were excluded.": excluded > MOST_EXCLUDED * every,
        **of_the_sample,
        "Analysis: calibration was not assessed.": results.assessment is None,
        "Analysis: no comparison with simple baselines.": results.baselines is None,
        "Analysis: performance in groups of people (age, sex, site) was not assessed.": not in_groups,
        "Analysis: one split; the variation between splits was not measured (gyrus crossval).": (
            results.split.method == "holdout"
        ),
        "Participants and applicability: no evaluation on another cohort (gyrus test).": True,
        "Participants and predictors: no audit for shortcuts and duplicates (gyrus audit --run).": (
            findings_of(facts.run, manifest) is None
        ),
    }
    return tuple(text for text, present in found.items() if present)
