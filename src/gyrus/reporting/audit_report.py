"""The report of an audit: verdict, findings, figures and example images on one page, with tables beside it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from gyrus.audit.context import AuditContext
from gyrus.audit.embeddings import Clustering
from gyrus.audit.findings import SEVERITY_TITLES, Findings, Number
from gyrus.audit.image_quality import (
    PLAIN_Z_THRESHOLD,
    central_slice,
    fault_scores,
    flag_outliers,
    is_volumetric,
    largest_plain_z,
    plain_z_scores,
)
from gyrus.audit.subjects_from_pixels import group_names, required_width
from gyrus.datasets.reader import Reader
from gyrus.datasets.text_tables import write_csv
from gyrus.files import write_text
from gyrus.reporting.audit_figures import (
    boxes_figure,
    correlation_figure,
    curve_figure,
    leakage_figure,
    outliers_figure,
    quality_figure,
    sizes_figure,
)
from gyrus.reporting.audit_maps import NO_MAPS, draw_maps
from gyrus.reporting.figures import Drawing, Picture, save_drawings
from gyrus.reporting.html import page_environment
from gyrus.reporting.report_content import Facts
from gyrus.text import counted

PLAIN_OUTLIERS_SHOWN = 10
GROUPS_SHOWN, SLICES_SHOWN = 6, 12
OUTLIERS_SHOWN, OUTLIERS_PER_SUBJECT, PAIRS_SHOWN = 12, 2, 6
SHOWN_SIDE = 160
"""Pixels of the longer side of an example image."""


@dataclass(frozen=True)
class ImageStrip:
    """Example images in a row.

    Attributes:
        title: Title.
        note: Confidence, reason or names.
        images: Data URLs, one per image.
        alt: Text in place of the images.
    """

    title: str
    note: str
    images: tuple[str, ...]
    alt: str


@dataclass(frozen=True)
class AuditContent:
    """The content of the page of an audit.

    Attributes:
        title: Name of the data set.
        findings: The findings.
        tiles: Name, value and explanation of each headline number.
        groups: Some of the groups found from the pixels.
        outliers: The worst quality outliers.
        duplicates: Some pairs of duplicates.
        subject_pictures: The curve and the sizes of the groups.
        leakage_pictures: Accuracy of the nearest neighbour.
        quality_pictures: Distributions of quality measures.
        more_quality: Further figures of quality, folded.
        maps: Maps.
        clusters: Agreement of clusters with known groupings, one row per clustering.
        unscaled_maps: Maps of the unscaled measures, folded.
        data: Facts about the data.
    """

    title: str
    findings: Findings
    tiles: tuple[tuple[str, str, str], ...]
    groups: tuple[ImageStrip, ...]
    outliers: tuple[ImageStrip, ...]
    duplicates: tuple[ImageStrip, ...]
    subject_pictures: tuple[Picture, ...]
    leakage_pictures: tuple[Picture, ...]
    quality_pictures: tuple[Picture, ...]
    more_quality: tuple[Picture, ...]
    maps: tuple[Picture, ...]
    clusters: tuple[tuple[str, ...], ...]
    unscaled_maps: tuple[Picture, ...]
    data: Facts


def write_audit(
    folder: Path, context: AuditContext, findings: Findings, *, maps: bool = True, with_umap: bool = False
) -> Path:
    """Write the findings, the groups, the quality of each image, the figures and the page.

    Args:
        folder: Gets ``audit.html``, ``findings.json``, ``findings.csv``, ``subjects.csv``, ``quality.csv``,
            ``maps.csv`` and ``figures/``.
        context: The data of the audit.
        findings: The findings.
        maps: Whether to draw maps, which takes most of the time.
        with_umap: Whether to draw a UMAP map too.

    Returns:
        The page.

    Raises:
        GyrusError: The folder cannot be written to.
        MissingDependencyError: UMAP is requested and not installed.
    """
    drawn = draw_maps(context, with_umap=with_umap) if maps else NO_MAPS
    findings.save(folder / "findings.json")
    findings.save_csv(folder / "findings.csv")
    _write_table(folder / "quality.csv", quality_table(context))
    if context.grouping.found:
        _write_table(folder / "subjects.csv", subject_table(context))
    if len(drawn.table):
        _write_table(folder / "maps.csv", drawn.table)
    figures = folder / "figures"
    content = AuditContent(
        title=findings.title,
        findings=findings,
        tiles=_tiles(context, findings),
        groups=_group_strips(context),
        outliers=_outlier_strips(context),
        duplicates=_duplicate_strips(context),
        subject_pictures=save_drawings(_draw_subjects(context), figures),
        leakage_pictures=save_drawings(_draw_leakage(findings), figures),
        quality_pictures=save_drawings(_draw_quality(context), figures),
        more_quality=save_drawings((*_draw_quality_by_class(context), *_draw_plain_outliers(context)), figures),
        maps=save_drawings(drawn.drawings, figures),
        clusters=tuple(map(_cluster_row, drawn.clusterings)),
        unscaled_maps=save_drawings(drawn.unscaled, figures),
        data=_data_facts(context),
    )
    environment = page_environment()
    environment.filters["figure"] = _number_text
    page = folder / "audit.html"
    write_text(page, environment.get_template("audit.html.j2").render(content=content, severities=SEVERITY_TITLES))
    return page


def subject_table(context: AuditContext) -> pd.DataFrame:
    """The groups: sample, inferred subject, position within it, and confidence in the group."""
    grouping = context.grouping
    return pd.DataFrame(
        {
            "sample": context.manifest.table["sample"],
            "subject": group_names(grouping.groups),
            "slice": grouping.order,
            "confidence": grouping.confidence[grouping.groups].round(3),
        }
    )


def quality_table(context: AuditContext) -> pd.DataFrame:
    """The quality measures of each image, with its largest robust and plain z-scores."""
    quality = context.images.quality
    return quality.assign(
        **{
            "sample": context.manifest.table["sample"],
            "worst robust z": fault_scores(quality).max(axis=1),
            "largest plain z": largest_plain_z(quality),
        }
    )


def _number_text(value: Number) -> str:
    if value is None or value != value:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _write_table(path: Path, table: pd.DataFrame) -> None:
    columns = ["sample", *[name for name in table.columns if name != "sample"]]
    write_csv(table[columns], path, float_format="%.6g")


def _draw_quality(context: AuditContext) -> tuple[Drawing, ...]:
    quality = context.images.quality
    measures = Drawing(
        "quality",
        "Whole-image measures",
        "A second peak often comes from a second scanner, or from slices at another height.",
        quality_figure(quality),
    )
    if (quality.nunique() > 1).sum() < 2:
        return (measures,)
    correlation = Drawing(
        "quality_correlation",
        "Correlation of the measures",
        "Spearman's rank correlation. The first four measures mostly depend on how much of the slice is head.",
        correlation_figure(quality),
    )
    return measures, correlation


def _draw_quality_by_class(context: AuditContext) -> tuple[Drawing, ...]:
    if len(np.unique(context.targets[context.targets >= 0])) < 2 or (context.images.quality.nunique() < 2).all():
        return ()
    caption = (
        "If the boxes of a measure do not overlap, image quality may predict the class. One value per image, not per "
        "subject."
    )
    figure = boxes_figure(context.images.quality, context.manifest.classes, context.targets)
    return (Drawing("quality_by_class", "Quality by class", caption, figure),)


def _draw_plain_outliers(context: AuditContext) -> tuple[Drawing, ...]:
    quality = context.images.quality
    height = largest_plain_z(quality)
    ranked = np.argsort(-height.to_numpy(), kind="stable")[:PLAIN_OUTLIERS_SHOWN]
    rows = [int(row) for row in ranked if height[row] > PLAIN_Z_THRESHOLD]
    if not rows:
        return ()
    caption = (
        f"{int((height > PLAIN_Z_THRESHOLD).sum()):,} images have an absolute z-score above {PLAIN_Z_THRESHOLD:g} "
        "(dotted lines), which one in twenty values of a normal distribution has: most of them are not bad images. All "
        "scores are in quality.csv."
    )
    pictures = [_original(context, row) for row in rows]
    figure = outliers_figure(pictures, plain_z_scores(quality).iloc[rows], PLAIN_Z_THRESHOLD)
    return (Drawing("plain_outliers", "Largest plain z-scores", caption, figure),)


def _draw_subjects(context: AuditContext) -> tuple[Drawing, ...]:
    grouping, plateau = context.grouping, context.grouping.plateau
    if len(grouping.dendrogram.similarity) < 2 or is_volumetric(context.manifest):
        return ()
    caption = "The number of groups changes at every threshold: one group gradually absorbs the others."
    if grouping.found:
        caption = "Shaded: the range over which the groups do not change. Line: the chosen threshold."
    elif grouping.strength == "look-alike":
        caption = "The groups at the line are look-alike groups: fragments of subjects may be as sharp."
    elif plateau is not None and plateau.width >= required_width(len(context.targets)):
        caption = "The stable groups are few and not chains of slices: positions or orientations, not subjects."
    curve = Drawing("groups_by_threshold", "Number of groups", caption, curve_figure(grouping))
    if not grouping.found:
        return (curve,)
    caption = "Subjects of one study usually have similar numbers of slices, so groups of equal size are plausible."
    return curve, Drawing("group_sizes", "Size of the groups", caption, sizes_figure(grouping))


def _draw_leakage(findings: Findings) -> tuple[Drawing, ...]:
    found = next((entry for entry in findings.select("leakage") if "nearest neighbour" in entry.numbers), None)
    if found is None:
        return ()
    leaks = found.severity != "ok"
    split = "random split by image" if "split" in found.numbers else "this split"
    named = {
        "nearest neighbour": (split, leaks),
        "nearest neighbour of another subject": ("other subjects only", False),
        "shuffled labels": ("labels shuffled", leaks),
        "chance with shuffled labels": ("labels shuffled, chance", False),
    }
    bars = [
        (title, float(value), bad)
        for name, (title, bad) in named.items()
        if isinstance(value := found.numbers[name], float) and value == value
    ]
    caption = (
        "A nearest-neighbour classifier knows nothing about disease. With labels shuffled across subjects, it can only "
        "recognise subjects: any accuracy above chance is leakage."
    )
    figure = leakage_figure(bars, float(found.numbers["majority class"] or 0.0))
    return (Drawing("leakage", "Accuracy from recognising subjects", caption, figure),)


def _group_strips(context: AuditContext) -> tuple[ImageStrip, ...]:
    """Some of the groups, from the highest to the lowest confidence."""
    grouping = context.grouping
    if grouping.strength == "none":
        return ()
    ranked = np.argsort(-grouping.confidence, kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(GROUPS_SHOWN, len(ranked))).astype(int)]
    strips = []
    for number in chosen:
        rows = np.nonzero(grouping.groups == number)[0]
        rows = rows[np.argsort(grouping.order[rows])]
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, min(SLICES_SHOWN, len(rows))).astype(int))]
        name, labels = group_names([int(number)])[0], context.manifest.table["label"].iloc[rows].dropna().unique()
        found = f"{counted(len(rows), 'image')}, {' and '.join(labels) or 'no label'}"
        note = f"{found}, confidence {grouping.confidence[number]:.2f}"
        images = tuple(_data_url(context.images.thumbnails[row]) for row in shown)
        strips.append(ImageStrip(name, note, images, f"{len(shown)} images of group {name} in the order found"))
    return tuple(strips)


def _outlier_strips(context: AuditContext) -> tuple[ImageStrip, ...]:
    """The worst quality outliers, a few per subject, because neighbouring slices are often bad together."""
    rows = {sample: row for row, sample in enumerate(context.manifest.table["sample"])}
    shown: list[ImageStrip] = []
    seen: Counter[int] = Counter()
    for flag in flag_outliers(context.images.quality, context.manifest.table["sample"]):
        row = rows[flag.sample]
        subject = row if context.subjects is None else int(context.subjects[row])
        seen[subject] += 1
        if seen[subject] <= OUTLIERS_PER_SUBJECT and len(shown) < OUTLIERS_SHOWN:
            shown.append(ImageStrip(flag.sample, flag.reason, (_data_url(_original(context, row)),), flag.reason))
    return tuple(shown)


def _duplicate_strips(context: AuditContext) -> tuple[ImageStrip, ...]:
    """Some pairs of duplicates, those with conflicting labels first."""
    targets, samples = context.targets, context.manifest.table["sample"]
    ranked = sorted(context.duplicates, key=lambda pair: targets[pair.first] == targets[pair.second])
    return tuple(
        ImageStrip(
            f"{pair.describe().capitalize()}, correlation {pair.correlation:.4f}",
            f"{samples[pair.first]} and {samples[pair.second]}",
            (_data_url(_original(context, pair.first)), _data_url(_original(context, pair.second))),
            pair.kind,
        )
        for pair in ranked[:PAIRS_SHOWN]
    )


def _original(context: AuditContext, row: int) -> NDArray[np.uint8]:
    """An image in its original size, gray; of a volume its central slice."""
    return central_slice(Reader(context.manifest).read(row), sequences=bool(context.manifest.channels))


def _data_url(gray: NDArray[np.uint8]) -> str:
    """A gray image as a data URL, at most 160 pixels wide or high."""
    image = Image.fromarray(gray)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _cluster_row(clustering: Clustering) -> tuple[str, ...]:
    agreement = (clustering.agreement.get(grouping) for grouping in ("class", "subject", "subset"))
    cells = ("–" if value is None else f"{value:.2f}".replace("-", "−") for value in agreement)
    return (clustering.name, f"{clustering.count:,}", f"{clustering.unclustered_fraction:.0%}", *cells)


def _tiles(context: AuditContext, findings: Findings) -> tuple[tuple[str, str, str], ...]:
    grouping = context.grouping
    tiles = [("Images", f"{findings.images:,}", f"in {len(context.manifest.classes):,} classes")]
    if grouping.found:
        note = f"from the pixels; confidence {grouping.overall_confidence:.2f}"
        tiles.append(("Subjects or scans", f"{len(grouping.sizes):,}", note))
    elif grouping.strength == "look-alike":
        note = f"{len(grouping.sizes):,} look-alike groups; may be far fewer people"
        tiles.append(("Subjects or scans", "unknown", note))
    else:
        volumes = is_volumetric(context.manifest)
        note = "not inferred from volumes" if volumes else "no groups of images are clearly separated"
        tiles.append(("Subjects from the pixels", "not applicable" if volumes else "unknown", note))
    leakage = [entry.numbers for entry in findings.select("leakage") if "leakage score" in entry.numbers]
    score = leakage[0]["leakage score"] if leakage else None
    if isinstance(score, float) and score == score:
        split = "a random split by image" if "split" in leakage[0] else "the given split"
        tiles.append(("Leakage score", f"{score:.2f}", f"of {split}; 0 is no leakage"))
    duplicates = len({pair.second for pair in context.duplicates})
    tiles.append(("Duplicates", f"{duplicates:,}", "images that duplicate another one"))
    return tuple(tiles)


def _data_facts(context: AuditContext) -> Facts:
    manifest = context.manifest
    subjects = f"{manifest.table['subject'].nunique():,}, by {manifest.subject_rule}"
    counts = ((name, int((context.targets == index).sum())) for index, name in enumerate(manifest.classes))
    subsets = pd.Series(context.subsets).value_counts()
    return (
        ("Images", f"{len(manifest):,}"),
        ("Classes", ", ".join(f"{name} ({count:,})" for name, count in counts)),
        ("Subjects in the data", "unknown" if manifest.subject_kind == "unknown" else subjects),
        ("Subsets", ", ".join(f"{name or 'none'} ({count:,})" for name, count in subsets.items())),
        ("Excluded", counted(len(manifest.problems), "unusable sample")),
        *((("Files", manifest.files.summary),) if manifest.files else ()),
        ("Digest", manifest.digest[:16]),
        ("Seed", str(context.seed)),
    )
