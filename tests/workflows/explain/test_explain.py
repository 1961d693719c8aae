"""Explanations of finished runs: their output, their checks, and refused settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from torch import Tensor

import gyrus.workflows.explain.compute as computation
import gyrus.workflows.explain.explain as workflow
from gyrus.audit.image_quality import measure_quality
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.slices import SliceConfig, slice_volumes
from gyrus.datasets.splits import Split
from gyrus.errors import BadFilesError, DataError, GyrusError
from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.attribution import Attribution, MeanMaps
from gyrus.explanation.checks import ExplanationChecks
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.localisation import REFERENCES, Localisation
from gyrus.explanation.method_input import MethodInput
from gyrus.explanation.methods import METHODS
from gyrus.explanation.regions import Atlas
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.display import SILENT, Silent
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.explain.images import decode_images, images_of_run
from gyrus.workflows.explain.secondary_captures import SecondaryCaptures, checks_in_words
from gyrus.workflows.explain.time_budget import TimeBudget
from gyrus.workflows.predict import TrainedClassifier
from gyrus.workflows.saved_outputs import load_quality
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.dicoms import write_series
from tests.support.networks import one_thread

QUICK = {**SMALL, "evaluation.baselines": False}
FEW = ExplainConfig(shown=4, images=4, checks=False)
AFFINE = np.array([[-2.0, 0, 0, 40], [0, 3, 0, -50], [0, 0, 4, -20], [0, 0, 0, 1]])
"""From voxels to mm of scans whose first axis runs from right to left."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def volume_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network trained on volumes in NIfTI."""
    folder = tmp_path_factory.mktemp("volumes")
    phantom = generate(subjects=24, slices=8, classes=2, size=32, seed=0)
    for subject, label, volume in zip(phantom.subjects, phantom.labels, phantom.volumes, strict=True):
        path = folder / "data" / f"class-{label}" / f"sub-{subject}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), AFFINE), path)
    return train("dementia-baseline", data=folder / "data", out=folder / "run", overrides=QUICK)


def trained_run(folder: Path, *, marked: bool) -> Run:
    """A network trained on phantoms; if marked, a bright corner encodes the label."""
    phantom = generate(subjects=24, slices=4, classes=2, size=32, seed=0)
    if marked:
        phantom.volumes[np.flatnonzero(phantom.labels == 1), :, 1:3, 1:3] = 255
    overrides = {**QUICK, "training.epochs": 4 if marked else 12}
    return train("dementia-baseline", data=write(phantom, folder / "data"), out=folder / "run", overrides=overrides)


@pytest.fixture(scope="module")
def shortcut_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained_run(tmp_path_factory.mktemp("shortcut"), marked=True)


@pytest.mark.usefixtures("drawn_figures")
def test_the_report_of_a_run_includes_its_explanation(finished_run: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    folder = explain(run, config=replace(FEW, grid="best", checks=True))
    checks, report = ExplanationChecks.load(folder.checks), run.report.read_text(encoding="utf-8")
    page = folder.report.read_text(encoding="utf-8")
    assert folder.folder == run.explanation
    assert "Explanation</h2>" in report
    assert "Explanation</h2>" not in (finished_run / "report.html").read_text(encoding="utf-8")
    assert checks.sentences
    assert all(sentence in report and sentence in page for sentence in checks.sentences)
    before, after = (_height(folder / "figures" / "examples.png") for folder in (finished_run, run.folder))
    assert after > 1.3 * before  # with the heat maps below the images


def _height(path: Path) -> int:
    with Image.open(path) as image:
        return image.height


def test_reliance_on_the_background_is_reported_first(shortcut_run: Run, tmp_path: Path) -> None:
    config = replace(FEW, images=12, checks=True)
    caught = explain(shortcut_run, config=config)
    honest = explain(trained_run(tmp_path, marked=False), config=config)
    page = caught.report.read_text(encoding="utf-8")
    assert page.index("relies on the background") < page.index("<h2>")
    assert "The network relies on the background" in shortcut_run.report.read_text(encoding="utf-8")
    assert ExplanationChecks.load(honest.checks).sentences[0].startswith("The network relies on the brain")
    assert "relies on the background" not in honest.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("grid", ["random", "best", "worst", "class"])
def test_each_grid_selects_its_images(finished_run: Path, tmp_path: Path, grid: str) -> None:
    folder = explain(finished_run, config=replace(FEW, grid=grid), out=tmp_path / "e")  # type: ignore[arg-type]
    shown = folder.attributions("grad-cam")
    subjects = Manifest.load(Run(finished_run).manifest).table.set_index("sample")["subject"]
    assert 1 <= len(shown) <= 4
    if grid == "random":
        assert len({subjects[each.sample] for each in shown}) == len(shown)
    rights = {each.predicted == each.truth for each in shown}
    assert rights <= {"best": {True}, "worst": {False}}.get(grid, {True, False})
    if grid == "class":
        assert {each.truth for each in shown} == {"Control", "Dementia"}
    for each in shown:
        assert each.map.shape == each.image.shape == (32, 32)
        assert each.probabilities.sum() == pytest.approx(1)


def test_what_exceeds_the_time_limit_is_left_out_and_reported(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass of occlusion takes a minute of an artificial clock."""
    now = [0.0]
    real = perturbation.occlusion

    def slow(inputs: MethodInput) -> Tensor:
        def advance(passes: int) -> None:
            now[0] += 60.0 * passes
            inputs.advance(passes)

        return real(replace(inputs, advance=advance))

    monkeypatch.setitem(METHODS, "occlusion", replace(METHODS["occlusion"], compute=slow))
    monkeypatch.setattr(workflow, "TimeBudget", partial(TimeBudget, clock=lambda: now[0]))
    lines: list[str] = []
    display = Silent()
    monkeypatch.setattr(display, "say", lines.append, raising=False)
    both = replace(FEW, methods=("grad-cam", "occlusion"), minutes=60.0, checks=True)

    folder = explain(finished_run, config=both, out=tmp_path / "e", display=display)

    (note,) = (line for line in lines if "left out" in line)
    assert note.startswith("Warning: Occlusion is left out: it needs ")
    assert "higher --minutes" in note
    assert note.removeprefix("Warning: ").removesuffix(".") in folder.report.read_text(encoding="utf-8")
    assert [path.name for path in sorted(folder.maps.iterdir())] == ["grad-cam"]
    assert [report.method for report in ExplanationChecks.load(folder.checks).methods] == ["grad-cam"]

    with pytest.raises(GyrusError, match=r"No method fits into the time limit of 0\.5 minutes"):
        explain(finished_run, config=replace(both, methods=("occlusion",), minutes=0.5), out=tmp_path / "f")

    monkeypatch.setitem(METHODS, "occlusion", replace(METHODS["occlusion"], compute=real))
    folder = explain(finished_run, config=replace(both, checks=False), out=tmp_path / "e")
    assert len(list(folder.maps.iterdir())) == 2


def test_computed_maps_are_reused(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = explain(finished_run, config=FEW, out=tmp_path / "e").attributions("grad-cam")
    monkeypatch.setattr(computation, "compute_heat_maps", None)
    again = explain(finished_run, config=FEW, out=tmp_path / "e").attributions("grad-cam")
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.map, other.map)
    with pytest.raises(TypeError):
        explain(finished_run, config=replace(FEW, target="Control"), out=tmp_path / "e")


def test_a_mistake_leaves_an_earlier_explanation_unchanged(finished_run: Path, tmp_path: Path) -> None:
    folder = explain(finished_run, config=FEW, out=tmp_path / "e")
    before = {path: path.read_bytes() for path in sorted(folder.folder.rglob("*")) if path.is_file()}
    for wrong in (
        {"layer": "nowhere"},
        {"target": "Nobody"},
        {"emphasis": {"Nobody": 2.0}},
        {"atlas": Atlas(str(tmp_path / "none.png"))},
        {"truth": str(tmp_path / "{sample}.png")},
    ):
        with pytest.raises(GyrusError):
            explain(finished_run, config=replace(FEW, **wrong), out=folder.folder)  # type: ignore[arg-type]
    assert before == {path: path.read_bytes() for path in sorted(folder.folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("drawn_figures")
def test_emphasis_is_reported(finished_run: Path, tmp_path: Path) -> None:
    config = replace(FEW, emphasis={"Dementia": 1.5, "Control": 1.2})
    folder = explain(finished_run, config=config, out=tmp_path / "e")
    page = folder.report.read_text(encoding="utf-8")
    assert "raised to a power by class (Control 1.2, Dementia 1.5)" in page
    assert {each.emphasis for each in folder.attributions("grad-cam")} <= {1.2, 1.5}
    picture = (folder.figures / "grid_grad_cam.svg").read_text(encoding="utf-8")
    assert "power 1." in picture


def test_maps_of_volumes_are_in_the_space_of_their_scans(volume_run: Run) -> None:
    folder = explain(volume_run, config=replace(FEW, shown=2, images=2))
    assert folder.displayed.notes == ()
    for number, each in enumerate(folder.attributions("grad-cam")):
        scan = nibabel.load(_file_of(each, volume_run))
        made = nibabel.load(folder.attribution("grad-cam", number, ".nii.gz"))
        closest = nibabel.as_closest_canonical(scan)
        np.testing.assert_allclose(made.affine, closest.affine)
        assert made.shape == closest.shape
        np.testing.assert_allclose(made.get_fdata(), each.map.transpose(2, 1, 0)[::-1, ::-1], atol=1e-6)
        gray = each.image.transpose(2, 1, 0)[::-1, ::-1].astype(float)
        assert np.corrcoef(gray.ravel(), closest.get_fdata().ravel())[0, 1] > 0.99
        assert folder.attribution("grad-cam", number, "-montage.png").is_file()
    assert "in three planes" in folder.report.read_text(encoding="utf-8")


def test_heat_maps_of_dicom_series_as_dicom(volume_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, volume in enumerate(generate(subjects=3, slices=8, classes=2, size=32, seed=1).volumes):
        study = f"1.2.{number}" if number else ""
        write_series(volume, tmp_path / "scans" / f"p{number}", PatientID=f"P{number}", StudyInstanceUID=study)
    lines: list[str] = []
    display = Silent()
    monkeypatch.setattr(display, "say", lines.append, raising=False)
    with pytest.raises(BadFilesError, match="1 series has no heat map; those of the other 1 are in") as error:
        explain(
            volume_run,
            [tmp_path / "scans"],
            config=replace(FEW, shown=2, images=2, checks=True),
            out=tmp_path / "e",
            dicom_sc=tmp_path / "sc",
            display=display,
        )
    reason = "p0/series-007: the header has no StudyInstanceUID, to which a heat map must refer."
    assert error.value.report == (reason,)
    assert lines[-2] == "Heat maps are written of 2 of 3 series. For more, raise --shown."
    assert lines[-1].startswith("1 DICOM heat map (research, no diagnosis): ")
    folder = ExplanationFolder(tmp_path / "e")
    (report,) = ExplanationChecks.load(folder.checks).methods
    assert folder.displayed.shown == ("p2/series-007", "p0/series-007")
    assert [path.name for path in (tmp_path / "sc").iterdir()] == ["p2"]
    paths = sorted((tmp_path / "sc" / "p2" / "series-007" / "grad-cam").iterdir())
    assert [path.name for path in paths] == [f"{place:04d}.dcm" for place in range(1, 9)]
    images = [pydicom.dcmread(path) for path in paths]
    assert {image.PatientID for image in images} == {"P2"}
    checks = f"Checks of Grad-CAM on 2 images: {checks_in_words(report)}."
    assert all(checks in image.ImageComments for image in images)
    # The map of the folder, at the heights of the source images.
    heat = folder.attributions("grad-cam")[0]
    heights = heat.affine[2, 3] + heat.affine[2, 0] * np.arange(len(heat.map))
    warmth = [float(heat.heat[np.abs(heights - image.ImagePositionPatient[2]).argmin()].sum()) for image in images]
    colour = [float(np.ptp(image.pixel_array.astype(int), axis=-1).sum()) for image in images]
    assert max(warmth) > 0
    assert np.corrcoef(warmth, colour)[0, 1] > 0.9


def test_what_cannot_be_written_as_dicom_is_refused_before_the_work(
    volume_run: Run, finished_run: Path, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(generate(subjects=1, slices=8, classes=2, size=32, seed=1).volumes[0], tmp_path / "scan")
    monkeypatch.setattr(TrainedClassifier, "logits", lambda *_: pytest.fail("predicted"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0001.dcm").touch()
    out = tmp_path / "e"
    for run, inputs, folder, words in (
        (volume_run, [], tmp_path / "sc", "is not DICOM. Give DICOM files, or leave --dicom-sc out"),
        (finished_run, [phantom_folder], tmp_path / "sc", "is not DICOM"),
        (volume_run, [tmp_path / "scan"], tmp_path / "full", "no image is overwritten"),
        (volume_run, [tmp_path / "scan"], out / "sc", "overlap. Give another folder"),
    ):
        with pytest.raises(GyrusError, match=words):
            explain(run, inputs, config=FEW, out=out, dicom_sc=folder)
        assert not out.exists()
        assert not (tmp_path / "sc").exists()
    slices = slice_volumes(scan(tmp_path / "scan", labelled=False), SliceConfig(range=(0.0, 1.0)))
    with pytest.raises(DataError, match=r"takes single slices\. Use a run that was trained on"):
        SecondaryCaptures(tmp_path / "sc", out).require_usable(slices)
    assert checks_in_words(None) == "not checked"


def _file_of(attribution: Attribution, run: Run) -> Path:
    (path,) = run.folder.parent.glob(f"data/*/{Path(attribution.sample).name.split('.')[0]}.nii.gz")
    return path


def test_images_and_quality_are_those_of_the_slice_where_the_network_has_tissue_maps_of_neighbours(
    tmp_path: Path,
) -> None:
    data = write(generate(subjects=16, slices=6, classes=2, size=32, seed=0), tmp_path / "data")
    steps = {"data.slices": {"neighbours": 1}, "preprocessing.steps": [{"step": "tissue"}], "training.epochs": 1}
    run = train("dementia-baseline", data=data, out=tmp_path / "run", overrides={**without_steps(QUICK), **steps})
    trained = TrainedClassifier.load(run)
    selected = decode_images(images_of_run(run, trained), np.arange(2), trained, SILENT)
    assert selected.images.shape == (2, 3, 32, 32)
    for number, manifest in enumerate(selected.manifests):
        slice_ = np.asarray(Image.open(data / manifest.table["path"].iloc[0]).convert("L"))
        np.testing.assert_array_equal(selected.original(number).pixels, slice_)
        np.testing.assert_array_equal(selected.gray[number], slice_)

    tested = Manifest.load(run.manifest).select(Split.load(run.split).samples["test"]).table
    files = tested[tested["subject"] == tested["subject"].iloc[0]].set_index("sample")["path"]
    measured = [measure_quality(np.asarray(Image.open(data / path).convert("L")))["sharpness"] for path in files]
    assert load_quality(run).loc[files.index[0], "sharpness"] == pytest.approx(np.mean(measured), rel=0.01)


def without_steps(overrides: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in overrides.items() if not name.startswith("preprocessing.steps")}


def test_attribution_is_summarised_by_the_regions_of_an_atlas(finished_run: Path, tmp_path: Path) -> None:
    labels = np.ones((32, 32), np.uint8)
    labels[:, 16:] = 2
    Image.fromarray(labels).save(tmp_path / "halves.png")
    (tmp_path / "names.csv").write_text("number,name\n1,left side\n2,right side\n")
    atlas = Atlas(str(tmp_path / "halves.png"), tmp_path / "names.csv")
    folder = explain(finished_run, config=replace(FEW, atlas=atlas), out=tmp_path / "e")
    table = pd.read_csv(folder.regions)
    assert set(table["name"]) == {"left side", "right side"}
    assert table["map_fraction"].sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(table["image_fraction"], 0.5)
    assert "right side" in folder.report.read_text(encoding="utf-8")


def test_an_atlas_of_other_voxels_is_placed_by_its_header(volume_run: Run, tmp_path: Path) -> None:
    scan = nibabel.load(min(volume_run.folder.parent.glob("data/*/*.nii.gz")))
    corners = nibabel.affines.apply_affine(scan.affine, [np.zeros(3), np.array(scan.shape) - 1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    # Twice as fine, stored from left to right unlike the scan; the leftmost quarter of the head is region 7.
    step = np.abs(scan.header.get_zooms()[:3]) / 2
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = low - step
    labels = np.full(np.round((high - low) / step).astype(int) + 3, 8, np.int16)
    labels[: round((high[0] - low[0]) / step[0] / 4) + 1] = 7
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "atlas.nii.gz")
    config = replace(FEW, shown=2, images=2, methods=("occlusion",), atlas=Atlas(str(tmp_path / "atlas.nii.gz")))
    table = pd.read_csv(explain(volume_run, config=config, out=tmp_path / "e").regions).set_index("name")
    assert table["map_fraction"].sum() == pytest.approx(1, abs=1e-4)
    assert table.loc[next(name for name in table.index if "7" in str(name)), "image_fraction"] == pytest.approx(
        0.25, abs=0.04
    )


def test_maps_are_measured_against_masks_of_what_they_should_find(finished_run: Path, tmp_path: Path) -> None:
    samples = Manifest.load(Run(finished_run).manifest).table["sample"]
    left = np.zeros((32, 32), np.uint8)
    left[:, :16] = 255
    for number, sample in enumerate(samples):  # every third image has an empty mask, and every other third none
        if number % 3:
            Image.fromarray(left * (number % 3 - 1)).save(tmp_path / f"{Path(sample).stem}.png")
    config = replace(FEW, images=12, methods=("grad-cam", "occlusion"), truth=str(tmp_path / "{sample}.png"))
    folder = explain(finished_run, config=config, out=tmp_path / "e")

    found, table = Localisation.load(folder.localisation), pd.read_csv(folder.localisation_by_image)
    assert {score.map for score in found.methods} == {"grad-cam", "occlusion"}
    assert {score.map for score in found.references} == set(REFERENCES)
    assert found.unit == "subject"
    assert found.images + found.without_truth == 12
    assert found.images == table["sample"].nunique() < 12
    assert set(table["sample"]) <= {sample for number, sample in enumerate(samples) if number % 3 == 2}
    np.testing.assert_allclose(table["area"], 0.5)
    np.testing.assert_allclose(table.loc[table["map"] == "uniform", "energy"], 0.5)
    maps = {
        each.sample: each
        for each in explain(
            finished_run, config=replace(config, truth=None, shown=24, images=2), out=tmp_path / "f"
        ).attributions("occlusion")
    }
    occlusion = table[table["map"] == "occlusion"].set_index("sample")["energy"]
    both = sorted(maps.keys() & set(occlusion.index))
    assert both
    for sample in both:
        positive = maps[sample].map.clip(min=0)
        assert occlusion[sample] == pytest.approx(positive[:, :16].sum() / positive.sum(), abs=1e-4)
    assert all(sentence in folder.text() for sentence in found.sentences)
    assert "Image itself" in folder.report.read_text(encoding="utf-8")

    again = explain(finished_run, config=replace(config, truth=None), out=tmp_path / "e")
    assert not again.localisation.exists()
    assert "Against truth" not in again.report.read_text(encoding="utf-8")


def test_the_maps_of_other_runs_are_compared(finished_run: Path, shortcut_run: Run, tmp_path: Path) -> None:
    config = replace(FEW, checks=True, shown=1)
    folder = explain([finished_run, shortcut_run], config=config, out=tmp_path / "e")
    found = ExplanationChecks.load(folder.checks).methods[0].folds
    assert found is not None
    assert -1 <= found < 0.99
    assert "Other folds" in folder.report.read_text(encoding="utf-8")


def test_single_files_are_explained_without_labels(finished_run: Path, phantom_folder: Path, tmp_path: Path) -> None:
    path = next(phantom_folder.rglob("*.png"))
    folder = explain(finished_run, [path], config=FEW, out=tmp_path / "e")
    (only,) = folder.attributions("grad-cam")
    assert only.truth is None
    np.testing.assert_array_equal(only.image, np.asarray(Image.open(path)))
    assert MeanMaps.load(folder.means("grad-cam")).counts == (1,)
    for grid in ("best", "worst"):
        with pytest.raises(DataError, match="have no labels"):
            explain(finished_run, [path], config=replace(FEW, grid=grid), out=tmp_path / "f")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="'true' needs the true class"):
        explain(finished_run, [path], config=replace(FEW, target="true"), out=tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_folder_with_other_files_is_left_unchanged(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(GyrusError, match="not empty and holds no explanation"):
        explain(finished_run, config=FEW, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="There is no explanation"):
        _ = ExplanationFolder(tmp_path).displayed


OLD_DISPLAYED = {
    "schema": "gyrus.album/1",
    "title": "run",
    "grid": "random",
    "target": "predicted",
    "methods": ["grad-cam"],
    "shown": ["a.png"],
    "colours": "inferno",
    "layer": "backbone",
    "emphasis": None,
    "averaged": 6,
    "notes": [],
}


def test_an_explanation_of_version_0_1_is_read_and_replaced(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "album.json").write_text(json.dumps(OLD_DISPLAYED))
    folder = ExplanationFolder(tmp_path)
    assert folder.is_finished
    assert folder.displayed.methods == ("grad-cam",)
    assert folder.displayed.averaged == 6
    explain(finished_run, config=FEW, out=tmp_path)
    assert not (tmp_path / "album.json").exists()
    assert len(folder.displayed.shown) == 4
    assert folder.text().endswith(f"Maps: {tmp_path / 'maps'}\nReport: {tmp_path / 'explanation.html'}")
