"""The page of an audit: the verdict first, then what it rests on, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gyrus.audit.checks import AuditContext
from gyrus.audit.embeddings import Clustering
from gyrus.audit.findings import Finding, Findings, Number
from gyrus.audit.image_quality import CLASSIC_Z, classic_outliers, classic_scores, faults
from gyrus.audit.subjects_from_pixels import group_names, needed_width
from gyrus.files import atomic_path, write_text
from gyrus.reporting.audit_embeddings import NO_MAPS, Maps, draw_maps
from gyrus.reporting.audit_figures import (
    boxes_figure,
    correlation_figure,
    curve_figure,
    leak_figure,
    outliers_figure,
    quality_figure,
    sizes_figure,
)
from gyrus.reporting.audit_thumbnails import ImageStrip, group_strips, original, outlier_strips, pair_strips
from gyrus.reporting.html import page_environment
from gyrus.reporting.report_content import Drawing, Facts, Picture

CLASSIC_SHOWN = 10
"""Images that stand out by their whole-image measures, shown with their z-scores."""


@dataclass(frozen=True)
class AuditContent:
    """What the page of an audit says.

    Attributes:
        title: Name of the data set.
        findings: The findings.
        tiles: What, how much, and how to read it.
        groups: Some of the groups found.
        outliers: The images that stand out most by their quality.
        pairs: Some of the copies found.
        subject_pictures: The curve and the sizes of the groups.
        leak_pictures: What remembering is worth.
        quality_pictures: Distributions.
        more_quality: Further pictures of quality, folded away.
        maps: Maps.
        clusters: What clusters go with, one row a way of finding them.
        classic_maps: Maps of the whole-image measures, folded away.
        data: What was looked at.
    """

    title: str
    findings: Findings
    tiles: tuple[tuple[str, str, str], ...]
    groups: tuple[ImageStrip, ...]
    outliers: tuple[ImageStrip, ...]
    pairs: tuple[ImageStrip, ...]
    subject_pictures: tuple[Picture, ...]
    leak_pictures: tuple[Picture, ...]
    quality_pictures: tuple[Picture, ...]
    more_quality: tuple[Picture, ...]
    maps: tuple[Picture, ...]
    clusters: tuple[tuple[str, ...], ...]
    classic_maps: tuple[Picture, ...]
    data: Facts


def write_audit(
    folder: Path, material: AuditContext, findings: Findings, *, maps: bool = True, with_umap: bool = False
) -> Path:
    """Write the findings, the groups, the quality of each image, the figures and the page.

    Args:
        folder: ``audit.html``, ``findings.json``, ``findings.csv``, ``subjects.csv``, ``quality.csv``, ``maps.csv`` and
            ``figures/`` go into it.
        material: What was looked at.
        findings: What was found.
        maps: Whether to draw maps, which takes longest.
        with_umap: Whether to draw a map by UMAP too.

    Returns:
        The page.

    Raises:
        GyrusError: The folder cannot be written to.
        MissingDependencyError: UMAP is asked for and not installed.
    """
    drawn = draw_maps(material, with_umap=with_umap) if maps else NO_MAPS
    findings.save(folder / "findings.json")
    findings.save_csv(folder / "findings.csv")
    _write_table(folder / "quality.csv", quality_table(material))
    if material.grouping.found:
        _write_table(folder / "subjects.csv", subject_table(material))
    if len(drawn.table):
        _write_table(folder / "maps.csv", drawn.table)
    drawings = {**_draw(material, findings), "maps": drawn.drawings, "classic_maps": drawn.classic}
    for each in (drawing for group in drawings.values() for drawing in group):
        each.save(folder / "figures")
    page = folder / "audit.html"
    write_text(page, render_audit(_content(material, findings, drawings, drawn)))
    return page


def render_audit(content: AuditContent) -> str:
    """The page as text."""
    environment = page_environment()
    environment.filters["figure"] = _figure_words
    return environment.get_template("audit.html.j2").render(content=content)


def subject_table(material: AuditContext) -> pd.DataFrame:
    """The groups found: sample, proposed subject, place within it, and confidence in the group."""
    grouping = material.grouping
    return pd.DataFrame(
        {
            "sample": material.manifest.table["sample"],
            "subject": group_names(grouping.groups),
            "slice": grouping.order,
            "confidence": grouping.confidence[grouping.groups].round(3),
        }
    )


def quality_table(material: AuditContext) -> pd.DataFrame:
    """The measures of each image, how far its worst one is out, and its largest plain z-score."""
    quality = material.images.quality
    return quality.assign(
        **{
            "sample": material.manifest.table["sample"],
            "worst robust z": faults(quality).max(axis=1),
            "largest plain z": classic_outliers(quality),
        }
    )


def _figure_words(value: Number) -> str:
    """A number as people read it."""
    if value is None or value != value:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _write_table(path: Path, table: pd.DataFrame) -> None:
    columns = ["sample", *[name for name in table.columns if name != "sample"]]
    with atomic_path(path) as temporary:
        table[columns].to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def _draw(material: AuditContext, findings: Findings) -> dict[str, tuple[Drawing, ...]]:
    quality = material.images.quality
    return {
        "subjects": _draw_subjects(material),
        "leakage": _draw_leakage(findings),
        "quality": (
            Drawing(
                "quality",
                "Whole-image measures",
                "A second hump is often a second scanner, or slices from another height.",
                quality_figure(quality),
            ),
            Drawing(
                "quality_correlation",
                "What goes together",
                "Spearman's rank correlation. The first four mostly say how much of the slice is head.",
                correlation_figure(quality),
            ),
        ),
        "more_quality": (*_draw_by_class(material), *_draw_classic(material)),
    }


def _draw_by_class(material: AuditContext) -> tuple[Drawing, ...]:
    if len(np.unique(material.targets[material.targets >= 0])) < 2:
        return ()
    words = (
        "Boxes that lie apart are a warning: the class may be told from the quality. Images, not people, are counted."
    )
    figure = boxes_figure(material.images.quality, material.manifest.classes, material.targets)
    return (Drawing("quality_by_class", "Quality by class", words, figure),)


def _draw_classic(material: AuditContext) -> tuple[Drawing, ...]:
    quality = material.images.quality
    height = classic_outliers(quality)
    rows = [
        int(row) for row in np.argsort(-height.to_numpy(), kind="stable")[:CLASSIC_SHOWN] if height[row] > CLASSIC_Z
    ]
    if not rows:
        return ()
    words = (
        f"{int((height > CLASSIC_Z).sum()):,} images have a plain z-score beyond {CLASSIC_Z:g} (dots), as one in "
        "twenty normal numbers has: most of them are no bad images. All are in quality.csv."
    )
    figure = outliers_figure([original(material, row) for row in rows], classic_scores(quality).iloc[rows], CLASSIC_Z)
    return (Drawing("classic_outliers", "Furthest from the mean", words, figure),)


def _draw_subjects(material: AuditContext) -> tuple[Drawing, ...]:
    if len(material.grouping.merges.similarity) < 2:
        return ()
    words = _curve_words(material)
    curve = Drawing("groups_by_threshold", "How many groups", words, curve_figure(material.grouping))
    if not material.grouping.found:
        return (curve,)
    caption = "People are scanned alike: groups of one size are a good sign."
    return curve, Drawing("group_sizes", "How large they are", caption, sizes_figure(material.grouping))


def _curve_words(material: AuditContext) -> str:
    plateau = material.grouping.plateau
    if material.grouping.found:
        return "Shaded: the range over which the number of groups holds still; line: the threshold chosen in it."
    if plateau is not None and plateau.width >= needed_width(len(material.targets)):
        return "The groups that hold still are few and no threads: heights or directions, and not people."
    return "There is no range over which the number of groups holds still: one group swallows the rest bit by bit."


def _draw_leakage(findings: Findings) -> tuple[Drawing, ...]:
    found = next((entry for entry in findings.of("leakage") if "nearest neighbour by image" in entry.numbers), None)
    if found is None:
        return ()
    leaks = found.severity != "ok"
    named = {
        "nearest neighbour by image": ("as the split is" if "twins" in found.numbers else "split by image", leaks),
        "nearest neighbour by person": ("people never seen", False),
        "labels shuffled among people": ("labels dealt out anew", leaks),
        "chance with shuffled labels": ("… by chance", False),
    }
    bars = [
        (words, float(value), bad)
        for name, (words, bad) in named.items()
        if isinstance(value := found.numbers[name], float) and value == value
    ]
    caption = (
        "It knows nothing of disease. With labels dealt out anew among the people there is nothing to learn but who "
        "somebody is: whatever it then gets above chance is leakage."
    )
    figure = leak_figure(bars, float(found.numbers["most frequent class"] or 0.0))
    return (Drawing("leakage", "What remembering is worth", caption, figure),)


def _content(
    material: AuditContext, findings: Findings, drawings: dict[str, tuple[Drawing, ...]], drawn: Maps
) -> AuditContent:
    pictures = {name: tuple(Picture.of(drawing) for drawing in group) for name, group in drawings.items()}
    return AuditContent(
        title=findings.title,
        findings=findings,
        tiles=_tiles(material, findings),
        groups=group_strips(material),
        outliers=outlier_strips(material),
        pairs=pair_strips(material),
        subject_pictures=pictures["subjects"],
        leak_pictures=pictures["leakage"],
        quality_pictures=pictures["quality"],
        more_quality=pictures["more_quality"],
        maps=pictures["maps"],
        clusters=tuple(map(_cluster_row, drawn.clusterings)),
        classic_maps=pictures["classic_maps"],
        data=_data_facts(material),
    )


def _cluster_row(clustering: Clustering) -> tuple[str, ...]:
    agreement = (clustering.agreement.get(what) for what in ("class", "person", "subset"))
    told = ("–" if value is None else f"{value:.2f}" for value in agreement)
    return (clustering.name, f"{clustering.count:,}", f"{clustering.outside:.0%}", *told)


def _tiles(material: AuditContext, findings: Findings) -> tuple[tuple[str, str, str], ...]:
    grouping = material.grouping
    groups = f"{len(grouping.sizes):,}" if grouping.found else "none"
    sure = f"groups that look like one person; confidence {grouping.trust:.2f}" if grouping.found else "stand apart"
    tiles = [("Images", f"{findings.images:,}", "looked at"), ("Found from the pixels", groups, sure)]
    scored = _first_number(findings.of("leakage"), "leak score")
    if scored is not None:
        tried = any(entry.numbers.get("parts") for entry in findings.of("leakage"))
        tiles.append(
            (
                "Leak score",
                f"{scored:.2f}",
                "of a split by image; 0 is honest" if tried else "of the given parts; 0 is honest",
            )
        )
    copies = _first_number(findings.of("duplicates"), "images that are copies") or 0
    tiles.append(("Copies", f"{copies:,.0f}", "images that are there twice"))
    return tuple(tiles)


def _first_number(entries: Sequence[Finding], name: str) -> float | None:
    values = [entry.numbers[name] for entry in entries if name in entry.numbers]
    return float(values[0]) if values and isinstance(values[0], int | float) and values[0] == values[0] else None


def _data_facts(material: AuditContext) -> Facts:
    manifest = material.manifest
    known = manifest.subject_kind != "unknown"
    subsets = pd.Series(material.subsets).value_counts()
    return (
        ("Images", f"{len(manifest):,}"),
        (
            "Classes",
            ", ".join(f"{name} ({int((material.targets == i).sum()):,})" for i, name in enumerate(manifest.classes)),
        ),
        (
            "Subjects in the data",
            f"{manifest.table['subject'].nunique():,}, by {manifest.subject_rule}" if known else "unknown",
        ),
        ("Parts", ", ".join(f"{name or 'none'} ({count:,})" for name, count in subsets.items())),
        ("Left out", f"{len(manifest.problems):,} images that cannot be used"),
        ("Digest", manifest.digest[:16]),
        ("Seed", str(material.seed)),
    )
