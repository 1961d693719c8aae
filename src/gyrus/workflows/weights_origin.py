"""On whom pretrained weights were trained: a network is not tested on subjects that its weights have seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, is_by_subject
from gyrus.errors import DataError, LeakageError
from gyrus.export.training_subjects import TrainingSubjects, file_digests
from gyrus.models.pretrained_weights import read_mapping
from gyrus.runs.run_folder import Run
from gyrus.text import listed
from gyrus.types import Subset
from gyrus.workflows.display import Display, show_warnings
from gyrus.workflows.experiment_config import ExperimentConfig

PRETRAINING_KEY = "gyrus.pretraining"
"""Key of the metadata of a weights file: the record of `gyrus pretrain`, JSON."""

SUBJECTS_KEY = "gyrus.training_subjects"
"""Key of the metadata of a weights file: digests of the subjects and files it was trained on, JSON."""


@dataclass(frozen=True)
class WeightsOrigin:
    """What is known about the training of a weights file.

    Attributes:
        path: The file.
        subjects: Digests of the subjects and files.
        preprocessing: The preprocessing of their images.
    """

    path: Path
    subjects: TrainingSubjects
    preprocessing: dict[str, Any]

    @classmethod
    def of(cls, path: Path) -> WeightsOrigin | None:
        """The origin of weights of ``gyrus pretrain``, or of the weights in a run folder; None of all others.

        Raises:
            DataError: The record in the file is damaged.
        """
        metadata = _metadata(path)
        if SUBJECTS_KEY in metadata:
            try:
                subjects = TrainingSubjects.from_document(json.loads(metadata[SUBJECTS_KEY]))
                preprocessing = json.loads(metadata[PRETRAINING_KEY])["preprocessing"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"The record of the pretraining in {path} is damaged. Pretrain again.") from error
            return cls(path, subjects, preprocessing)
        run = Run(path.parent)
        if path != run.weights or not (run.exists and run.split.is_file() and run.manifest.is_file()):
            return None
        split, table = Split.load(run.split), Manifest.load(run.manifest).table
        seen = table[table["sample"].isin({*split.samples["train"], *split.samples["val"]})]
        return cls(path, TrainingSubjects.from_rows([seen]), {})

    def seen(self, manifest: Manifest, split: Split, subset: Subset) -> tuple[str, ...]:
        """Subjects of a subset whose images the weights were trained on, sorted; files where subjects are unknown."""
        table = manifest.table[manifest.table["sample"].isin(split.samples[subset])]
        digests = file_digests(table)
        known = {*self.subjects.seen_subjects(str(name) for name in table["subject"].dropna())}
        files = {*self.subjects.seen_files({digest for each in digests for digest in each})}
        names = table["subject"].fillna(table["sample"]).astype(str)
        found = {name for name, each in zip(names, digests, strict=True) if name in known or each & files}
        return tuple(sorted(found))


def require_unseen(settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display) -> None:
    """Refuse pretrained weights that have seen subjects of the test set; warn of those that have seen validation.

    Where subjects are split by image, they are in several subsets anyway, and this is a warning.

    Raises:
        LeakageError: Subjects of the test set were in the data that the weights were trained on.
    """
    if not isinstance(settings.model.pretrained, str):
        return
    path = Path(settings.model.pretrained).expanduser()
    if settings.model.pretrained_mapping:
        expected = read_mapping(settings.model.pretrained_mapping).preprocessing
        show_warnings(display, _prepared_otherwise(path, expected, settings))
    origin = WeightsOrigin.of(path) if path.is_file() else None
    if origin is None:
        return
    test, val = (origin.seen(manifest, split, subset) for subset in ("test", "val"))
    if test and is_by_subject(manifest, split):
        raise LeakageError(
            f"The weights {path} were trained on images of {len(test)} of {len(split.subjects['test'])} test subjects "
            f"({listed(test, 3)}), so scores would be too high. Pretrain without these subjects: save the split with "
            "gyrus data split, and give it to gyrus pretrain --exclude.",
            test,
        )
    warnings = [
        f"The weights {path} were trained on images of {len(found)} subjects of the {name} set, so its scores are too "
        "high"
        for name, found in (("test", test), ("validation", val))
        if found
    ]
    show_warnings(display, [*warnings, *_prepared_otherwise(path, origin.preprocessing, settings)])


def _prepared_otherwise(path: Path, expected: Mapping[str, Any], settings: ExperimentConfig) -> list[str]:
    """A warning if images are prepared in another way than those that weights were trained on."""
    own = settings.preprocessing.model_dump(mode="json")
    changed = [name for name, value in expected.items() if not _agrees(value, own.get(name))]
    return [
        f"The images that the weights {path} were trained on were prepared differently: preprocessing.{name} was "
        f"{expected[name]}, and is {own.get(name)}"
        for name in changed
    ]


def _agrees(expected: Any, own: Any) -> bool:
    """Whether a value is the expected one; of a mapping, its expected fields."""
    if isinstance(expected, Mapping) and isinstance(own, Mapping):
        return all(_agrees(value, own.get(name)) for name, value in expected.items())
    return bool(expected == own)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):  # reported where the weights are read
        return {}
