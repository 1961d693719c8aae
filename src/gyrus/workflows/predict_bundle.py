"""Predict new images with a bundle, without PyTorch."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gyrus.datasets.targets import CLASSES, Target, refuse_number
from gyrus.errors import ConfigError, DataError
from gyrus.export.bundle import Bundle, LoadedMember
from gyrus.export.manifest import CHECKSUMS, REFERENCE, REFERENCE_TABLE, BundleManifest
from gyrus.files import atomic_path, file_digest, temporary_folder
from gyrus.inference.columns import exported_columns
from gyrus.inference.decision_rule import softmax
from gyrus.inference.engines import images_at_once
from gyrus.inference.late_fusion import known_subjects
from gyrus.inference.measures import numbers_beside
from gyrus.inference.unlike_training import (
    NO_REFERENCE,
    combine_likeness,
    count_unlike,
    likeness_columns,
    measure_images,
)
from gyrus.text import for_spreadsheets
from gyrus.types import SPLIT_WARNINGS, SplitUnit
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.skipped_samples import for_each_input, write_skipped

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest, Problem
    from gyrus.inference.number_predictions import AnyPredictions
    from gyrus.reporting.structured_report import ReportedClassifier
    from gyrus.workflows.experiment_config import DataConfig
    from gyrus.workflows.load_data import Input
    from gyrus.workflows.structured_reports import StructuredReports

TABLES = (".csv", ".parquet", ".json")


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a bundle, without pandas, so that one image is answered quickly.

    Attributes:
        samples: N names: path of the image, or path#row.
        subjects: The subject of each, where known.
        logits: float64 (N, K). Of a number the numbers (N, 1), or their sorted quantiles (N, Q).
        classes: The class names in the order of the columns; none for a number.
        split_unit: What was kept whole when the data of the classifier were split.
        engines: What ran the networks.
        columns: Further columns, as :class:`gyrus.inference.predictions.Predictions` exports them, N values each.
        target: What is predicted.
        levels: Levels of the quantiles of a number; none for one output.
    """

    samples: tuple[str, ...]
    subjects: tuple[str | None, ...]
    logits: np.ndarray
    classes: tuple[str, ...]
    split_unit: SplitUnit
    engines: tuple[str, ...] = ()
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    target: Target = CLASSES
    levels: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def warning(self) -> str:
        """The warning about the split that goes with every result; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    @property
    def numbers(self) -> np.ndarray:
        """The predicted numbers (N,): the output, or the median of the quantiles."""
        return np.asarray(self.logits[:, self.levels.index(0.5) if self.levels else 0])

    def predictions(self) -> AnyPredictions:
        """The same as a table of predictions."""
        from gyrus.inference.number_predictions import NumberPredictions
        from gyrus.inference.predictions import Predictions

        about: dict[str, Any] = {
            "split_unit": self.split_unit,
            "subset": "new",
            "subjects": self.subjects,
            "target": self.target,
        }
        found: AnyPredictions
        if self.target.is_number:
            found = NumberPredictions.from_outputs(self.samples, self.logits, levels=self.levels, **about)
        else:
            found = Predictions.from_logits(self.samples, self.logits, classes=self.classes, **about)
        return replace(found, engines=self.engines, table=found.table.assign(**self.columns))

    def export(self, path: Path) -> None:
        """Write the table that ``predictions().export`` writes, usually without pandas."""
        texts = (*self.samples, *(name or "" for name in self.subjects), *self.classes)
        # Names that spreadsheets would run, or that break lines, are for the one writer that knows them.
        plain = all(text == for_spreadsheets(text) and "\r" not in text for text in texts)
        if path.suffix.lower() != ".csv" or not plain:
            self.predictions().export(path)
            return
        further = exported_columns(self.columns)
        names, answers = self._answer_columns()
        more = [["" if _is_missing(value) else value for value in self.columns[name].tolist()] for name in further]
        rows = zip(self.samples, self.subjects, answers, *more, strict=True)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["sample", "subject", "target", *names, *further])
            for sample, subject, answer, *values in rows:
                writer.writerow([sample, subject or "", "", *answer, *values])

    def _answer_columns(self) -> tuple[list[str], list[list[object]]]:
        """The names of the columns of the answer itself, and their values for each row."""
        if self.target.is_number:
            names = ["prediction", *[f"quantile:{level:g}" for level in self.levels]]
            quantiles = self.logits.tolist() if self.levels else [[] for _ in self.samples]
            return names, [[number, *row] for number, row in zip(self.numbers.tolist(), quantiles, strict=True)]
        names = ["predicted", *[f"probability:{name}" for name in self.classes]]
        best = [self.classes[place] for place in self.logits.argmax(axis=1)]
        return names, [[name, *row] for name, row in zip(best, softmax(self.logits).tolist(), strict=True)]

    @classmethod
    def joined(cls, several: Sequence[Answers]) -> Answers:
        """The answers to several inputs; a sample that occurs twice counts once."""
        first: dict[str, tuple[int, int]] = {}
        for number, answers in enumerate(several):
            for row, sample in enumerate(answers.samples):
                first.setdefault(sample, (number, row))
        places = first.values()
        names = dict.fromkeys(name for answers in several for name in answers.columns)

        def value(number: int, row: int, name: str) -> object:
            column = several[number].columns.get(name)
            return np.nan if column is None else column[row]

        return replace(
            several[0],
            samples=tuple(first),
            subjects=tuple(several[number].subjects[row] for number, row in places),
            logits=np.stack([several[number].logits[row] for number, row in places]),
            columns={name: np.array([value(*place, name) for place in places]) for name in names},
        )


def predict_bundle(
    bundle: Bundle | str | Path,
    inputs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    dicom_sr: str | Path | None = None,
    data: DataConfig | None = None,
    engine: str = "auto",
    display: Display = SILENT,
) -> Answers:
    """Predict new images with a bundle.

    Args:
        bundle: The bundle, its folder, or its address on the Hub: ``hf:owner/name`` or ``hf:owner/name@revision``.
        inputs: Image files, folders or tables.
        out: The table to write, as for :func:`gyrus.workflows.predict.predict`.
        dicom_sr: A new folder for one DICOM Structured Report per series; all inputs must be DICOM.
        data: How to read the inputs; labels are not needed.
        engine: As for :meth:`gyrus.export.bundle.Bundle.open`.
        display: Where progress is shown.

    Raises:
        DataError: An input cannot be read, or the bundle is damaged.
        ConfigError: ``out`` has another suffix.
        BadFilesError: There are DICOM series whose headers do not allow a report; all else is written.
    """
    require_suffix(out)
    reports = open_reports(dicom_sr)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, engine, say=display.say)
    if not inputs and data and data.table and opened.manifest.inputs == "table":
        inputs, data = [data.table], data.model_copy(update={"table": None})
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    if reports:
        refuse_number(opened.manifest.target, "DICOM Structured Reports", "Write a table with --out.")
        from gyrus.workflows.experiment_config import DataConfig

        data = data or DataConfig()  # not the short way for one image
    answers, skipped = _answer_all(opened, inputs, data, display, reports)
    answers = _decided(opened, replace(answers, engines=opened.engines), display)
    if out is not None:
        answers.export(Path(out))
        write_skipped(skipped, Path(out), display)
    if reports:
        reports.write(
            _reported(opened),
            answers.samples,
            answers.subjects,
            softmax(answers.logits),
            answers.classes,
            answers.columns,
            opened.reference_count,
            skip=data is not None and data.on_bad_file == "skip",
            display=display,
        )
    return answers


def open_reports(folder: str | Path | None) -> StructuredReports | None:
    """The reports of DICOM series in a new folder; None without a folder.

    Raises:
        GyrusError: The folder is not empty.
        MissingDependencyError: highdicom is not installed.
    """
    if folder is None:
        return None
    from gyrus.workflows.structured_reports import StructuredReports

    return StructuredReports(folder)


def _reported(bundle: Bundle) -> ReportedClassifier:
    from gyrus.reporting.structured_report import ReportedClassifier
    from gyrus.workflows.structured_reports import classifier_statements

    about = bundle.manifest
    return ReportedClassifier(
        name=about.title,
        digest=file_digest(bundle.folder / CHECKSUMS),
        parameters=(
            f"Bundle of Gyrus, exported {about.created}; the SHA-256 is that of {CHECKSUMS}",
            *([f"Obtained from {bundle.source}"] if bundle.source else []),
        ),
        statements=classifier_statements(about.choices, about.split_unit, about.intended_use),
    )


def require_suffix(out: str | Path | None) -> None:
    """Refuse the name of a table that is in no format of predictions.

    Raises:
        ConfigError: It has another suffix.
    """
    if out is not None and Path(out).suffix not in TABLES:
        raise ConfigError(f"--out must end in {', '.join(TABLES)}, got '{out}'.")


def refuse_options_of_runs(*, several: bool, tta: int | None, weights: str, device: str) -> None:
    """Refuse options of predictions with runs, which bundles do not have.

    Raises:
        ConfigError: Such an option was given.
    """
    given = [
        *(["other runs (--with)"] if several else []),
        *([f"test-time augmentation (--tta {tta})"] if tta else []),
        *([f"other weights (--weights {weights})"] if weights != "equal" else []),
        *([f"the device '{device}'"] if device not in ("auto", "cpu") else []),
    ]
    if given:
        raise ConfigError(
            f"A bundle predicts on the CPU, with the networks and weights that it was exported with, not with "
            f"{' and '.join(given)}. Leave these out, or predict with the runs."
        )


def bundle_reading(manifest: BundleManifest, config: DataConfig) -> DataConfig:
    """How new data are read: slices, stacks, channels and, unless others are given, window and patterns of the bundle.

    Raises:
        ConfigError: Patterns of other channels are given, or sessions without a channel are to be predicted by networks
            that have not learned that.
    """
    from gyrus.workflows.load_data import channel_patterns, missing_channel_of

    changes: dict[str, Any] = {**manifest.view, "window": config.window or manifest.window}
    changes["channels"] = channel_patterns(manifest.channels, config.channels)
    changes["missing_channel"] = missing_channel_of(manifest.missing_channel, config.missing_channel)
    return config.model_copy(update=changes)


def scan_samples(manifest: BundleManifest, path: Input, reading: DataConfig, display: Display) -> Manifest:
    """The samples of an input that a bundle answers for: images, or rows of a table for one that takes no images.

    Args:
        manifest: Of the bundle.
        path: The input.
        reading: How it is read, from :func:`bundle_reading`.
        display: Where notes are shown.

    Raises:
        DataError: They cannot be read, or are of another kind than the bundle takes.
    """
    from gyrus.datasets.manifest import require_dimensions
    from gyrus.workflows.load_data import scan_unlabelled, without_images

    if manifest.inputs == "table":
        return scan_unlabelled(path, without_images(path, reading), display)
    return require_dimensions(scan_unlabelled(path, reading, display), manifest.spatial_dims, "bundle")


def scan_references(folder: Path, manifest: BundleManifest) -> Manifest:
    """The reference inputs of a bundle.

    Raises:
        DataError: They cannot be read.
    """
    from gyrus.workflows.experiment_config import DataConfig

    table = folder / REFERENCE_TABLE
    if manifest.inputs == "table":
        return scan_samples(manifest, table, DataConfig(), SILENT)
    config = DataConfig(table=str(table) if manifest.table_columns else None)
    return scan_samples(manifest, folder / REFERENCE, bundle_reading(manifest, config), SILENT)


def member_outputs(
    member: LoadedMember,
    manifest: Manifest,
    cache: Path,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The logits (N, K) of a network for the images of a manifest, and their distances (N, parts) to its training data.

    With a table they are the logits of image and table. The images are decoded from their files. There are no distances
    for a network without a reference.

    Args:
        member: The network.
        manifest: N images.
        cache: Folder of stores.
        progress: Called with the number of images done and in total.
    """
    if not member.about.in_channels:
        return _outputs_without_image(member, manifest, progress), None

    from gyrus.datasets.store import open_store

    store = open_store(manifest, member.about.preprocessing, cache=cache)
    step = images_at_once(store.pixels.shape[1:])
    found, vectors = list[np.ndarray](), list[np.ndarray]()
    beside = beside_image(member, manifest)
    for start in range(0, len(store), step):
        rows = slice(start, start + step)
        numbers = None if beside is None else beside[rows]
        logits, embeddings = member.outputs(np.asarray(store.pixels[rows]), store.statistics[rows], numbers)
        found.append(logits)
        vectors.append(embeddings)
        progress(min(start + step, len(store)), len(store))
    together = np.concatenate(found)
    if member.about.subject_model:
        together = member.of_all_images(np.concatenate(vectors), known_subjects(manifest.table["subject"]))
    if fusion := member.about.fusion:
        together = fusion.combine(together, manifest.table, known_subjects(manifest.table["subject"]), "error")
    if member.unlike is None:
        return together, None
    measured = measure_images(manifest, store, np.concatenate(vectors), np.arange(len(store)))
    return together, member.unlike.distances(measured)


def beside_image(
    member: LoadedMember, manifest: Manifest, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> np.ndarray | None:
    """The numbers float32 (N, T) that a network takes beside the image, or without one; None if it takes none."""
    return numbers_beside(manifest, member.about.table, member.about.head_volumes, progress)


def _outputs_without_image(
    member: LoadedMember, manifest: Manifest, progress: Callable[[int, int], None]
) -> np.ndarray:
    """The logits (N, K) of a network that takes no image."""
    numbers = beside_image(member, manifest, progress)
    return member.outputs(*member.without_image(len(manifest)), numbers)[0]


def require_columns(bundle: Bundle, manifest: Manifest, display: Display) -> None:
    """Refuse data without the columns of the classifier, before anything is decoded; missing cells are noted.

    Raises:
        DataError: A column is missing, or a cell is not what its column holds.
    """
    from gyrus.workflows.load_data import require_table_columns

    for member in bundle.members:
        if encoder := member.about.encoder:
            require_table_columns(encoder, manifest, display)


def member_inputs(member: LoadedMember, manifest: Manifest, cache: Path) -> np.ndarray:
    """What a network gets (N, C, *spatial) of the few images of a manifest; arguments as for :func:`member_outputs`."""
    from gyrus.datasets.store import open_store

    store = open_store(manifest, member.about.preprocessing, cache=cache)
    return member.inputs(np.asarray(store.pixels), store.statistics, beside_image(member, manifest))


def _decided(bundle: Bundle, answers: Answers, display: Display) -> Answers:
    """Answers with the columns of calibration and decisions; what they and the likeness say in words is shown."""
    units = answers.samples, answers.subjects
    if rule := bundle.decision_rule:
        columns = rule.columns(answers.logits, *units)
        answers = replace(answers, columns={**answers.columns, **columns})
        if sentence := rule.text(columns, *units):
            display.say(sentence)
    if number_rule := bundle.number_rule:
        quantiles = answers.logits if answers.levels else np.empty((len(answers), 0))
        intervals = number_rule.columns(answers.numbers, quantiles, *units)
        answers = replace(answers, columns={**answers.columns, **intervals})
        if number_rule.text:
            display.say(number_rule.text)
    if any(member.about.in_channels for member in bundle.members):
        summary = count_unlike(dict(answers.columns), *units, bundle.reference_count)
        display.say(summary.text() if summary else NO_REFERENCE)
    return answers


def likeness_of(
    bundle: Bundle, distances: Sequence[np.ndarray | None], subjects: Sequence[object]
) -> dict[str, np.ndarray]:
    """The columns about the likeness of images to the training data.

    Args:
        bundle: The bundle.
        distances: Of the images to the training data of each member (N, parts); None for one without a reference.
        subjects: The subject of each image, text where it is known.
    """
    members = [
        likeness_columns(member.unlike, each, subjects)
        for member, each in zip(bundle.members, distances, strict=True)
        if member.unlike and each is not None
    ]
    return combine_likeness(members) if members else {}


def _is_missing(value: object) -> bool:
    return isinstance(value, float) and value != value


def _answer_all(
    bundle: Bundle,
    inputs: Sequence[str | Path],
    config: DataConfig | None,
    display: Display,
    reports: StructuredReports | None,
) -> tuple[Answers, list[Problem]]:
    """The answers to all inputs, and what was skipped, under the same names.

    Raises:
        DataError: An input cannot be read, or nothing is left after skipping.
    """

    def answer(path: Input) -> tuple[Answers, Sequence[Problem], Path]:
        single = _answer_image(bundle, path) if config is None and not isinstance(path, tuple) else None
        return (single, (), Path()) if single is not None else _answer(bundle, path, config, display, reports)

    found, skipped = for_each_input(
        _sessions(bundle.manifest, inputs, config), answer, skip=config is not None and config.on_bad_file == "skip"
    )
    return Answers.joined(found), skipped


def _sessions(manifest: BundleManifest, inputs: Sequence[str | Path], config: DataConfig | None) -> Sequence[Input]:
    """The inputs; with channels, the files among them are those of sessions."""
    if not manifest.channels:
        return inputs
    from gyrus.workflows.experiment_config import DataConfig
    from gyrus.workflows.load_data import sessions_of

    return sessions_of(inputs, bundle_reading(manifest, config or DataConfig()))


def _answer(
    bundle: Bundle,
    path: Input,
    config: DataConfig | None,
    display: Display,
    reports: StructuredReports | None = None,
) -> tuple[Answers, Sequence[Problem], Path]:
    """The answers to an input of any kind, what was skipped, and the folder of the names."""
    from gyrus.datasets.store import without_unusable
    from gyrus.workflows.experiment_config import DataConfig
    from gyrus.workflows.load_data import input_text, measure_and_show_heads

    about = bundle.manifest
    reading = bundle_reading(about, config or DataConfig())
    manifest = scan_samples(about, path, reading, display)
    require_columns(bundle, manifest, display)
    if reports:
        reports.add(manifest)
    if any(member.about.head_volumes for member in bundle.members):
        measure_and_show_heads(manifest, display)
    with temporary_folder() as cache:
        if reading.on_bad_file == "skip":
            for member in bundle.members:
                if not member.about.in_channels:
                    continue
                size = None if member.about.patches else (member.about.in_channels, *member.about.image_size)
                manifest = without_unusable(manifest, member.about.preprocessing, cache=cache, size=size)
        found, distances = list[np.ndarray](), list[np.ndarray | None]()
        for number, member in enumerate(bundle.members, 1):
            which = f", network {number} of {len(bundle.members)}" if len(bundle.members) > 1 else ""
            with display.progress(f"Predicting {input_text(path)}{which}") as progress:
                logits, far = member_outputs(member, manifest, cache, progress)
                found.append(logits)
                distances.append(far)
    subjects = _subjects(manifest)
    samples = [str(manifest.root / name) if manifest.has_images else name for name in manifest.table["sample"]]
    columns = likeness_of(bundle, distances, subjects)
    return _as_answers(about, samples, subjects, bundle.combine(found), columns), manifest.problems, manifest.root


def _as_answers(
    about: BundleManifest,
    samples: Sequence[str],
    subjects: Sequence[str | None],
    logits: np.ndarray,
    columns: Mapping[str, np.ndarray],
) -> Answers:
    return Answers(
        tuple(samples),
        tuple(subjects),
        logits,
        about.classes,
        about.split_unit,
        columns=columns,
        target=about.target,
        levels=about.levels,
    )


def _subjects(manifest: Manifest) -> list[str | None]:
    return [None if missing else name for name, missing in zip(
        manifest.table["subject"], manifest.table["subject"].isna(), strict=True
    )]  # fmt: skip


def _answer_image(bundle: Bundle, path: str | Path) -> Answers | None:
    """The answer to one image file, without the libraries that tables and volumes need.

    None where anything is unusual (no image file, a note or a problem to report, a bundle of stacks): :func:`_answer`
    then reads the input again, and reports it.
    """
    from gyrus.datasets.sources.subject_rules import subjects_from_names
    from gyrus.imaging.decoding import GrayWindow, decode_with_notes, is_image

    about = bundle.manifest
    place = Path(path).absolute()
    if about.inputs != "images" or about.stack or about.slices or about.table_columns or about.channels:
        return None
    if not is_image(place.name) or not place.is_file():
        return None
    try:
        str(place).encode()
        pixels, notes = decode_with_notes(place.read_bytes(), GrayWindow(*about.window) if about.window else None)
        if notes or all(channel.min() == channel.max() for channel in pixels):
            return None
        logits, distances = bundle.classify(pixels)
    except (DataError, OSError, UnicodeEncodeError):
        return None
    subject = subjects_from_names([place.name], [None]).subjects[0]
    columns = likeness_of(bundle, distances, [subject])
    return _as_answers(about, [str(place)], [subject], logits[None], columns)
