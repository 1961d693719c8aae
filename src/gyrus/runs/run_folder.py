"""The run folder: all files of one training run."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout
from pydantic import BaseModel

from gyrus.configuration import write_document
from gyrus.errors import DataError, GyrusError, RunError
from gyrus.extras import DISTRIBUTION
from gyrus.files import cannot_write, make_folder, names_in, read_json, reading, refuse_links, require_empty, write_json
from gyrus.redaction import command_line
from gyrus.text import html_table

Status = Literal["started", "interrupted", "failed", "finished"]

MARK = "gyrus.run/1"
"""The schema of ``run.json``. It marks a folder as a run of Gyrus; version 0.1 wrote none."""

LIBRARIES = (DISTRIBUTION, "torch", "torchvision", "lightning", "timm", "numpy", "pandas", "pillow", "scikit-learn")

NAMED_BY_GYRUS = re.compile(r"subject|image|shuffled-labels|image-alone|(seed|fold)-\d+")
"""Names of run folders that Gyrus creates inside another folder; they are not unique."""


BEFORE_THE_DATA = frozenset({".lock", "environment.json", "config.yaml", "run.json"})
"""Files of a run that is being created."""


class _File:
    """The path of a file or folder in a run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: Run, _: type[Run] | None = None) -> Path:
        return run.folder / self.name


_PICTURES = r"[^/]+\.(png|svg)"
_OWN_FILES = re.compile(
    r"((shuffled-labels|image-alone)/)*("
    r"(config\.yaml|(manifest|predictions/[^/]+)\.parquet|model\.safetensors|model_card\.md|(history|quality)\.csv)"
    r"|(predictions/[^/]+|run|environment|split|preprocessing|model|metrics|baselines|assessment|subgroups|likeness|fusion|added_value|matched_scores|site_check|visit_scores|tracking)\.json"
    r"|(classification_report|history)\.txt|report\.html|(examples|embeddings|unlike_training)\.npz|(.+/)?(\..+)?\.lock"
    rf"|figures/{_PICTURES}|checkpoints/[^/]+\.ckpt|(tensorboard|wandb)/.+"
    rf"|audit/(figures/{_PICTURES}|audit\.html|findings\.(json|csv)|(quality|subjects|maps)\.csv)"
    rf"|explanation/((figures|maps/[^/]+)/{_PICTURES}|(maps/[^/]+|means)/[^/]+\.(npz|nii|nii\.gz)|work/[^/]+\.(npy|json)"
    r"|explanation\.html|(checks|explanation|album)\.json|(regions|contributions)\.csv)"
    r")|(.+/)?\.gyrus-[^/]+"
)
"""Paths in a run folder that Gyrus writes."""


@dataclass(frozen=True)
class Run:
    """A run folder and the names of its files.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def title(self) -> str:
        """The name of the folder, preceded by its parent's name where Gyrus has named the folder."""
        whole = self.folder.resolve()
        return f"{whole.parent.name}/{whole.name}" if NAMED_BY_GYRUS.fullmatch(whole.name) else whole.name

    def _repr_html_(self) -> str:
        if not self.exists:
            return html_table(f"No run in {self.folder}", [])
        rows = [("status", self.status), ("created", self.facts["created"]), ("folder", self.folder)]
        rows += [(each.stem, each.name) for each in (self.report, self.metrics, self.card) if each.is_file()]
        return html_table(f"Run {self.title}", rows)

    config = _File("config.yaml")
    """The resolved config with every default, YAML."""
    manifest = _File("manifest.parquet")
    """The manifest of the data, parquet."""
    split = _File("split.json")
    """The subjects and samples of the training, validation and test sets, JSON."""
    preprocessing = _File("preprocessing.json")
    """The fitted intensity scaling, JSON."""
    model = _File("model.json")
    """The description of the network, JSON."""
    weights = _File("model.safetensors")
    """The weights of the best epoch, safetensors."""
    history = _File("history.csv")
    """One row per epoch, CSV."""
    metrics = _File("metrics.json")
    """The evaluation on the test set, JSON."""
    classification_report = _File("classification_report.txt")
    """The evaluation as text."""
    report = _File("report.html")
    """The report, HTML."""
    card = _File("model_card.md")
    """The model card, Markdown."""
    figures = _File("figures")
    """The folder of the figures, PNG and SVG."""
    baselines = _File("baselines.json")
    """The baselines, evaluated on the same test set, JSON."""
    audit = _File("audit")
    """The folder of the audit of its data and its split, ``gyrus audit --run``."""
    explanation = _File("explanation")
    """The folder of its heat maps, ``gyrus explain``."""
    assessment = _File("assessment.json")
    """Calibration, operating points, decision curve, selective prediction and conformal sets, JSON."""
    subgroups = _File("subgroups.json")
    """Scores of subgroups, JSON."""
    visit_scores = _File("visit_scores.json")
    """Scores by visit and by person, where subjects have several visits, JSON."""
    fusion = _File("fusion.json")
    """Of a network with a table: the classifier on the table, and the weights of both, JSON."""
    added_value = _File("added_value.json")
    """Scores of the table alone, the image alone and both, and whether the image adds to the table, JSON."""
    site_check = _File("site_check.json")
    """How well the site can be read from harmonised columns, before and after (``data.harmonise``), JSON."""
    matched_scores = _File("matched_scores.json")
    """Scores on matched and weighted subjects, ``gyrus evaluate --matched``, JSON."""
    image_alone = _File("image-alone")
    """The run folder of the same network trained without the table, if the network itself takes the table."""
    quality = _File("quality.csv")
    """Sharpness and signal-to-noise ratio of the images of the test set, CSV."""
    shuffled = _File("shuffled-labels")
    """The run folder of the same network trained with shuffled labels (``evaluation.shuffled_labels``)."""
    examples = _File("examples.npz")
    """The images of the test set with the most confident correct and wrong predictions, NumPy."""
    embeddings = _File("embeddings.npz")
    """Embeddings of images of the test set, and their t-SNE map, NumPy."""
    unlike_training = _File("unlike_training.npz")
    """The reference by which scans unlike the training data are recognised, NumPy."""
    likeness = _File("likeness.json")
    """How many subjects of the test set are unlike the training data, JSON."""
    checkpoint = _File("checkpoints/last.ckpt")
    """The state of training after the last finished epoch; resuming starts from it."""

    def predictions(self, subset: str) -> Path:
        """The predictions for a subset, or those of a baseline, parquet."""
        return self.folder / "predictions" / f"{subset}.parquet"

    @property
    def exists(self) -> bool:
        """Whether there is a run in the folder."""
        try:
            return (self.folder / "run.json").is_file()
        except OSError:  # an impossible name
            return False

    @property
    def facts(self) -> dict[str, Any]:
        """Status, times, command, digest of the data and best epoch: the content of ``run.json``."""
        facts = _read_document(self.folder / "run.json", "the facts of a run", status=str, created=str)
        if facts["status"] not in get_args(Status):
            raise DataError(f"{self.folder / 'run.json'} is damaged: the status {facts['status']!r} is unknown.")
        return facts

    @property
    def description(self) -> dict[str, Any]:
        """All that prediction needs beside the weights and the config: the content of ``model.json``."""
        fields = {"model": dict, "in_channels": int, "image_size": list, "classes": list, "split_unit": str}
        return _read_document(self.model, "the description of a network", **fields, parameters=int)

    @property
    def has_network(self) -> bool:
        """Whether the classifier is a network; False for models of scikit-learn on features."""
        return self.description.get("kind", "network") == "network"

    @property
    def environment(self) -> dict[str, Any]:
        """Versions of Python, the system and libraries: the content of ``environment.json``."""
        return _read_document(
            self.folder / "environment.json", "a list of versions", python=str, system=str, libraries=dict
        )

    @property
    def status(self) -> Status:
        """The stage that the run has reached."""
        status: Status = self.facts["status"]
        return status

    def mark(self, status: Status, **facts: Any) -> None:
        """Record the status of the run, and further facts."""
        known = self.facts if self.exists else {"created": _now()}
        write_json(self.folder / "run.json", {"schema": MARK, **known, **facts, "status": status, "updated": _now()})

    @property
    def is_marked(self) -> bool:
        """Whether Gyrus has written the folder: by the schema of ``run.json``, or by what version 0.1 wrote."""
        try:
            facts, environment = self.facts, self.environment
        except GyrusError:
            return False
        known = {"created", "updated", "command"} <= facts.keys()
        return known and "libraries" in environment and facts.get("schema", MARK) == MARK

    @property
    def foreign_files(self) -> tuple[Path, ...]:
        """Files in the folder that Gyrus does not write, relative to it, sorted; links are never followed."""
        found = []
        for place, folders, files in os.walk(self.folder):
            links = [name for name in folders if Path(place, name).is_symlink()]
            found += [Path(place, name).relative_to(self.folder) for name in [*files, *links]]
        return tuple(sorted(path for path in found if not _OWN_FILES.fullmatch(path.as_posix())))

    @property
    def is_half_made(self) -> bool:
        """Whether :meth:`create` was killed in this folder, which holds nothing else and can be used again."""
        if not self.folder.is_dir():
            return False
        names = names_in(self.folder)
        complete = {"run.json", "config.yaml"} <= names
        return names <= BEFORE_THE_DATA and not complete and ("environment.json" in names or names <= {".lock"})

    @classmethod
    def create(cls, folder: Path, config: BaseModel | None = None, **facts: Any) -> Run:
        """Start a run in a new or empty folder, or in one where an earlier call was killed.

        Args:
            folder: The folder.
            config: Saved before the run exists, so that every run that exists can be resumed.
            facts: Further facts to record; see :meth:`mark`.

        Raises:
            RunError: The folder is not empty, or another process is writing into it.
            GyrusError: The folder cannot be created.
        """
        run = cls(folder)
        run._require_unused()
        make_folder(folder)
        with run.locked():
            run._require_unused()
            write_json(folder / "environment.json", current_environment())
            if config is not None:
                write_document(run.config, config)
            run.mark("started", command=command_line(), **facts)
        return run

    def _require_unused(self) -> None:
        with suppress(OSError):  # an impossible path, which `require_empty` reports
            if self.is_half_made:
                return
        hint = "It holds a run: continue it with --resume, or give" if self.exists else "Give"
        require_empty(self.folder, f"{hint} a new folder with --out.", error=RunError)

    @classmethod
    def open(cls, folder: Path, *, finished: bool = True) -> Run:
        """Open the run in a folder.

        Args:
            folder: The folder.
            finished: Whether the run must have finished.

        Raises:
            RunError: There is no run, or it has not finished.
        """
        folder = Path(folder)
        run = cls(folder)
        if not run.exists:
            raise RunError(f"There is no run in {folder}: it has no run.json. Name the folder given as --out to train.")
        if finished and run.status != "finished":
            raise RunError(
                f"The run in {folder} has not finished ({run.status}). Continue it with: gyrus train --resume {folder}"
            )
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Prevent other processes from writing into the same run.

        Raises:
            RunError: Another process is writing into it.
        """
        refuse_links(self.folder, error=RunError)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"Another process is writing into {self.folder}. Wait for it, or use another --out."
            ) from error
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _read_document(path: Path, kind: str, **fields: type) -> dict[str, Any]:
    """Read a JSON object that has these fields.

    Raises:
        DataError: The file is missing, damaged or of another kind.
    """
    with reading(path, kind):
        document: dict[str, Any] = read_json(path)
        if not isinstance(document, dict):
            raise TypeError("it holds no fields")
        for name, expected in fields.items():
            if not isinstance(document.get(name), expected):
                raise TypeError(f"the field '{name}' is missing or of another type")
        return document


def current_environment() -> dict[str, Any]:
    """Versions of Python, the system and libraries, to repeat the run; nothing that identifies a user or a machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: found for name in LIBRARIES if (found := installed_version(name))},
    }


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
