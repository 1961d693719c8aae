"""The model card of a bundle."""

from __future__ import annotations

from collections.abc import Iterator

from gyrus.evaluation.number_metrics import number_headlines
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Estimate, Evaluation, headlines_of, join_words
from gyrus.export.manifest import BundleManifest, Choices, NumberChoices, OperatingPoint
from gyrus.text import counted, markdown
from gyrus.types import SPLIT_WARNINGS

VALIDATE = "- Evaluate on another cohort with labels: `gyrus test BUNDLE cohort/ --out external`"

RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}

_LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
}
"""Licences that the Hub knows by the names that authors write."""


def render_bundle_card(manifest: BundleManifest, evaluation: Evaluation | NumberEvaluation | None) -> str:
    """The card as Markdown.

    Args:
        manifest: The bundle.
        evaluation: The scores of what was exported; None where there are none.
    """
    is_number, of_table = manifest.target.is_number, manifest.inputs == "table"
    parts = [
        f"# Model card: {markdown(manifest.title)}",
        f"A {manifest.kind} of Gyrus as a bundle: {counted(len(manifest.members), 'network')} for {_input(manifest)}.",
        "## Use",
        "\n".join(
            [
                f"- Intended use: {markdown(manifest.intended_use)}",
                f"- Licence: {markdown(manifest.licence)}",
                f"- {_predicted(manifest)}",
                *([f"- Columns of a table (`--table`): {_columns(manifest)}"] if manifest.table_columns else []),
                f"- Predict: `gyrus predict BUNDLE {'people.csv' if of_table else 'images/'} --out predictions.csv`",
                "- Check the installation: `gyrus export verify BUNDLE`",
                *([VALIDATE] if manifest.internal_scores else []),
            ]
        ),
        "## Scores",
        _code(evaluation.text()) if evaluation else "No scores: what was exported has no evaluation.",
        "## Prediction intervals" if is_number else "## Operating point",
        _number_choices(manifest.number) if is_number else _choices(manifest.choices),
        "## Agreement with the training tool",
        _proof(manifest),
        "## Limitations",
        "\n".join(
            [
                "- Images from other scanners, sequences or populations than the training data need a new evaluation.",
                "- `gyrus test` recognises people of the training data in a cohort by identifiers and files only: the "
                "bundle holds none of their images.",
                "- The networks can contain traces of the training images, and the digests in `training_subjects.json` "
                "can confirm a guessed identifier. Share the bundle only with those who may know who took part.",
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _input(manifest: BundleManifest) -> str:
    """What the networks take."""
    if manifest.inputs == "table":
        return "rows of a table, without images"
    shapes = [member.image_size for member in manifest.members if member.in_channels]
    if not shapes:
        return "whole heads, whose volumes are measured (docs/volumetry.md)"
    size = " x ".join(map(str, shapes[0]))
    return f"{'volumes' if manifest.spatial_dims == 3 else 'images'} of {size} voxels after the preprocessing"


def render_hub_card(
    manifest: BundleManifest, card: str, address: str, evaluation: Evaluation | NumberEvaluation | None
) -> str:
    """The README.md of a bundle on the Hugging Face Hub: metadata in YAML, how to use it, and its model card.

    Args:
        manifest: The bundle.
        card: Its model card, from :func:`render_bundle_card`.
        address: ``hf:owner/name``.
        evaluation: The scores on its test set, for the metadata; None where there are none.
    """
    from huggingface_hub import EvalResult, ModelCardData

    # The Hub has no task for a number that is predicted from an image.
    task = None if manifest.target.is_number else "image-classification"
    results = [
        EvalResult(
            task_type=task or "image-regression",
            dataset_type="private",
            dataset_name=f"Test set ({count})",
            metric_type=name,
            metric_name=title,
            metric_value=round(estimate.value, 4),
        )
        for name, title, estimate, count in _hub_metrics(manifest, evaluation)
        if estimate.value is not None
    ]
    known = manifest.licence.lower() in _LICENCES
    data = ModelCardData(
        license=manifest.licence.lower() if known else "other",
        license_name=None if known else "see-model-card",
        library_name="gyrus",
        pipeline_tag=task,
        tags=["gyrus", "brain-mri", "medical-imaging", "research-only", *sorted(manifest.members[0].networks)],
        model_name=manifest.title,
        eval_results=results or None,
    )
    warning = SPLIT_WARNINGS[manifest.split_unit]
    parts = [
        f"---\n{data.to_yaml()}\n---",
        card.strip(),
        "## From the Hub",
        *([f"The scores are too good: {warning}."] if warning else []),
        f"```\npip install gyrus-mri\ngyrus predict {address} images/ --out predictions.csv\n"
        f"gyrus export verify {address}\n```",
        "`SHA256SUMS` has the SHA-256 of every file of the bundle; `gyrus` checks it after every download.",
    ]
    return "\n\n".join(parts) + "\n"


def _hub_metrics(
    manifest: BundleManifest, evaluation: Evaluation | NumberEvaluation | None
) -> Iterator[tuple[str, str, Estimate, str]]:
    """Name, title, value and number of subjects or images of the scores of a card."""
    if isinstance(evaluation, NumberEvaluation):
        of_number = evaluation.headline
        for name, title in number_headlines().items():
            title = f"{title} of {manifest.target.name}"
            yield name, title, of_number.metrics[name], counted(of_number.count, of_number.unit)
    elif evaluation:
        scores = evaluation.headline
        for name, title in headlines_of(scores).items():
            if name in scores.metrics:
                yield name, title, scores.metrics[name], counted(scores.count, scores.unit)
    point = manifest.choices.shipped_point if manifest.choices else None
    if manifest.choices and point:
        for name, title in RATES.items():
            if name in point.rates:
                count = counted(manifest.choices.test_count, point.unit)
                yield name, f"{title} at the operating point", point.rates[name], count


def _predicted(manifest: BundleManifest) -> str:
    """What is predicted, in a line."""
    if not manifest.target.is_number:
        return f"Classes: {markdown(join_words(manifest.classes, 'and'))}"
    spread = [member.scaling for member in manifest.members if member.scaling]
    training = "; ".join(f"mean {each.mean:.4g}, SD {each.scale:.4g}" for each in spread)
    return f"Predicts the number {markdown(manifest.target.name)}, in the unit of the training data ({training})"


def _columns(manifest: BundleManifest) -> str:
    texts = [member.encoder.text for member in manifest.members if member.encoder]
    return markdown("; ".join(dict.fromkeys(texts)))


def _number_choices(choices: NumberChoices | None) -> str:
    if choices is None:
        return "None: nothing was chosen on a validation set."
    rule, parts = choices.rule, list[str]()
    if rule.text and rule.interval and choices.coverage:
        width = f", mean width {choices.width.text(2)}" if choices.width else ""
        parts.append(
            f"{rule.text}, by {rule.unit}. On the test set ({choices.test_count}) they contain the true number of "
            f"{percent_text(choices.coverage)}{width}."
        )
    else:
        parts.append("There are no prediction intervals.")
    if rule.correction:
        parts.append(
            "Correction of the bias towards the mean (column `corrected`): (prediction - "
            f"{rule.correction.intercept:.4g}) / {rule.correction.slope:.4g}, fitted on the validation set "
            f"({choices.validation_count})."
        )
    return "\n\n".join([*parts, "\n".join(f"- {markdown(note)}" for note in choices.notes)]).rstrip()


def _choices(choices: Choices | None) -> str:
    if choices is None:
        return "None: nothing was chosen on a validation set."
    notes = "\n".join(f"- {markdown(note)}" for note in choices.notes)
    point = choices.shipped_point
    return "\n\n".join(part for part in (_point(point, choices) if point else "There is none.", notes) if part)


def _point(point: OperatingPoint, choices: Choices) -> str:
    positive = markdown(join_words(point.positive, "or"))
    rows = [
        f"| {title} | {markdown(percent_text(point.rates[name]))} |"
        for name, title in RATES.items()
        if name in point.rates
    ]
    calibrated = "calibrated probability" if choices.calibration else "probability"
    return "\n".join(
        [
            f"{markdown(point.title)}: positive from a {calibrated} of {positive} of {point.threshold:.3f} on, by "
            f"{point.unit}. Chosen on {counted(point.count, point.unit)} of the validation set, measured on "
            f"{choices.test_count} of the test set.",
            "",
            f"| Rate | Test set, {100 * choices.level:g} % CI |",
            "|---|---|",
            *rows,
        ]
    )


def percent_text(estimate: Estimate) -> str:
    """A rate in percent with its interval: ``75 % (40 % to 97 %)``."""
    if estimate.value is None:
        return f"undefined ({estimate.note})"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.0f} % (no interval)"
    return f"{100 * estimate.value:.0f} % ({100 * estimate.low:.0f} % to {100 * estimate.high:.0f} %)"


def _proof(manifest: BundleManifest) -> str:
    proof = manifest.proof
    if not proof.compared:
        return f"Not compared on the test set: {markdown(proof.note)}. The reference inputs were compared."
    return (
        f"From the raw files of {counted(proof.samples, 'sample')} of the test set, the largest difference between the "
        f"bundle and the training tool is that of {markdown(manifest.difference_text(proof.largest_difference or 0.0))}"
        f"{'' if manifest.target.is_number else ', and no predicted class differs'}. {markdown(proof.note)}"
    ).rstrip()


def _code(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
