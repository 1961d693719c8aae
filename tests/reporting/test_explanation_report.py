"""The page of an explanation shows maps, checks and warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gyrus.evaluation.result import Estimate
from gyrus.explanation.attribution import MeanMaps
from gyrus.explanation.background_reliance import BackgroundReliance
from gyrus.explanation.checks import ExplanationChecks, MethodReport
from gyrus.explanation.explanation_folder import DisplayedMaps, ExplanationFolder
from gyrus.explanation.randomisation_and_stability import Stability, WeightRandomisation
from gyrus.reporting.explanation_report import draw_checks, example_overlays, explanation_section, write_explanation
from tests.reporting.test_heat_map_figures import attribution
from tests.support.report_contents import page_text, words


def report(method: str, over_edges: Estimate) -> MethodReport:
    return MethodReport(
        method=method,
        layer="features",
        deletion=0.2,
        insertion=0.5,
        over_edges=over_edges,
        over_chance=Estimate(0.2, 0.1, 0.3),
        beats_edges=0.8,
        weights=WeightRandomisation(("head", "stage 1"), (0.1, 0.0)),
        labels=None,
        stability=Stability(0.9, 0.8),
        folds=None,
        in_brain=0.9,
        in_structures=None,
        empty_maps=0.0,
    )


CHECKS = ExplanationChecks(
    title="A run",
    target="predicted",
    images=6,
    subjects=5,
    methods=(report("grad-cam", Estimate(0.2, 0.1, 0.3)), report("eigen-cam", Estimate(-0.1, -0.2, 0.0))),
    agreement=((1.0, 0.4), (0.4, 1.0)),
    brain_area=0.4,
    reliance=BackgroundReliance(brain=0.3, outside=0.0, brain_changed=0.8, outside_changed=0.1, pairs=6),
)


@pytest.fixture
def folder(tmp_path: Path) -> ExplanationFolder:
    folder, methods = ExplanationFolder(tmp_path), ("grad-cam", "eigen-cam")
    for method in methods:
        attribution(method=method).save(folder.attribution(method, 0))
        maps = np.ones((1, 8, 8), np.float32)
        MeanMaps(("AD",), (3,), 100 * maps, maps).save(folder.means(method))
    CHECKS.save(folder.checks)
    folder.save_displayed(
        DisplayedMaps("A run", "random", "predicted", methods, ("s1",), "inferno", averaged=3, notes=("A note.",))
    )
    return folder


def test_the_page_has_findings_checks_and_methods(folder: ExplanationFolder) -> None:
    page = page_text(write_explanation(folder).read_text(encoding="utf-8"))
    assert all(sentence in page for sentence in CHECKS.sentences)
    assert page.index(CHECKS.sentences[0]) < page.index("Heat maps") < page.index("Checks") < page.index("A note.")
    assert "6 images of 5 subjects" in page
    assert "Exchange of brain and background" in page
    assert {path.suffix for path in folder.figures.iterdir()} == {".png", ".svg"}
    assert folder.attribution("grad-cam", 0, ".png").is_file()


def test_maps_without_checks_are_called_unchecked(folder: ExplanationFolder) -> None:
    folder.checks.unlink()
    page = page_text(write_explanation(folder).read_text(encoding="utf-8"))
    assert "These maps were not checked" in page


def test_reliance_on_the_background_is_a_warning(folder: ExplanationFolder) -> None:
    reliance = BackgroundReliance(brain=0.1, outside=0.4, brain_changed=0.2, outside_changed=0.7, pairs=6)
    replace(CHECKS, reliance=reliance).save(folder.checks)
    page = write_explanation(folder).read_text(encoding="utf-8")
    assert '<div class="warning" role="alert">The network relies on the background' in page


def test_the_section_of_a_run_needs_a_finished_explanation(folder: ExplanationFolder) -> None:
    content = explanation_section(folder.folder)
    assert content is not None
    assert content.checks == CHECKS
    assert set(example_overlays(folder.folder)) == {"s1"}
    folder.remove_displayed()
    assert explanation_section(folder.folder) is None
    assert example_overlays(folder.folder) == {}


def test_figures_of_checks_name_methods_and_verdicts() -> None:
    drawings = {drawing.name: words(drawing.figure) for drawing in draw_checks(CHECKS)}
    assert list(drawings) == ["faithfulness", "cascade", "stability", "agreement"]
    assert all("Grad-CAM" in text and "Eigen-CAM" in text for text in drawings.values())
    assert "not better than an edge detector" in drawings["faithfulness"]
