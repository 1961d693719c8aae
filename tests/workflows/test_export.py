"""A run as a bundle: exported with proof, verified, used without PyTorch; and wrong bundles, which are caught."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import highdicom
import jsonschema
import monai.bundle
import nibabel
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.slices import SliceConfig
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, GyrusError, RunError
from gyrus.evaluation.out_of_fold import fold_scores
from gyrus.evaluation.result import Evaluation
from gyrus.export.bundle import Bundle, read_manifest
from gyrus.export.manifest import BUNDLE, shipped_schema, write_checksums
from gyrus.export.monai_bundle import CONFIG
from gyrus.export.training_subjects import TrainingSubjects
from gyrus.files import file_digest
from gyrus.runs.run_folder import Run
from gyrus.workflows import export as exporting
from gyrus.workflows.crossval_folder import fold_folder, metrics_path, write_facts
from gyrus.workflows.ensemble import ensemble
from gyrus.workflows.experiment_config import load_run_config
from gyrus.workflows.export import export
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.predict_bundle import Answers, predict_bundle
from gyrus.workflows.train import train
from gyrus.workflows.verify_bundle import verify_bundle
from tests.conftest import SMALL
from tests.support.bundles import write_image_bundle
from tests.support.command_line import refused, succeeded, without_torch
from tests.support.dicoms import write_series
from tests.support.external_validation import require_same_results
from tests.support.onnx_file import write_linear


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def test_the_manifest_holds_what_a_user_needs(exported, finished_run, phantom_folder):
    manifest = read_manifest(exported)
    assert manifest.licence == "CC0-1.0"
    assert "Not a medical device" in manifest.intended_use
    assert manifest.proof.compared
    assert manifest.proof.samples == 16
    assert manifest.proof.largest_difference < 1e-5
    assert manifest.choices.calibration.kind == "temperature"
    point = manifest.choices.operating_points[0]
    assert point.goal == manifest.choices.operating_point == "youden"
    saved = json.loads((finished_run / "assessment.json").read_text())["points"][0]
    assert point.threshold == saved["point"]["threshold"]
    assert {name: rate.value for name, rate in point.rates.items()} == {
        name: rate["value"] for name, rate in saved["rates"].items()
    }
    assert {each.method for each in manifest.choices.conformal} == {"lac", "aps"}
    assert "CC0-1.0" in (exported / "model_card.md").read_text()
    content = "".join(path.read_text() for path in exported.iterdir() if path.is_file())
    for private in (phantom_folder, finished_run, "sub-P007", Path(gyrus.__file__).parent):
        assert str(private) not in content
    assert b"site-packages" not in (exported / "networks" / "1.onnx").read_bytes()
    assert not [path for path in exported.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".ckpt")]


def test_the_manifest_follows_the_schema_that_comes_with_it(exported):
    schema = json.loads((exported / "bundle.schema.json").read_text())
    document = json.loads((exported / BUNDLE).read_text())
    jsonschema.validate(document, schema)
    del document["members"][0]["normalisation"]["mean"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
    assert (exported / "bundle.schema.json").read_text() == shipped_schema()


def test_training_subjects_are_found_by_id_and_by_file_without_being_named(exported, finished_run):
    seen = TrainingSubjects.load(exported / "training_subjects.json")
    run = Run.open(finished_run)
    split, table = Split.load(run.split), Manifest.load(run.manifest).table.set_index("sample")
    used = [*split.subjects["train"], *split.subjects["val"]]
    assert seen.seen_subjects([*split.subjects["test"], *used]) == tuple(sorted(used))
    assert seen.seen_subjects([used[0].upper()]) == (used[0].upper(),)  # ids are compared as everywhere
    files = table.loc[[*split.samples["train"], *split.samples["val"]], "digest"]
    assert seen.seen_files(table["digest"]) == tuple(sorted(files))
    assert seen.held_out.seen_subjects([*split.subjects["test"], *used]) == tuple(sorted(split.subjects["test"]))
    assert seen.held_out.seen_files(table["digest"]) == tuple(sorted(table.loc[[*split.samples["test"]], "digest"]))


def test_predictions_are_those_of_the_run_for_every_kind_of_input(exported, finished_run, phantom_folder, tmp_path):
    image = sorted(phantom_folder.rglob("*.png"))[5]
    for name, source in (("image", image), ("folder", phantom_folder)):
        for suffix in ("csv", "json"):
            ours, theirs = (tmp_path / f"{kind}-{name}.{suffix}" for kind in ("bundle", "run"))
            text = succeeded("predict", exported, source, "--out", ours, "-q")
            assert "by ONNX Runtime" in text
            succeeded("predict", finished_run, source, "--out", theirs, "-q", "--engine", "torch", "--device", "cpu")
            read = pd.read_csv if suffix == "csv" else pd.read_json
            found = read(ours)
            pd.testing.assert_frame_equal(found, read(theirs), atol=1e-6, rtol=0)
            assert {"p_like_training", "subject_decision", "subject_prediction_set"} < {*found}
            assert found["p_like_training"].between(0, 1).all()
    calibrated = found[["subject_calibrated_probability:Control", "subject_calibrated_probability:Dementia"]]
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert (found.groupby("subject")["subject_decision"].nunique() == 1).all()
    one = predict_bundle(exported, [image, phantom_folder])  # an image that is named twice counts once
    assert len(one) == 96
    assert one.predictions().table["subject"].notna().all()
    assert len(gyrus.predict(exported, [image])) == 1


def test_one_image_is_answered_as_by_the_general_way(exported, phantom_folder, tmp_path):
    """The shorter way for one image file gives the same, and leaves what is unusual to the other."""
    from gyrus.workflows.predict_bundle import _answer, _answer_image

    bundle = Bundle.open(exported)
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8))
    colours.save(tmp_path / "colour.jpg")
    for path in (sorted(phantom_folder.rglob("*.png"))[0], tmp_path / "colour.jpg"):
        short, (general, _, _) = _answer_image(bundle, path), _answer(bundle, path, None, gyrus.SILENT)
        np.testing.assert_array_equal(short.logits, general.logits)
        assert short.columns == general.columns
        assert (short.samples, short.subjects) == (general.samples, general.subjects)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "constant.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for name in ("constant.png", "broken.png", "missing.png"):
        assert _answer_image(bundle, tmp_path / name) is None
        refused("predict", exported, tmp_path / name, "--out", tmp_path / "p.csv", "-q")
    assert not (tmp_path / "p.csv").exists()


def test_a_bundle_is_used_and_verified_without_torch(exported, phantom_folder, tmp_path):
    image = sorted(phantom_folder.rglob("*.png"))[0]
    loaded = without_torch("predict", exported, image, "--out", tmp_path / "p.csv", "-q")
    assert not {"matplotlib", "pandas", "rich", "scipy"} & loaded  # so that one image is answered quickly
    without_torch("predict", exported, phantom_folder, "--out", tmp_path / "p.csv", "--engine", "openvino", "-q")
    without_torch("export", "verify", exported, "-q")


def test_answers_for_dicom_series_as_structured_reports(bundle, finished_run, tmp_path, monkeypatch):
    """The same answers by the bundle without torch, and by the run."""
    cut = SliceConfig(range=(0.2, 0.8))  # of slices, so that the small network takes volumes
    replace(read_manifest(bundle), slices=cut).save(bundle / BUNDLE)
    write_checksums(bundle)
    settings = load_run_config(Run.open(finished_run))
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"slices": cut})})
    monkeypatch.setattr("gyrus.workflows.predict.load_run_config", lambda _run: settings)
    pixels = np.random.default_rng(0).integers(0, 2000, (6, 32, 32))
    for name in ("P1", "P2"):
        write_series(pixels, tmp_path / "dicom" / name, PatientID=name, StudyInstanceUID="1.2.3")
        pixels = pixels[::-1]
    table, folders = tmp_path / "p.csv", (tmp_path / "of bundle", tmp_path / "of run")
    without_torch("predict", bundle, tmp_path / "dicom", "--out", table, "--dicom-sr", folders[0], "-q")
    succeeded("predict", finished_run, tmp_path / "dicom", "--dicom-sr", folders[1], "--device", "cpu")
    answers = pd.read_csv(table)
    for folder in folders:
        for name in ("P1", "P2"):
            report = highdicom.sr.srread(folder / name / "series-007.dcm")
            assert report.PatientID == name
            (group,) = report.content.get_image_measurement_groups()
            found = {each.name.meaning: each.value for each in group.get_measurements()}
            rows = answers[answers["subject"] == name]
            assert found["Probability of Dementia"] == pytest.approx(rows["probability:Dementia"].mean(), abs=1e-5)
            assert found["Calibrated probability of Dementia"] == pytest.approx(
                rows["subject_calibrated_probability:Dementia"].iloc[0], abs=1e-5
            )
            decisions = [each.value.meaning.lower() for each in group.get_qualitative_evaluations()]
            assert rows["subject_decision"].iloc[0] in decisions
            comments = " ".join(item.value for item in group[0].ContentSequence if item.ValueType == "TEXT")
            assert "PPV" in comments
    digest = file_digest(bundle / "SHA256SUMS").encode()
    assert all(digest in path.read_bytes() for path in folders[0].rglob("*.dcm"))
    text = refused("predict", bundle, tmp_path / "dicom", "--dicom-sr", folders[0])
    assert "not an empty folder" in text
    monkeypatch.undo()
    image = tmp_path / "image.png"
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(image)
    assert "is not DICOM" in refused("predict", finished_run, image, "--dicom-sr", tmp_path / "new")
    assert "Give --out FILE" in refused("predict", bundle, image)


def changed(bundle: Path, **fields) -> None:
    """Change fields of the first network of a bundle, and make its checksums right."""
    manifest = read_manifest(bundle)
    first = replace(manifest.members[0], **fields)
    replace(manifest, members=(first, *manifest.members[1:])).save(bundle / BUNDLE)
    write_checksums(bundle)


def reverse(bundle: Path, axis: int) -> None:
    """Let the network see its images reversed along an axis."""
    path = bundle / "networks" / "1.onnx"
    network = onnx.load(path)
    name = network.graph.input[0].name
    for node in network.graph.node:
        node.input[:] = ["reversed" if each == name else each for each in node.input]
    numbers = {"start": [-1], "end": [-(2**31)], "axis": [axis], "step": [-1]}
    for key, value in numbers.items():
        network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), f"reverse-{key}"))
    node = onnx.helper.make_node("Slice", [name, *(f"reverse-{key}" for key in numbers)], ["reversed"])
    network.graph.node.insert(0, node)
    onnx.save(network, path)
    write_checksums(bundle)


def test_wrong_bundles_are_caught_although_their_checksums_are_right(exported, bundle):
    assert not verify_bundle(bundle).problems
    member = read_manifest(bundle).members[0]
    std = tuple(1.02 * value for value in member.normalisation.std)
    mistakes = {
        "other intensity numbers": {"normalisation": replace(member.normalisation, std=std)},
        "another method": {"normalisation": replace(member.normalisation, method="zscore")},
        "classes swapped": {"classes": member.classes[::-1]},
        "no reference of the training data": {"unlike_training": None},
        "another resize": {
            "preprocessing": member.preprocessing.model_validate(
                {
                    **member.preprocessing.model_dump(),
                    "steps": [{"step": "resize", "size": (32, 32), "interpolation": "nearest"}],
                }
            )
        },
    }
    for name, fields in mistakes.items():
        changed(bundle, **fields)
        problems = verify_bundle(bundle).problems
        assert problems, name
        assert "are not those of the runs" in problems[0], name
        changed(bundle, **{field: getattr(member, field) for field in fields})
    for axis in (2, 3):
        shutil.copy(exported / "networks" / "1.onnx", bundle / "networks" / "1.onnx")
        reverse(bundle, axis)
        (problem,) = verify_bundle(bundle).problems
        assert "references with ONNX Runtime are not those of the runs" in problem
    assert "must not be used on this machine" in refused("export", "verify", bundle, "-q")


def test_another_scaling_is_caught_although_the_network_hardly_reacts_to_it(tmp_path):
    """Networks that normalise their features, such as ConvNeXt: the prepared images themselves are compared."""
    folder = write_image_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    member = manifest.members[0]
    nothing = np.zeros((int(np.prod(member.image_size)), 5), np.float32)
    write_linear(folder / "networks" / "1.onnx", nothing, (1, *member.image_size))
    references = tuple(
        replace(each, probabilities=dict.fromkeys(manifest.classes, 0.5), logits=((0.0, 0.0),), distances=((),))
        for each in manifest.references
    )
    deaf = replace(manifest, members=(replace(member, unlike_training=None),), references=references)

    def problems(about) -> tuple[str, ...]:
        about.save(folder / BUNDLE)
        write_checksums(folder)
        return verify_bundle(folder).problems

    assert not problems(deaf)
    flipped = tuple(replace(each, inputs=(tuple(np.multiply(each.inputs[0], (1, 1, 1, -1))),)) for each in references)
    assert "that of the prepared images" in problems(replace(deaf, references=flipped))[0]
    scaling = replace(member.normalisation, std=(1.02 * member.normalisation.std[0],))
    wrong = replace(deaf.members[0], normalisation=scaling)
    assert "that of the prepared images 0.03" in problems(replace(deaf, members=(wrong,)))[0]
    earlier = tuple(replace(each, inputs=()) for each in references)
    assert not problems(replace(deaf, references=earlier))


def test_a_bundle_of_an_earlier_version_is_verified_and_used(bundle, phantom_folder, tmp_path):
    """Before internal scores were added, bundles had neither them nor their fields in the schema."""
    document = json.loads((bundle / BUNDLE).read_text())
    schema = json.loads((bundle / "bundle.schema.json").read_text())
    for name in ("internal_scores", "merged"):
        del document[name], schema["properties"][name]
    (bundle / BUNDLE).write_text(json.dumps(document))
    (bundle / "bundle.schema.json").write_text(json.dumps(schema))
    (bundle / "internal_scores.json").unlink()
    seen = json.loads((bundle / "training_subjects.json").read_text())
    (bundle / "training_subjects.json").write_text(
        json.dumps({name: value for name, value in seen.items() if "held_out" not in name})
    )
    write_checksums(bundle)
    assert not verify_bundle(bundle).problems
    assert len(predict_bundle(bundle, [phantom_folder])) == 96
    text = refused("test", bundle, phantom_folder, "--out", tmp_path / "out", "-q")
    assert "holds no scores of its own test set" in text
    del schema["properties"]["members"]
    (bundle / "bundle.schema.json").write_text(json.dumps(schema))
    write_checksums(bundle)
    (problem,) = verify_bundle(bundle).problems
    assert "is not the schema of bundle.json" in problem


def test_damage_is_named(bundle, phantom_folder, tmp_path):
    image = sorted(phantom_folder.rglob("*.png"))[0]
    network = bundle / "networks" / "1.onnx"
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    (bundle / "more.txt").write_text("unknown")
    (problem, *_) = verify_bundle(bundle).problems
    assert "1.onnx has changed" in problem
    assert "more.txt is not in SHA256SUMS" in problem
    text = refused("predict", bundle, image, "--out", tmp_path / "p.csv", "-q")
    assert "networks/1.onnx has changed" in text
    document = json.loads((bundle / BUNDLE).read_text())
    document["schema"] = "gyrus.bundle/9"
    (bundle / BUNDLE).write_text(json.dumps(document))
    with pytest.raises(DataError, match="bundle/9"):
        verify_bundle(bundle)
    document["schema"] = "gyrus.bundle/1"
    document["members"][0]["networks"]["onnx"] = "../elsewhere.onnx"
    (bundle / BUNDLE).write_text(json.dumps(document))
    with pytest.raises(DataError, match="outside of the bundle"):
        Bundle.open(bundle)
    assert "no bundle.json" in refused("export", "verify", tmp_path, "-q")


def test_what_cannot_be_exported_is_refused_before_anything_is_written(finished_run, exported, tmp_path, monkeypatch):
    out = tmp_path / "new"
    with pytest.raises(RunError, match="not an empty folder"):
        export(finished_run, out=exported)
    with pytest.raises(ConfigError, match="tensorrt"):
        export(finished_run, out=out, formats=["tensorrt"])
    assert "There is no run" in refused("export", tmp_path, "--out", out)
    load = exporting.TrainedClassifier.load
    monkeypatch.setattr(exporting.TrainedClassifier, "load", lambda run: replace(load(run), tta=4))
    with pytest.raises(ConfigError, match="test-time augmentation"):
        export(finished_run, out=out)
    assert not out.exists()


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")
def test_a_bundle_is_also_one_of_monai(finished_run, exported, phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "write_onnx", copy_of(exported))
    found = export(finished_run, out=tmp_path / "bundle", formats=("monai",))
    assert "Also a MONAI Bundle" in found.text()
    assert found.manifest.members[0].networks == {"onnx": "networks/1.onnx"}
    assert not verify_bundle(tmp_path / "bundle").problems
    network = monai.bundle.load("bundle", bundle_dir=tmp_path, workflow_type="inference", device="cpu").eval()
    parser = monai.bundle.ConfigParser()
    parser.read_config(str(tmp_path / "bundle" / CONFIG))
    prepare = parser.get_parsed_content("preprocessing")
    images = sorted(phantom_folder.rglob("*.png"))[:8]
    with torch.inference_mode():
        logits = network(torch.stack([prepare({"image": str(path)})["image"] for path in images])).numpy()
    theirs = gyrus.predict(finished_run, images, device="cpu", engine="torch")
    np.testing.assert_allclose(logits, theirs.logits, atol=1e-5)


def test_a_bundle_that_differs_from_the_run_is_not_written(finished_run, exported, tmp_path, monkeypatch):
    """The proof compares with the network of the run, whatever went wrong between."""
    out = tmp_path / "bundle"
    written = exporting._write_member

    def with_other_numbers(*arguments):
        member = written(*arguments)
        return replace(member, normalisation=replace(member.normalisation, mean=(0.3,)))

    monkeypatch.setattr(exporting, "write_onnx", copy_of(exported))
    monkeypatch.setattr(exporting, "_write_member", with_other_numbers)
    with pytest.raises(GyrusError, match=r"does not give the answers of the run.*Nothing was written"):
        export(finished_run, out=out)
    assert not out.exists()


def test_data_that_have_moved_or_are_gone(finished_run, exported, phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "write_onnx", copy_of(exported))
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = run / "config.yaml"
    gone = config.read_text().replace(str(phantom_folder), str(tmp_path / "gone"))
    assert str(tmp_path / "gone") in gone
    config.write_text(gone)
    found = export(run, out=tmp_path / "without")
    assert not found.manifest.proof.compared
    assert "not at hand" in found.text()
    assert "Not compared on the test set" in (tmp_path / "without" / "model_card.md").read_text()
    moved = shutil.copytree(phantom_folder, tmp_path / "moved")
    assert export(run, out=tmp_path / "with", data=moved).manifest.proof.samples == 16
    others = gyrus.phantom(tmp_path / "others", subjects=4, slices=4, classes=2, size=32, seed=9)
    with pytest.raises(DataError, match="none of the files of the test set"):
        export(run, out=tmp_path / "other", data=others)
    assert not (tmp_path / "other").exists()


def copy_of(exported: Path):
    """Writes the network that was exported before, which takes less time."""
    return lambda _model, _shape, path: copy(exported, path)


def copy(exported: Path, path: Path) -> None:
    shutil.copy(exported / "networks" / path.name, path)


@pytest.fixture
def two_runs(finished_run, tmp_path) -> tuple[Path, Path]:
    """The small run, and one like it with other weights, as two folds of a cross-validation in ``crossval``."""
    folds = tuple(Path(shutil.copytree(finished_run, fold_folder(tmp_path / "crossval", 0, fold))) for fold in (0, 1))
    weights = load_file(folds[1] / "model.safetensors")
    save_file(
        {name: np.asarray(1.5 * values, values.dtype) for name, values in weights.items()},
        folds[1] / "model.safetensors",
    )
    evaluation = Evaluation.load(Run(finished_run).metrics)
    evaluation.save(metrics_path(tmp_path / "crossval", 0))
    fold_scores({(0, fold): evaluation for fold in (0, 1)}).to_csv(tmp_path / "crossval" / "folds.csv", index=False)
    write_facts(tmp_path / "crossval", {}, folds=2, repeats=1, status="finished")
    return folds


def test_folds_and_ensembles_are_one_bundle(two_runs, phantom_folder, tmp_path, monkeypatch):
    ensemble(two_runs, out=tmp_path / "ensemble")
    weights = tmp_path / "ensemble" / "ensemble.json"
    about = json.loads(weights.read_text())
    weights.write_text(json.dumps({**about, "weights": [0.25, 0.75]}))
    for name, expected in (("crossval", (0.5, 0.5)), ("ensemble", (0.25, 0.75))):
        out = tmp_path / f"bundle of {name}"
        proof = export(tmp_path / name, out=out).manifest.proof
        assert (proof.samples, proof.missing) == (32, 0)
        assert proof.largest_difference < 1e-5
        assert not verify_bundle(out).problems
        ours = predict_bundle(out, [phantom_folder]).predictions()
        members = [gyrus.predict(run, [phantom_folder], device="cpu", engine="torch") for run in two_runs]
        wanted = np.average([each.probabilities for each in members], axis=0, weights=expected)
        np.testing.assert_allclose(ours.probabilities, wanted, atol=1e-6)
        assert np.abs(ours.probabilities - members[0].probabilities).max() > 1e-3
        # The networks are the same the second time; writing them takes longest.
        monkeypatch.setattr(exporting, "write_onnx", lambda _model, _shape, path, out=out: copy(out, path))

    others = gyrus.phantom(tmp_path / "others", subjects=8, slices=2, classes=2, size=32, seed=9)
    found = {
        name: external_validation(
            tmp_path / f"bundle of {name}", others, out=tmp_path / f"of {name}", same_ids="keep", resamples=10
        )
        for name in ("crossval", "ensemble")
    }
    assert found["crossval"].internal == Evaluation.load(metrics_path(tmp_path / "crossval", 0))
    assert not found["crossval"].points
    assert "The scores are out-of-fold" in " ".join(found["crossval"].notes)
    assert found["ensemble"].internal == Evaluation.load(tmp_path / "ensemble" / "metrics.json")
    assert found["ensemble"].points[0].point.goal == "youden"
    assert all(each.likeness.reference_count == 4 for each in found.values())


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("volumes") / "nifti"
    return gyrus.phantom(out, subjects=12, slices=8, classes=2, size=32, layout="nifti")


SLICES = {"data.slices": {"range": [0.2, 0.8], "neighbours": 1}, "preprocessing.steps": []}
PATCHES = {"data.stack.slices": 8, "data.patches.size": [4, 16, 16], "preprocessing.steps": []}
STACKS = {"data.stack.slices": 8, "preprocessing.steps": []}


@pytest.mark.slow
@pytest.mark.parametrize("layout", [SLICES, PATCHES, STACKS], ids=["2.5D", "3D patches", "stacks"])
def test_volumes_series_and_stacks_are_predicted_as_by_the_run(layout, volumes, tmp_path):
    if layout is STACKS:
        volumes = gyrus.phantom(tmp_path / "slices", subjects=12, slices=8, classes=2, size=32)
    overrides = {**SMALL, **layout, "training.epochs": 1, "evaluation.baselines": False}
    overrides = {name: value for name, value in overrides.items() if name != "preprocessing.steps.1.size"}
    run = train("dementia-baseline", data=volumes, out=tmp_path / "run", overrides=overrides)
    found = export(run.folder, out=tmp_path / "bundle")
    assert found.manifest.proof.compared
    assert not found.manifest.proof.missing
    assert not verify_bundle(tmp_path / "bundle").problems
    inputs = [volumes]
    if layout is not STACKS:
        volume = volumes / "sub-P003" / "anat" / "sub-P003_T1w.nii.gz"
        slices = np.asanyarray(nibabel.load(volume).dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
        write_series(slices.astype(np.uint16) * 10, tmp_path / "dicom" / "T1")
        inputs = [volume, tmp_path / "dicom"]
    for source in inputs:
        ours = predict_bundle(tmp_path / "bundle", [source]).predictions()
        theirs = gyrus.predict(run, [source], device="cpu", engine="torch")
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
        assert ours.table["sample"].tolist() == theirs.table["sample"].tolist()
    without_torch("predict", tmp_path / "bundle", inputs[-1], "--out", tmp_path / "p.csv", "-q")
    files = "folder" if layout is STACKS else "nifti"
    cohort = gyrus.phantom(tmp_path / "cohort", subjects=10, slices=8, classes=2, size=32, seed=5, layout=files)
    tested = [
        external_validation(classifier, cohort, out=tmp_path / name, same_ids="keep", device="cpu", resamples=10)
        for name, classifier in (("by run", run), ("by bundle", tmp_path / "bundle"))
    ]
    require_same_results(*tested)


def test_spreadsheets_run_no_name_in_the_answers_of_a_bundle(tmp_path):
    answers = Answers(("-x.png",), ("=1+1",), np.array([[2.0, 1.0]]), ("@sum", "b\rc"), "subject")
    answers.export(tmp_path / "answers.csv")
    answers.predictions().export(tmp_path / "predictions.csv")
    assert (tmp_path / "answers.csv").read_bytes() == (tmp_path / "predictions.csv").read_bytes()
    assert "'=1+1" in (tmp_path / "answers.csv").read_text()
    plain = Answers(("x.png",), (None,), np.array([[2.0, 1.0]]), ("a", "b"), "subject")
    plain.export(tmp_path / "plain.csv")
    assert (
        (tmp_path / "plain.csv").read_text().startswith("sample,subject,target,predicted,probability:a,probability:b")
    )
