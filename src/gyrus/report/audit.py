"""The page of an audit: the verdict first, then what it rests on, with pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from gyrus.data.audit.checks import Material
from gyrus.data.audit.duplicates import in_words
from gyrus.data.audit.findings import Finding, Findings, Number
from gyrus.data.audit.maps import standard, tsne
from gyrus.data.audit.quality import MEASURES, flag_outliers
from gyrus.data.audit.subjects import group_names
from gyrus.data.preprocessing import Grayscale
from gyrus.data.reading import Reader
from gyrus.files import atomic_path, write_text
from gyrus.report.audit_figures import curve_figure, leak_figure, map_figure, quality_figure, sizes_figure
from gyrus.report.content import Drawing, Facts, Picture
from gyrus.report.html import page_environment

GROUPS_SHOWN, SLICES_SHOWN = 6, 12
OUTLIERS_SHOWN, PAIRS_SHOWN = 12, 6
SHOWN_SIDE = 160
"""Pixels of the longer side of a picture of a single image."""

MOST_MAPPED = 2_000
"""Images on a map, chosen at random among more."""


@dataclass(frozen=True)
class Strip:
    """Pictures in a row.

    Attributes:
        title: What they are.
        note: How sure, or why.
        images: Data addresses, one a picture.
        alt: What to say instead of the pictures.
    """

    title: str
    note: str
    images: tuple[str, ...]
    alt: str


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
        maps: Maps.
        data: What was looked at.
    """

    title: str
    findings: Findings
    tiles: tuple[tuple[str, str, str], ...]
    groups: tuple[Strip, ...]
    outliers: tuple[Strip, ...]
    pairs: tuple[Strip, ...]
    subject_pictures: tuple[Picture, ...]
    leak_pictures: tuple[Picture, ...]
    quality_pictures: tuple[Picture, ...]
    maps: tuple[Picture, ...]
    data: Facts


def write_audit(folder: Path, material: Material, findings: Findings, *, maps: bool = True) -> Path:
    """Write the findings, the groups, the quality of each image, the figures and the page.

    Args:
        folder: ``audit.html``, ``findings.json``, ``findings.csv``, ``subjects.csv``, ``quality.csv`` and ``figures/``
            go into it.
        material: What was looked at.
        findings: What was found.
        maps: Whether to draw maps, which takes longest.

    Returns:
        The page.

    Raises:
        GyrusError: The folder cannot be written to.
    """
    findings.save(folder / "findings.json")
    findings.save_csv(folder / "findings.csv")
    _write_table(folder / "quality.csv", material.images.quality.assign(sample=material.manifest.table["sample"]))
    if material.grouping.found:
        _write_table(folder / "subjects.csv", subject_table(material))
    drawings = _draw(material, findings, maps=maps)
    for each in (drawing for group in drawings.values() for drawing in group):
        each.save(folder / "figures")
    page = folder / "audit.html"
    write_text(page, render_audit(_content(material, findings, drawings)))
    return page


def render_audit(content: AuditContent) -> str:
    """The page as text."""
    environment = page_environment()
    environment.filters["figure"] = _figure_words
    return environment.get_template("audit.html.j2").render(content=content)


def subject_table(material: Material) -> pd.DataFrame:
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


def _draw(material: Material, findings: Findings, *, maps: bool) -> dict[str, tuple[Drawing, ...]]:
    return {
        "subjects": _draw_subjects(material),
        "leakage": _draw_leakage(findings),
        "quality": (
            Drawing(
                "quality",
                "Whole-image measures",
                "A second hump is often a second scanner, or slices from another height.",
                quality_figure(material.images.quality),
            ),
        ),
        "maps": _draw_maps(material) if maps and len(material.targets) >= 8 else (),
    }


def _draw_subjects(material: Material) -> tuple[Drawing, ...]:
    if len(material.grouping.merges.similarity) < 2:
        return ()
    words = (
        "Shaded: the range over which the number of groups holds still; line: the threshold chosen in it."
        if material.grouping.found
        else "There is no range over which the number of groups holds still: one group swallows the rest bit by bit."
    )
    curve = Drawing("groups_by_threshold", "How many groups", words, curve_figure(material.grouping))
    if not material.grouping.found:
        return (curve,)
    caption = "People are scanned alike: groups of one size are a good sign."
    return curve, Drawing("group_sizes", "How large they are", caption, sizes_figure(material.grouping))


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


def _draw_maps(material: Material) -> tuple[Drawing, ...]:
    generator = np.random.default_rng(material.seed)
    count = len(material.targets)
    rows = np.sort(generator.choice(count, min(count, MOST_MAPPED), replace=False))
    flagged = {flag.sample for flag in flag_outliers(material.images.quality, material.manifest.table["sample"])}
    odd = material.manifest.table["sample"].isin(flagged).to_numpy()[rows]
    points = tsne(material.neighbours.vectors[rows], seed=42)
    classes, targets = material.manifest.classes, material.targets[rows]
    chosen = f" {len(rows):,} of {count:,} images, at random." if len(rows) < count else ""
    drawings = [
        Drawing(
            "map_by_class",
            "Map by class",
            f"t-SNE of the pixels: like images are near each other, far distances mean nothing.{chosen}",
            map_figure(points, classes, targets, odd, "By class"),
        )
    ]
    if material.people is not None:
        people = material.people[rows]
        names = np.unique(people)
        shown = names[np.linspace(0, len(names) - 1, min(6, len(names))).astype(int)]
        numbers = np.select([people == name for name in shown], range(len(shown)), -1)
        words = "The same map with six people coloured: thread after thread, each a person's slices."
        figure = map_figure(
            points, [f"person {number + 1}" for number in range(len(shown))], numbers, odd & False, "By person"
        )
        drawings.append(Drawing("map_by_person", "Map by person", words, figure))
    features = standard(material.images.quality[list(MEASURES)].to_numpy()[rows])
    figure = map_figure(tsne(features), classes, targets, odd, "By quality")
    words = "t-SNE of the standardised quality measures; crosses are the images named as outliers."
    drawings.append(Drawing("map_of_quality", "Map of quality", words, figure))
    return tuple(drawings)


def _content(material: Material, findings: Findings, drawings: dict[str, tuple[Drawing, ...]]) -> AuditContent:
    pictures = {name: tuple(Picture.of(drawing) for drawing in group) for name, group in drawings.items()}
    return AuditContent(
        title=findings.title,
        findings=findings,
        tiles=_tiles(material, findings),
        groups=_group_strips(material),
        outliers=_outlier_strips(material),
        pairs=_pair_strips(material),
        subject_pictures=pictures["subjects"],
        leak_pictures=pictures["leakage"],
        quality_pictures=pictures["quality"],
        maps=pictures["maps"],
        data=_data_facts(material),
    )


def _tiles(material: Material, findings: Findings) -> tuple[tuple[str, str, str], ...]:
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


def _group_strips(material: Material) -> tuple[Strip, ...]:
    grouping = material.grouping
    if not grouping.found:
        return ()
    ranked = np.argsort(-grouping.confidence, kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(GROUPS_SHOWN, len(ranked))).astype(int)]
    strips = []
    for number in chosen:
        rows = np.nonzero(grouping.groups == number)[0]
        rows = rows[np.argsort(grouping.order[rows])]
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, min(SLICES_SHOWN, len(rows))).astype(int))]
        name, labels = group_names([int(number)])[0], material.manifest.table["label"].iloc[rows].dropna().unique()
        note = f"{len(rows)} images, {' and '.join(labels) or 'no label'}, confidence {grouping.confidence[number]:.2f}"
        images = tuple(data_address(material.images.thumbnails[row]) for row in shown)
        strips.append(Strip(name, note, images, f"{len(shown)} images of group {name} in the order found"))
    return tuple(strips)


def _outlier_strips(material: Material) -> tuple[Strip, ...]:
    flags = flag_outliers(material.images.quality, material.manifest.table["sample"])[:OUTLIERS_SHOWN]
    rows = {sample: row for row, sample in enumerate(material.manifest.table["sample"])}
    return tuple(
        Strip(flag.sample, flag.reason, (_original(material, rows[flag.sample]),), flag.reason) for flag in flags
    )


def _pair_strips(material: Material) -> tuple[Strip, ...]:
    samples = material.manifest.table["sample"]
    return tuple(
        Strip(
            f"{in_words(pair).capitalize()}, correlation {pair.correlation:.4f}",
            f"{samples[pair.first]} and {samples[pair.second]}",
            (_original(material, pair.first), _original(material, pair.second)),
            pair.kind,
        )
        for pair in material.pairs[:PAIRS_SHOWN]
    )


def _data_facts(material: Material) -> Facts:
    manifest = material.manifest
    known = manifest.subject_kind != "unknown"
    parts = pd.Series(material.parts).value_counts()
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
        ("Parts", ", ".join(f"{name or 'none'} ({count:,})" for name, count in parts.items())),
        ("Left out", f"{len(manifest.problems):,} images that cannot be used"),
        ("Digest", manifest.digest[:16]),
        ("Seed", str(material.seed)),
    )


def _original(material: Material, row: int) -> str:
    return data_address(Grayscale()(Reader(material.manifest).read(row))[0])


def data_address(gray: NDArray[np.uint8]) -> str:
    """A gray image as an address that holds the picture itself, at most 160 pixels wide or high."""
    image = Image.fromarray(gray)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
