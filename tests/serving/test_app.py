"""The HTTP API: the answers are those of the bundle offline, whatever the form of the upload."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.imaging.orientation import slices_from_array
from gyrus.imaging.volume_formats import write_nifti
from gyrus.serving.app import create_app
from gyrus.serving.limits import ServingLimits
from gyrus.workflows.predict_bundle import Answers, predict_bundle
from tests.support.bundles import CLASSES, SPOT, as_volume, image, scores, volume
from tests.support.dicoms import write_series

Upload = tuple[str, tuple[str, bytes]]


@pytest.fixture(scope="module")
def images(image_bundle) -> Iterator[TestClient]:
    """A client of a server for images."""
    with TestClient(create_app(image_bundle), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def stacks(stack_bundle) -> Iterator[TestClient]:
    """A client of a server for stacks of slice images."""
    with TestClient(create_app(stack_bundle), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def volumes(volume_bundle) -> Iterator[TestClient]:
    """A client of a server for volumes."""
    with TestClient(create_app(volume_bundle), base_url="http://localhost") as client:
        yield client


def upload(name: str, content: bytes) -> Upload:
    return "files", (name, content)


def png(seed: int, bright: float = 0.5, kind: str = "PNG", side: int = 64, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image(seed, bright, side)).save(content, kind, **options)
    return content.getvalue()


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def offline(bundle: Path, inputs: list[Path]) -> Answers:
    return predict_bundle(bundle, inputs)


def assert_same(answer: dict, expected: Answers, row: int = 0) -> None:
    """The answer of a server is a row of the answers offline."""
    table = expected.predictions()
    wanted = dict(zip(CLASSES, table.probabilities[row], strict=True))
    assert answer["probabilities"] == pytest.approx(wanted, abs=1e-6)
    assert answer["prediction"] == table.predicted_classes[row]
    columns = {name: values[row] for name, values in expected.columns.items()}
    calibrated = {name: columns[f"subject_calibrated_probability:{name}"] for name in CLASSES} if columns else None
    assert answer["calibrated_probabilities"] == (calibrated and pytest.approx(calibrated, abs=1e-6))
    assert answer["decision"] == columns.get("subject_decision")
    assert answer["prediction_set"] == (columns["subject_prediction_set"].split("; ") if columns else None)
    assert answer["p_like_training"] == columns.get("p_like_training")


def test_the_classifier_is_described(images, volumes):
    about = images.get("/v1/classifier").json()
    assert about["classes"] == list(CLASSES)
    assert (about["input"], about["calibrated"], about["recognises_unlike_scans"]) == ("slice", True, True)
    assert about["heat_map"]
    assert about["operating_point"]["sensitivity"] == {"value": 0.8, "low": 0.6, "high": 0.9}
    assert about["prediction_sets"]["coverage"] == 0.9
    assert ".png" in about["accepts"]
    other = volumes.get("/v1/classifier").json()
    assert (other["input"], other["operating_point"], other["prediction_sets"]) == ("volume", None, None)
    assert {".nii.gz", ".dcm", ".zip"} <= {*other["accepts"]}
    measured = scores().evaluation.headline.metrics["accuracy"]
    assert [each["title"] for each in other["scores"]] == [*HEADLINE_METRICS.values()]
    assert other["scores"][0] == {
        "title": "Accuracy",
        **{"value": 0.8, "low": pytest.approx(measured.low), "high": pytest.approx(measured.high)},
        **{"unit": "subject", "count": 10, "level": 0.95, "measured_on": "test set"},
        "from_0_to_1": True,
    }


def test_answers_for_images_are_those_of_the_bundle(images, image_bundle, tmp_path):
    contents = {"a.png": png(1, 0.9), "b.jpg": png(2, 0.1, "JPEG", quality=95), "c.png": png(3, 0.5)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        response = images.post("/v1/predict", files=[upload(name, content)])
        assert response.status_code == 200
        (answer,) = response.json()["answers"]
        assert_same(answer, offline(image_bundle, [tmp_path / name]))
        assert (answer["name"], answer["view"]) == (name, None)
    together = images.post("/v1/predict", files=[upload("z.zip", zipped(contents))]).json()
    assert [each["name"] for each in together["answers"]] == list(contents)
    for name, answer in zip(contents, together["answers"], strict=True):
        assert_same(answer, offline(image_bundle, [tmp_path / name]))
    assert together["answers"][0]["prediction"] == "Dementia"
    assert together["answers"][1]["prediction"] == "Control"


def test_images_of_one_subject_are_decided_together_as_in_a_folder(images, image_bundle, tmp_path):
    names = [f"sub-P00{subject}_slice-{number:02d}.png" for subject in (1, 2) for number in (0, 1)]
    contents = {name: png(seed, 0.2 + 0.2 * seed) for seed, name in enumerate(names)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = images.post("/v1/predict", files=[upload(*each) for each in contents.items()]).json()["answers"]
    expected = offline(image_bundle, [tmp_path])
    places = {Path(sample).name: row for row, sample in enumerate(expected.samples)}
    for answer in found:
        row = places[answer["name"]]
        assert answer["decision"] == expected.columns["subject_decision"][row]
        assert answer["calibrated_probabilities"]["Dementia"] == pytest.approx(
            expected.columns["subject_calibrated_probability:Dementia"][row]
        )
        assert "2 scans of subject P00" in answer["notes"][0] or "2 scans of subject sub-P00" in answer["notes"][0]


def test_a_number_is_answered_with_its_interval_as_by_the_bundle(number_bundle, tmp_path):
    names = ["sub-P001_slice-00.png", "sub-P001_slice-01.png", "sub-P002_slice-00.png"]
    contents = {name: png(seed, 0.2 + 0.3 * seed) for seed, name in enumerate(names)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    expected = offline(number_bundle, [tmp_path])
    places = {Path(sample).name: row for row, sample in enumerate(expected.samples)}
    with TestClient(create_app(number_bundle), base_url="http://localhost") as client:
        about = client.get("/v1/classifier").json()
        found = client.post("/v1/predict", files=[upload(*each) for each in contents.items()]).json()["answers"]
        refused = client.post("/v1/explain", files=[upload("scan.png", png(1))])
    assert about["number"]["name"] == "lesion load"
    assert about["number"]["interval"]["measured"]["value"] == 0.85
    assert (about["classes"], about["operating_point"], about["heat_map"]) == ([], None, False)
    assert about["scores"][0]["title"] == "Mean absolute error (MAE)"
    assert about["scores"][0]["value"] == pytest.approx(0.1)
    for answer in found:
        row = places[answer["name"]]
        assert answer["prediction"] == pytest.approx(expected.numbers[row], abs=1e-6)
        columns = {name.removeprefix("subject_"): values[row] for name, values in expected.columns.items()}
        assert answer["interval"]["low"] == pytest.approx(columns["interval_low"], abs=1e-6)
        assert answer["interval"]["high"] == pytest.approx(columns["interval_high"], abs=1e-6)
        assert answer["corrected_prediction"] == pytest.approx(columns["corrected_prediction"], abs=1e-6)
        assert isinstance(answer["unlike"], bool)
        assert "probabilities" not in answer
        notes = " ".join(answer["notes"])
        assert ("are those of the 2 scans of subject" in notes) == ("P001" in answer["name"])
    assert refused.status_code == 422
    assert "Heat maps are of classes" in refused.json()["error"]


def test_a_picture_of_something_else_is_unlike_the_training_data(images):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    content = io.BytesIO()
    noise.save(content, "PNG")
    (answer,) = images.post("/v1/predict", files=[upload("noise.png", content.getvalue())]).json()["answers"]
    assert answer["unlike"] is True
    assert answer["p_like_training"] <= 0.05
    (usual,) = images.post("/v1/predict", files=[upload("usual.png", png(110, 0.2, side=32))]).json()["answers"]
    assert usual["unlike"] is False


def test_answers_for_volumes_and_series_are_those_of_the_bundle(volumes, volume_bundle, tmp_path):
    scan, series = tmp_path / "scan.nii.gz", tmp_path / "series"
    write_nifti(as_volume(volume(5, 0.9)), scan)
    write_series(volume(6, 0.1).astype(np.uint16), series)
    expected = offline(volume_bundle, [scan]), offline(volume_bundle, [series])
    files = {f"exam/series/{path.name}": path.read_bytes() for path in series.iterdir()}
    for uploads, wanted, name in (
        ([upload("scan.nii.gz", scan.read_bytes())], expected[0], "scan.nii.gz"),
        ([upload("scan.nii", gzip.decompress(scan.read_bytes()))], expected[0], "scan.nii"),
        ([upload(*each) for each in files.items()], expected[1], "exam/series"),
        ([upload("exam.zip", zipped(files))], expected[1], "exam/series"),
        ([upload(Path(name).stem, data) for name, data in files.items()], expected[1], "IM000"),  # without extension
    ):
        response = volumes.post("/v1/predict?view=true", files=uploads)
        assert response.status_code == 200, response.text
        (answer,) = response.json()["answers"]
        assert_same(answer, wanted)
        assert answer["name"] == name
        assert answer["view"]["format"] == "nifti"
    both = volumes.post(
        "/v1/predict", files=[upload("scan.nii.gz", scan.read_bytes()), upload("exam.zip", zipped(files))]
    ).json()["answers"]
    assert [each["name"] for each in both] == ["scan.nii.gz", "exam/series"]


def test_slice_images_of_a_scan_are_one_stack_whatever_their_names(stacks, stack_bundle, tmp_path):
    slices = {seed: [_png_of(each) for each in volume(seed, 0.9 - 0.8 * (seed % 2))] for seed in (5, 6)}
    about = stacks.get("/v1/classifier").json()
    assert (about["input"], ".png" in about["accepts"], ".dcm" in about["accepts"]) == ("stack", True, False)
    expected = {}
    for seed, contents in slices.items():
        folder = tmp_path / str(seed)
        folder.mkdir()
        for number, content in enumerate(contents):
            (folder / f"sub-P{seed:03d}_slice-{number:02d}.png").write_bytes(content)
        expected[seed] = offline(stack_bundle, [folder])
    by_rule = {
        f"sub-P{seed:03d}_slice-{number:02d}.png": slices[seed][number] for seed in slices for number in range(8)
    }
    unpadded = {f"exam/a/slice {number + 3}.png": content for number, content in enumerate(slices[5])}
    words = {f"b/{letter}.png": content for letter, content in zip("abcdefgh", slices[6], strict=True)}
    for files, wanted in (
        (by_rule, {"sub-P005": 5, "sub-P006": 6}),
        (unpadded, {"exam/a": 5}),
        ({**unpadded, **words}, {"exam/a": 5, "b": 6}),
    ):
        for uploads in ([upload(*each) for each in reversed(files.items())], [upload("z.zip", zipped(files))]):
            found = stacks.post("/v1/predict?view=true", files=uploads).json()
            assert {each["name"] for each in found["answers"]} == {*wanted}, found
            for answer in found["answers"]:
                assert_same(answer, expected[wanted[answer["name"]]])
                assert answer["notes"][0].startswith("8 slices in order: ")
                view = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(answer["view"]["data"])))
                seed = wanted[answer["name"]]
                np.testing.assert_array_equal(slices_from_array(view.get_fdata()), volume(seed, 0.9 - 0.8 * (seed % 2)))
    (problem,) = stacks.post("/v1/predict", files=[upload("a.png", slices[5][0])]).json()["problems"]
    assert "1 slice, but the stack needs 8" in problem["error"]
    twice = [upload(f"sub-P1_slice-{number}_{kind}.png", slices[5][0]) for kind in ("a", "b") for number in range(8)]
    (problem,) = stacks.post("/v1/predict", files=twice).json()["problems"]
    assert "the same number" in problem["error"]


def _png_of(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_a_view_is_the_scan_on_its_own_grid_without_its_header(images, volumes, tmp_path):
    content = png(4)
    (answer,) = images.post("/v1/predict?view=true", files=[upload("a.png", content)]).json()["answers"]
    shown = Image.open(io.BytesIO(base64.b64decode(answer["view"]["data"])))
    np.testing.assert_array_equal(np.asarray(shown), image(4, side=64))
    scan = as_volume(volume(5))
    named = nibabel.Nifti1Image(scan.array, scan.affine)
    named.header["descrip"] = b"Jane Doe"
    nibabel.save(named, tmp_path / "scan.nii.gz")
    (answer,) = volumes.post(
        "/v1/predict?view=true", files=[upload("s.nii.gz", (tmp_path / "scan.nii.gz").read_bytes())]
    ).json()["answers"]
    view = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(answer["view"]["data"])))
    np.testing.assert_array_equal(view.get_fdata(), scan.array)
    np.testing.assert_allclose(view.affine, scan.affine)
    assert b"Jane" not in view.to_bytes()


def test_a_heat_map_marks_what_the_network_looks_at_and_is_trusted(images):
    response = images.post("/v1/explain", files=[upload("a.png", png(1, 0.95))])
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["name"], found["target"]) == ("a.png", "Dementia")
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["heat_map"]["data"]))), float)
    assert heat.shape == (64, 64)
    rows, columns = (slice(2 * part.start, 2 * part.stop) for part in SPOT)
    inside = heat[rows, columns].mean()
    assert inside > 4 * heat.mean()
    assert found["verdict"]["trusted"] is True
    assert "19 of 19 random orders" in found["verdict"]["words"]
    against = images.post("/v1/explain?target=Control", files=[upload("a.png", png(1, 0.95))]).json()
    assert against["verdict"]["trusted"] is None  # blurring does not lower what is not predicted
    assert (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(against["heat_map"]["data"]))), float)[rows, columns].mean()
        < heat[rows, columns].mean()
    )


def test_no_verdict_where_the_classifier_is_indifferent(images):
    verdict = images.post("/v1/explain", files=[upload("a.png", png(1, 0.5))]).json()["verdict"]
    assert verdict["trusted"] is None
    assert "nearly indifferent" in verdict["words"]


def test_a_heat_map_of_a_volume_is_on_the_grid_of_the_scan(volumes, tmp_path):
    scan = as_volume(volume(5, 0.95))
    # Stored in another order of axes, as scanners do.
    stored = nibabel.Nifti1Image(scan.array, scan.affine).as_reoriented([[1, -1], [0, 1], [2, -1]])
    nibabel.save(stored, tmp_path / "scan.nii.gz")
    content = (tmp_path / "scan.nii.gz").read_bytes()
    found = volumes.post("/v1/explain", files=[upload("s.nii.gz", content)]).json()
    shown, heat = (
        nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(found[name]["data"])))
        for name in ("scan", "heat_map")
    )
    np.testing.assert_allclose(shown.affine, heat.affine)
    assert shown.shape == heat.shape
    assert heat.get_data_dtype() == np.float32
    np.testing.assert_array_equal(shown.get_fdata(), scan.array)
    values, bright = heat.get_fdata(), scan.array > 230
    assert np.abs(values).max() == pytest.approx(1, abs=0.2)
    assert values[bright].mean() > 3 * values[~bright].mean()
    assert found["verdict"]["trusted"] is True


def test_a_heat_map_is_of_one_scan_and_one_class(images):
    two = [upload("a.png", png(1)), upload("b.png", png(2))]
    response = images.post("/v1/explain", files=two)
    assert response.status_code == 422
    assert "one scan" in response.json()["error"]
    assert images.post("/v1/explain?name=b.png", files=two).json()["name"] == "b.png"
    assert images.post("/v1/explain?name=c.png", files=two).status_code == 422
    wrong = images.post("/v1/explain?target=Alien", files=[upload("a.png", png(1))])
    assert wrong.status_code == 422
    assert "Control, Dementia" in wrong.json()["error"]


def test_health_metrics_and_the_description_of_the_interface(images):
    images.post("/v1/predict", files=[upload("a.png", png(1))])
    assert images.get("/healthz").json() == {"status": "ok"}
    text = images.get("/metrics").text
    assert 'gyrus_requests_total{route="/v1/predict",status="200"}' in text
    assert "gyrus_request_seconds_bucket" in text
    assert "gyrus_queue_length 0.0" in text
    assert "gyrus_batch_requests_count" in text
    assert "a.png" not in text
    described = images.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/explain", "/v1/classifier", "/healthz"} == {*described["paths"]}
    assert "multipart/form-data" in json.dumps(described["paths"]["/v1/predict"]["post"]["requestBody"])
    assert images.get("/docs").status_code == 404


def test_requests_that_wait_are_answered_together(image_bundle):
    from concurrent.futures import ThreadPoolExecutor

    with TestClient(create_app(image_bundle, limits=ServingLimits(batch=4)), base_url="http://localhost") as client:

        def ask(seed: int) -> dict:
            return client.post("/v1/predict", files=[upload(f"{seed}.png", png(seed))]).json()["answers"][0]

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, range(24)))
        assert [each["name"] for each in found] == [f"{seed}.png" for seed in range(24)]
        metrics = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        assert float(metrics["gyrus_batch_requests_sum"]) == 24
        assert float(metrics["gyrus_batch_requests_count"]) < 24
        assert metrics['gyrus_batch_requests_bucket{le="4.0"}'] == metrics["gyrus_batch_requests_count"]
        alone = [ask(seed) for seed in range(24)]
        for one, other in zip(found, alone, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
