"""What a worker answers: the scans of several requests go through the networks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.datasets.sources.subject_rules import subjects_from_names
from gyrus.errors import GyrusError
from gyrus.export.bundle import Bundle
from gyrus.imaging.decoding import GrayWindow, decode
from gyrus.inference.columns import (
    BY_SUBJECT,
    CALIBRATED,
    CORRECTED,
    DECISION,
    INTERVAL_HIGH,
    INTERVAL_LOW,
    LIKE_TRAINING,
    MOST_UNLIKE,
    PREDICTION_SET,
)
from gyrus.inference.columns import SUBJECT_LIKE_TRAINING as SUBJECT_P
from gyrus.inference.decision_rule import softmax
from gyrus.inference.unlike_training import PARTS, alarm_limit
from gyrus.serving.about import takes_stacks
from gyrus.serving.errors import RequestError
from gyrus.serving.heat_maps import explain, why_not
from gyrus.serving.prepare import Prepared, prepare, reason
from gyrus.serving.scan_data import nifti, png, volume_of
from gyrus.serving.scans import BadFile, Scan, Unpacking, find_scans
from gyrus.text import counted
from gyrus.types import SPLIT_WARNINGS
from gyrus.workflows.predict_bundle import likeness_of

Result = dict[str, Any]
"""Status and body of an answer."""

UNEXPECTED = "the file cannot be read, for a reason that is not known; send it in another format"


@dataclass(eq=False)
class _Request:
    """A request while it is answered."""

    view: bool
    scans: list[Prepared]
    bad: list[BadFile]
    error: RequestError | None = None


@dataclass(frozen=True)
class Answering:
    """A loaded bundle, and what is needed to answer with it.

    Attributes:
        bundle: The bundle.
        unpacking: ServingLimits of a request.
        folder: Of temporary files.
        seconds: Time limit of a request.
    """

    bundle: Bundle
    unpacking: Unpacking
    folder: Path
    seconds: float

    @classmethod
    def load(cls, bundle: Path, engine: str, folder: Path, unpacked: int, files: int, seconds: float) -> Answering:
        """Load a bundle and pass one image through its networks, so that the first answer is as fast as the others.

        Raises:
            GyrusError: The bundle cannot be used.
        """
        opened = Bundle.open(bundle, engine)
        for member in opened.members:
            channels = member.about.in_channels + len(member.about.head_volumes)
            shape = (1, channels, *member.about.image_size)
            member.engine(np.zeros(shape, np.float32))
        return cls(opened, Unpacking(files, unpacked), folder, seconds)

    def about(self) -> dict[str, Any]:
        """What the server tells about its worker."""
        return {"engines": list(self.bundle.engines), "heat_map": why_not(self.bundle)}

    def answer(self, messages: Sequence[dict[str, Any]]) -> list[Result]:
        """The answers to several requests, each as if it were alone.

        Args:
            messages: From the server.
        """
        if messages[0]["kind"] == "explain":
            return [self._explained(message) for message in messages]
        requests = [self._request(message) for message in messages]
        scans = [scan for request in requests for scan in request.scans]
        outputs = dict(zip(map(id, scans), self._outputs(scans), strict=True))
        return [
            _failure(request.error)
            if request.error
            else self._body(request, [outputs[id(one)] for one in request.scans])
            for request in requests
        ]

    def _request(self, message: dict[str, Any]) -> _Request:
        files = [(name, Path(message["folder"]) / stored) for name, stored in message["files"]]
        request = _Request(bool(message.get("view")), [], [])
        try:
            stacked = takes_stacks(self.bundle.manifest)
            scans, bad = find_scans(files, Path(message["folder"]), self.unpacking, stacked=stacked)
        except RequestError as error:
            request.error = error
            return request
        request.bad += bad
        for scan in scans:
            try:
                request.scans.append(prepare(self.bundle, scan))
            except GyrusError as error:
                request.bad.append(BadFile(scan.name, reason(error, scan)))
            except Exception:  # libraries raise many types of errors on damaged files
                request.bad.append(BadFile(scan.name, UNEXPECTED))
        return request

    def _outputs(self, scans: Sequence[Prepared]) -> list[tuple[np.ndarray, list[np.ndarray | None]]]:
        """The logits (N, K) of the samples of each scan, and their distances (N, parts) for each network."""
        outputs: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in scans]
        for number, member in enumerate(self.bundle.members):
            shapes = [scan.members[number][0].shape[1:] for scan in scans]
            for shape in dict.fromkeys(shapes):  # those of patch networks may differ
                rows = [row for row, each in enumerate(shapes) if each == shape]
                pixels, statistics, numbers = (
                    np.concatenate([scans[row].members[number][part] for row in rows]) for part in range(3)
                )
                logits, embeddings = member.outputs(pixels, statistics, numbers)
                ends = np.cumsum([len(scans[row]) for row in rows])[:-1]
                for row, one, other in zip(rows, np.split(logits, ends), np.split(embeddings, ends), strict=True):
                    outputs[row].append((one, other))
        results = []
        for scan, found in zip(scans, outputs, strict=True):
            logits = self.bundle.combine([each for each, _ in found])
            distances = [
                member.unlike.distances(scan.measured(number, embeddings)) if member.unlike else None
                for number, (member, (_, embeddings)) in enumerate(zip(self.bundle.members, found, strict=True))
            ]
            results.append((logits, distances))
        return results

    def _body(self, request: _Request, outputs: Sequence[tuple[np.ndarray, list[np.ndarray | None]]]) -> Result:
        if not outputs and not request.bad:
            return _failure(RequestError(422, "There is no scan in the upload. Send a PNG, NIfTI or DICOM file."))
        names = [each.scan.name for each in request.scans]
        logits_of_scans = [logits for logits, _ in outputs]
        answer_all = self._numbers if self.bundle.manifest.target.is_number else self._classified
        found = answer_all(request.scans, logits_of_scans) if outputs else []
        answers = []
        for name, scan, (_, distances), answer in zip(names, request.scans, outputs, found, strict=True):
            notes, view = [*scan.notes, *scan.scan.notes], None
            if len(scan) > 1:
                notes.append(f"the answer is the mean of {counted(len(scan), 'slice')}")
            notes += answer.pop("notes")
            if request.view:
                view = self._view(scan.scan)
            answers.append(
                {
                    "name": name,
                    **answer,
                    **self._likeness(name, len(scan), distances),
                    "notes": [*notes, *self._warnings],
                    "view": view,
                }
            )
        problems = [{"name": each.name, "error": each.reason} for each in request.bad]
        return {"status": 200 if answers else 422, "body": {"answers": answers, "problems": problems}}

    def _numbers(self, scans: Sequence[Prepared], outputs: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The predicted number of each scan, its interval and the corrected number."""
        levels, rule = self.bundle.manifest.levels, self.bundle.number_rule
        means = np.stack([each.mean(axis=0) for each in outputs])
        predicted, quantiles = means[:, levels.index(0.5) if levels else 0], means if levels else means[:, :0]
        subjects, keys = _subjects_of(scans)
        by_subject = rule is not None and rule.unit == "subject"
        columns = {}
        if rule:  # the images of a scan have the same weight, as those of a subject
            rows = np.repeat(np.arange(len(scans)), [len(each) for each in outputs] if by_subject else 1)
            every = np.concatenate(outputs) if by_subject else means
            numbers = every[:, levels.index(0.5) if levels else 0]
            samples, units = [f"sample {row}" for row in range(len(rows))], [keys[row] for row in rows]
            found = rule.columns(numbers, every if levels else every[:, :0], samples, units)
            prefix = BY_SUBJECT if by_subject else ""
            first = np.unique(rows, return_index=True)[1]
            columns = {name.removeprefix(prefix): values[first] for name, values in found.items()}
        answers = []
        for number, key in enumerate(keys):
            one = {name: float(values[number]) for name, values in columns.items()}
            together = keys.count(key) if by_subject else 1
            notes = [
                f"interval and correction are those of the {together} scans of subject {subjects[number]} together"
            ]
            answers.append(
                {
                    "prediction": float(predicted[number]),
                    "interval": {"low": one[INTERVAL_LOW], "high": one[INTERVAL_HIGH]} if INTERVAL_LOW in one else None,
                    "corrected_prediction": one.get(CORRECTED),
                    "quantiles": {f"{level:g}": float(quantiles[number, place]) for place, level in enumerate(levels)}
                    or None,
                    "notes": notes if together > 1 and one else [],
                }
            )
        return answers

    def _classified(self, scans: Sequence[Prepared], logits: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The probabilities of each scan, and what was decided."""
        answers = []
        for each, decision in zip(logits, self._decided(scans, logits), strict=True):
            probabilities = softmax(each).mean(axis=0)
            best = self._classes[int(probabilities.argmax())]
            answers.append({"prediction": best, "probabilities": self._by_class(probabilities), **decision})
        return answers

    def _decided(self, scans: Sequence[Prepared], logits: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """What calibration, operating point and conformal set say about each scan."""
        nothing: dict[str, Any] = {"calibrated_probabilities": None, "decision": None, "prediction_set": None}
        rule = self.bundle.decision_rule
        if rule is None:
            return [{**nothing, "notes": []} for _ in scans]
        subjects, keys = _subjects_of(scans)
        by_subject = rule.unit == "subject"
        if by_subject:
            repeats = [len(each) for each in logits]
            values, units = np.concatenate(logits), np.repeat(keys, repeats).tolist()
        else:
            values, units = np.stack([_pooled(each) for each in logits]), keys
            repeats = [1] * len(logits)
        columns = rule.columns(values, [f"sample {row}" for row in range(len(values))], units)
        prefix = BY_SUBJECT if by_subject else ""
        found = []
        for number, row in enumerate(np.cumsum([0, *repeats[:-1]])):
            one = {name.removeprefix(prefix): values[row] for name, values in columns.items()}
            together = keys.count(keys[number]) if by_subject else 1
            decision: dict[str, Any] = {**nothing, "notes": []}
            if CALIBRATED + self._classes[0] in one:
                decision["calibrated_probabilities"] = {name: float(one[CALIBRATED + name]) for name in self._classes}
            if DECISION in one:
                decision["decision"] = str(one[DECISION])
            if PREDICTION_SET in one:
                decision["prediction_set"] = [name for name in str(one[PREDICTION_SET]).split("; ") if name]
            if together > 1:
                decision["notes"] = [
                    f"calibration, decision and set are those of the {together} scans of subject {subjects[number]} "
                    "together"
                ]
            found.append(decision)
        return found

    def _likeness(self, name: str, count: int, distances: Sequence[np.ndarray | None]) -> dict[str, Any]:
        columns = likeness_of(self.bundle, distances, [name] * count)
        if not columns:
            return {"p_like_training": None, "unlike": None, "most_unlike_in": None}
        p_values = np.asarray(columns[SUBJECT_P if SUBJECT_P in columns else LIKE_TRAINING], float)
        p_value = float(p_values.min())
        if np.isnan(p_value):
            return {"p_like_training": None, "unlike": None, "most_unlike_in": None}
        unlike = p_value <= alarm_limit(self.bundle.reference_count) + 1e-9
        where = str(columns[MOST_UNLIKE][int(np.asarray(columns[LIKE_TRAINING], float).argmin())])
        return {"p_like_training": p_value, "unlike": unlike, "most_unlike_in": PARTS.get(where, where)}

    def _view(self, scan: Scan) -> dict[str, str] | None:
        try:
            window = GrayWindow(*self.bundle.manifest.window) if self.bundle.manifest.window else None
            if scan.kind == "image":
                return png(decode(scan.path.read_bytes(), window))
            return nifti(volume_of(scan, window), self.folder)
        except GyrusError:  # it was readable a moment ago
            return None

    def _explained(self, message: dict[str, Any]) -> Result:
        request = self._request(message)
        if request.error:
            return _failure(request.error)
        if request.bad and not request.scans:
            return _failure(RequestError(422, f"{request.bad[0].name}: {request.bad[0].reason}."))
        name = message.get("name")
        chosen = [each for each in request.scans if name is None or each.scan.name == name]
        if len(chosen) != 1:
            found = "no scan of this name" if not chosen else counted(len(chosen), "scan")
            return _failure(
                RequestError(422, f"A heat map is of one scan, and this request has {found}. Give its name (?name=).")
            )
        try:
            body = explain(self.bundle, chosen[0], message.get("target"), self.folder, self.seconds)
        except RequestError as error:
            return _failure(error)
        return {"status": 200, "body": body}

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.bundle.manifest.classes

    @property
    def _warnings(self) -> list[str]:
        warning = SPLIT_WARNINGS[self.bundle.manifest.split_unit]
        return [warning] if warning else []

    def _by_class(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self._classes, map(float, values), strict=True))


def _subjects_of(scans: Sequence[Prepared]) -> tuple[list[str | None], list[str]]:
    """The subject of each scan by its name, and a key that scans of one subject share."""
    names = [each.scan.name for each in scans]
    subjects = subjects_from_names(names, [None] * len(names)).subjects
    return subjects, [f"subject {one}" if one else f"scan {number}" for number, one in enumerate(subjects)]


def _pooled(logits: np.ndarray) -> np.ndarray:
    """The logits (K,) of the mean probability."""
    return np.asarray(np.log(np.maximum(softmax(logits).mean(axis=0), np.finfo(np.float64).tiny)))


def _failure(error: RequestError) -> Result:
    return {"status": error.status, "body": {"error": str(error)}}
