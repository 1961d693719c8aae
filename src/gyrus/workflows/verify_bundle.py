"""Verify a bundle on this machine: its files, its schema, and its answers to the reference inputs. Without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gyrus.errors import GyrusError, MissingDependencyError
from gyrus.export.bundle import Bundle, BundleEngine, read_manifest
from gyrus.export.hub import local_bundle
from gyrus.export.manifest import (
    BUNDLE,
    DISTANCE_TOLERANCE,
    INPUT_TOLERANCE,
    SCHEMA_FILE,
    TOLERANCE,
    TRAINING_SUBJECTS,
    BundleManifest,
    require_unchanged,
    shipped_schema,
)
from gyrus.export.references import describe_inputs, inputs_apart
from gyrus.export.training_subjects import TrainingSubjects
from gyrus.files import read_json, reading, temporary_folder
from gyrus.text import one_per_line
from gyrus.workflows.display import SILENT, Display

LOGIT_TOLERANCE = 1e-3
"""Largest difference of the outputs of a network for a reference, relative to the largest logit or to 1; of numbers to
the standard deviation of the training set."""

_ENGINES: tuple[tuple[str, BundleEngine, str], ...] = (
    ("onnx", "onnxruntime", "ONNX Runtime"),
    ("openvino", "openvino", "OpenVINO"),
)


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        folder: The bundle.
        passed: What was checked and is right, in words.
        problems: What is wrong, in words.
        skipped: What could not be checked.
    """

    folder: Path
    passed: tuple[str, ...]
    problems: tuple[str, ...]
    skipped: tuple[str, ...]

    def text(self) -> str:
        """One line per check."""
        lines = [
            *(f"passed: {text}" for text in self.passed),
            *(f"not checked: {text}" for text in self.skipped),
            *(f"FAILED: {text}" for text in self.problems),
        ]
        return one_per_line(lines)

    def require_passed(self) -> None:
        """Refuse a bundle that has failed.

        Raises:
            GyrusError: A check has failed.
        """
        if self.problems:
            raise GyrusError(
                f"The bundle in {self.folder} must not be used on this machine: {' '.join(self.problems)} Obtain it "
                "again, or export it again."
            )


def verify_bundle(bundle: str | Path, *, display: Display = SILENT) -> Verification:
    """Verify a bundle: SHA-256 of each file, the schema, and the answers to the reference inputs.

    Args:
        bundle: The folder, or the address of a bundle on the Hub: ``hf:owner/name``.
        display: Where progress is shown.

    Raises:
        DataError: There is no bundle.
        MissingDependencyError: No engine is installed.
    """
    folder, _ = local_bundle(bundle, display.say)
    checks = _Checks()
    manifest = read_manifest(folder)  # a bundle that cannot be read has nothing to check
    checks.add("every file is as it was exported (SHA-256)", lambda: require_unchanged(folder))
    checks.add("bundle.json follows its schema", lambda: _require_schema(folder, manifest))
    for name, engine, title in _ENGINES:
        if not all(name in member.networks for member in manifest.members):
            continue
        if find_spec(engine) is None:
            checks.skipped.append(f"the networks of {title}, which is not installed")
            continue
        display.say(f"Predicting {len(manifest.references)} references with {title}")
        checks.answers(f"{len(manifest.references)} references with {title}", folder, manifest, engine)
    if not checks.compared:
        raise MissingDependencyError(
            "No engine is installed for the networks of this bundle, so its answers cannot be verified. Install one "
            "with: pip install onnxruntime"
        )
    return Verification(folder, tuple(checks.passed), tuple(checks.problems), tuple(checks.skipped))


class _Checks:
    def __init__(self) -> None:
        self.passed: list[str] = []
        self.problems: list[str] = []
        self.skipped: list[str] = []
        self.compared = False

    def add(self, text: str, check: Callable[[], object]) -> None:
        try:
            check()
        except GyrusError as error:
            self.problems.append(str(error))
        else:
            self.passed.append(text)

    def answers(self, text: str, folder: Path, manifest: BundleManifest, engine: BundleEngine) -> None:
        self.compared = True
        try:
            difference, problem = _compare(folder, manifest, engine)
        except GyrusError as error:
            self.problems.append(f"The answers to {text} cannot be computed: {error}")
            return
        if problem:
            self.problems.append(f"The answers to {text} are not those of the runs: {problem}.")
        else:
            what = manifest.difference_text(difference)
            self.passed.append(f"the answers to {text} (largest difference of {what})")


def _require_schema(folder: Path, manifest: BundleManifest) -> None:
    """Refuse a bundle with a damaged file, or whose schema is of other fields than those of ``bundle.json``.

    The content of ``bundle.json`` has been checked when it was read. A bundle of an earlier version has its schema.
    """
    from gyrus.evaluation.number_external import load_internal_scores

    TrainingSubjects.load(folder / TRAINING_SUBJECTS)
    if manifest.internal_scores:
        load_internal_scores(folder / manifest.internal_scores, manifest.target)
    path = folder / SCHEMA_FILE
    if path.is_file() and path.read_text(encoding="utf-8") == shipped_schema():
        return
    with reading(path, "a JSON schema"):
        schema, fields = read_json(path), {*read_json(folder / BUNDLE)}
        stated = schema["properties"]["schema"]["const"]
        if stated == BundleManifest.SCHEMA and {*schema["required"]} <= fields <= {*schema["properties"]}:
            return
    raise GyrusError(f"{path} is not the schema of {BUNDLE}.")


def _compare(folder: Path, manifest: BundleManifest, engine: BundleEngine) -> tuple[float, str]:
    """The largest difference of probabilities or numbers, and what is wrong; an empty text if nothing is."""
    from gyrus.workflows.predict_bundle import member_inputs, member_outputs, scan_references

    bundle = Bundle.from_manifest(folder, manifest, engine)
    found = scan_references(folder, manifest)
    expected = {each.sample: each for each in manifest.references}
    samples = found.table["sample"].tolist()
    if not expected or sorted(expected) != sorted(samples):
        return 0.0, f"the samples are {samples}, not {sorted(expected)}"
    with temporary_folder() as cache:
        outputs = [member_outputs(member, found, cache) for member in bundle.members]
        inputs = [
            describe_inputs(member_inputs(member, found, cache)) if member.about.in_channels else None
            for member in bundle.members
        ]
    given = bundle.combine([logits for logits, _ in outputs])
    known_logits = [np.array([expected[name].logits[number] for name in samples]) for number in range(len(outputs))]
    if manifest.target.is_number:
        wanted = bundle.combine(known_logits)
    else:
        probabilities = [[expected[name].probabilities[label] for label in manifest.classes] for name in samples]
        wanted = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    difference = bundle.apart(given, wanted)
    other = 0 if manifest.target.is_number else int((given.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    scaled, far, apart = 0.0, 0.0, 0.0
    for number, (logits, distances) in enumerate(outputs):
        before = known_logits[number]
        scaling = bundle.members[number].about.scaling
        unit = scaling.scale if scaling else max(1.0, float(np.abs(before).max()))
        scaled = max(scaled, float(np.abs(logits - before).max() / unit))
        known = [expected[name].distances[number] for name in samples]
        if distances is not None and all(known):
            far = float(np.maximum(far, np.abs(distances - np.array(known)).max()))
        elif distances is not None or any(known):  # the distances of the training data were left out or put in
            far = float("inf")
        prepared, has_inputs = inputs[number], all(expected[name].inputs for name in samples)
        if prepared is not None and has_inputs:  # not in bundles of earlier versions
            known_inputs = np.array([expected[name].inputs[number] for name in samples])
            apart = float(np.maximum(apart, inputs_apart(prepared, known_inputs)))
    small = scaled <= LOGIT_TOLERANCE and far <= DISTANCE_TOLERANCE and apart <= INPUT_TOLERANCE
    if difference <= TOLERANCE and not other and small:
        return difference, ""
    return difference, (
        f"the largest difference of {manifest.difference_text(difference)} (allowed: {TOLERANCE:g}), that of the "
        f"outputs {scaled:.2g} (allowed: {LOGIT_TOLERANCE:g}), that of distances to the training data {far:.2g} "
        f"(allowed: {DISTANCE_TOLERANCE:g}), that of the prepared images {apart:.2g} standard deviations (allowed: "
        f"{INPUT_TOLERANCE:g}), and {other} of {len(samples)} have another class"
    )
