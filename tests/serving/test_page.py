"""The page in a real browser, against a real server: what a person sees, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gyrus.imaging.volume_formats import write_nifti
from gyrus.inference.decision_rule import softmax
from gyrus.text import for_spreadsheets
from gyrus.workflows.predict_bundle import predict_bundle
from tests.support.bundles import as_volume, image, volume
from tests.support.dicoms import write_series

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytest.importorskip("fastapi", reason="the server is not installed: pip install 'gyrus-mri[serve]'")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
SOFTWARE_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PHONE = {"width": 360, "height": 740}
PAGE = resources.files("gyrus.serving") / "page"
SHOWN = 60_000
"""Milliseconds that something may take to be shown, on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser of this machine; Playwright's own cannot be downloaded everywhere."""
    path = os.environ.get("GYRUS_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: install Chromium ({', '.join(BROWSERS)}), or name one with GYRUS_BROWSER")
    with playwright.sync_playwright() as library:
        opened = library.chromium.launch(executable_path=path, args=[*OPTIONS, *SOFTWARE_WEBGL])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """PNG slices of several people, for and against the class Dementia by turns."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"sub-{number:03d}.png" for number in range(8)]
    for number, path in enumerate(paths):
        Image.fromarray(image(200 + number, 0.2 + 0.6 * (number % 2))).save(path)
    return paths


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """A PNG image unlike all others."""
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A NIfTI volume."""
    path = tmp_path_factory.mktemp("scan") / "sub-001.nii.gz"
    write_nifti(as_volume(volume(3, 0.9)), path)
    return path


@pytest.fixture(scope="module")
def slice_server(image_bundle) -> Iterator[str]:
    yield from _served(image_bundle)


@pytest.fixture(scope="module")
def stack_server(stack_bundle) -> Iterator[str]:
    yield from _served(stack_bundle)


@pytest.fixture(scope="module")
def number_server(number_bundle) -> Iterator[str]:
    yield from _served(number_bundle)


@pytest.fixture(scope="module")
def volume_server(volume_bundle) -> Iterator[str]:
    yield from _served(volume_bundle)


def _served(bundle: Path) -> Iterator[str]:
    """The address of a server of a bundle."""
    import uvicorn

    from gyrus.serving.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(bundle), port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def opened(browser) -> Iterator[Callable[..., Any]]:
    """Opens the page of a server; afterwards nothing may have gone wrong in the browser, or left for elsewhere.

    Args of the function: the address; ``allowed``, what the console may complain of; options of the browser.
    """
    pages: list[tuple[Any, str, str, list[str], list[str]]] = []

    def open_page(server: str, allowed: str = "", viewport: dict[str, int] | None = None, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport or {"width": 1280, "height": 900}, **options)
        page = context.new_page()
        page.set_default_timeout(SHOWN)
        complaints: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        context.on("request", lambda request: requests.append(request.url))
        page.goto(server)
        page.locator("#about").wait_for()
        pages.append((context, server, allowed, complaints, requests))
        return page

    yield open_page
    for context, server, allowed, complaints, requests in pages:
        context.close()
        assert [each for each in complaints if not (allowed and re.search(allowed, each))] == []
        elsewhere = [url for url in requests if not url.startswith((f"{server}/", "blob:", "data:"))]
        assert elsewhere == []


def _send(page: Any, *files: Path) -> None:
    """Choose files, and wait until all are answered."""
    before = page.locator("#rows tr").count()
    page.set_input_files("#files", list(files))
    page.locator("#rows tr").nth(before + len(files) - 1).wait_for(state="attached")
    page.locator("#progress").wait_for(state="hidden")


def _pixels(locator: Any) -> np.ndarray:
    """What the browser shows in a place, uint8 (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))


def _no_overflow(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def _first_canvas(page: Any, rows: int, columns: int) -> np.ndarray:
    """The gray values (rows, columns) of the first canvas of the viewer, before the browser scales it."""
    of_canvas = f"getContext('2d').getImageData(0, 0, {columns}, {rows}).data"
    values = page.evaluate(f"[...document.querySelector('#viewer canvas').{of_canvas}]")
    return np.reshape(values, (rows, columns, 4))[..., 0]


def _shown_numbers(page: Any) -> dict[str, str]:
    """The first number of each class in the table of probabilities."""
    rows = page.locator("#answer .bars tbody tr")
    return {row.locator("th").inner_text(): row.locator(".number").first.inner_text() for row in rows.all()}


def test_a_slice_is_shown_and_answered_with_the_numbers_of_the_bundle(opened, slice_server, image_bundle, images):
    page = opened(slice_server)
    assert "not a medical device" in page.locator("header").inner_text().lower()
    about = page.locator("#about").inner_text()
    assert all(
        word in about for word in ("CC0-1.0", "Control and Dementia", "PPV", "NPV", "Sensitivity", "20 subjects")
    )
    for path in images[:2]:
        _send(page, path)
        wanted = predict_bundle(image_bundle, [path])
        columns = {name.removeprefix("subject_"): values[0] for name, values in wanted.columns.items()}
        shown = {name: f"{columns[f'calibrated_probability:{name}']:.2f}" for name in wanted.classes}
        assert _shown_numbers(page) == shown
        predicted = wanted.classes[int(wanted.logits.argmax())]
        assert f"Most probable class: {predicted}, calibrated probability" in page.locator("#headline").inner_text()
        words = page.locator("#answer").inner_text()
        is_positive = columns["decision"] == "positive"
        assert ("Positive for Dementia" in words) == is_positive
        assert f"{'PPV' if is_positive else 'NPV'} 0.80 (95 % CI 0.60 to 0.90)" in words
        assert page.locator("#answer .chips li").all_inner_texts() == str(columns["prediction_set"]).split("; ")
        assert "Not unlike the training data (p" in words
        canvas = page.locator("#viewer canvas").first
        assert canvas.get_attribute("aria-label") == f"Scan {path.name}, 32 x 32 pixels"
        np.testing.assert_array_equal(_first_canvas(page, 32, 32), np.asarray(Image.open(path)))
        assert f"{path.name}: {predicted}" in page.locator("#announcement").text_content()


def test_a_volume_is_shown_in_three_planes_and_a_zip_of_dicom_is_answered_alike(
    opened, volume_server, volume_bundle, scan, tmp_path
):
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in write_series(volume(3, 0.9), tmp_path / "series"):
            archive.write(path, path.name)
    page = opened(volume_server)
    _send(page, scan)
    answers = predict_bundle(volume_bundle, [scan])
    assert _shown_numbers(page) == {
        name: f"{value:.2f}" for name, value in zip(answers.classes, softmax(answers.logits)[0], strict=True)
    }
    assert "not calibrated" in page.locator("#headline").inner_text()
    frame = page.locator("#viewer .volume")
    before = _pixels(frame)
    rows, columns = before.shape[:2]
    right = before[:, int(0.63 * columns) :]
    for part in (before[:, : columns // 2], right[: rows // 2], right[-rows // 2 :]):
        assert (part > 40).mean() > 0.1  # something in each plane
    slider = page.get_by_role("slider", name="Axial slice")
    assert slider.get_attribute("aria-valuetext") == "5 of 8"
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "8 of 8"
    assert np.abs(_pixels(frame).astype(int) - before).mean() > 1
    numbers = _shown_numbers(page)
    _send(page, tmp_path / "series.zip")
    page.locator("#scan-name", has_text="series.zip").wait_for()
    assert _shown_numbers(page) == numbers
    page.set_input_files("#folder", tmp_path / "series")  # one row for all its files
    page.locator("#rows .answered").nth(2).wait_for()
    assert page.locator("#scan-name").inner_text() == "series"
    assert _shown_numbers(page) == numbers
    assert (_pixels(frame) > 40).mean() > 0.1  # the viewer is used again


def test_without_webgl_the_planes_are_drawn_all_the_same(opened, volume_server, scan):
    page = opened(volume_server)
    page.evaluate(
        """() => { const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...rest); }; }"""
    )
    _send(page, scan)
    assert "WebGL" in page.locator("#viewer").inner_text()
    axial = volume(3, 0.9)[4].astype(float)  # rows from the front, columns from the right side
    assert np.corrcoef(_first_canvas(page, 16, 16).ravel(), axial.ravel())[0, 1] > 0.99


def test_a_wrong_file_is_named_and_nothing_is_lost(opened, slice_server, images, tmp_path):
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "damaged.png").write_bytes(images[0].read_bytes()[:100])
    page = opened(slice_server, allowed="status of 422")
    _send(page, images[0])
    for name in ("notes.txt", "damaged.png"):
        _send(page, tmp_path / name)
        page.locator("#scan .warning", has_text="No answer.").wait_for()
        assert page.locator("#scan-name").inner_text() == name
    assert "PNG" in page.locator("#rows .problem").first.inner_text()
    assert page.locator("#rows .answered").count() == 1
    page.locator("#rows button").first.click()
    assert "Most probable class" in page.locator("#headline").inner_text()
    assert page.locator("#viewer canvas").first.is_visible()


def test_a_scan_unlike_the_training_data_is_warned_of_first(opened, slice_server, noise):
    page = opened(slice_server)
    _send(page, noise)
    assert "This scan is unlike the training data (p" in page.locator("#headline .warning").inner_text()
    assert "unlike the training data" in page.locator("#announcement").text_content()


@pytest.mark.parametrize("kind", ["slice", "volume"])
def test_a_heat_map_is_shown_over_the_scan_with_its_verdict(kind, opened, images, scan, request):
    tall = {"width": 1280, "height": 1800}  # without scrolling, pictures of the same place are of the same size
    page = opened(request.getfixturevalue(f"{kind}_server"), viewport=tall)
    _send(page, images[1] if kind == "slice" else scan)
    frame = page.locator("#viewer .frame")
    plain = _pixels(frame)
    button = page.get_by_role("button", name="Heat map")
    button.click()
    verdict = page.locator("#heat-map .verdict-box")
    verdict.wait_for()
    assert button.get_attribute("aria-pressed") == "true"
    assert verdict.inner_text().startswith(("Passed its checks.", "Do not rely on this heat map.", "Not checked."))
    assert "score of Dementia" in page.locator("#heat-map").inner_text()
    hot = _pixels(frame).astype(int)
    coloured = np.ptp(hot, axis=2) > np.ptp(plain, axis=2).astype(int) + 30
    assert 0.005 < coloured.mean() < 0.9
    opacity = page.get_by_role("slider", name="Opacity")
    opacity.press("Home")
    assert np.abs(_pixels(frame).astype(int) - plain).mean() < 0.5
    opacity.press("End")
    button.click()
    assert verdict.count() == 0
    assert np.abs(_pixels(frame).astype(int) - plain).mean() < 0.5


def test_a_heat_map_that_is_not_to_be_trusted_says_so(opened, slice_server, images):
    shown = {"format": "png", "data": base64.b64encode(images[1].read_bytes()).decode()}
    verdict = {"trusted": False, "words": "Do not trust this map: it is no better than random orders."}
    answer = {"name": images[1].name, "target": "Dementia", "method": "Occlusion", "scan": shown, "heat_map": shown}
    page = opened(slice_server)
    page.route("**/v1/explain*", lambda route: route.fulfill(json={**answer, "verdict": verdict}))
    _send(page, images[1])
    page.get_by_role("button", name="Heat map").click()
    box = page.locator("#heat-map .verdict-box")
    box.wait_for()
    assert box.inner_text().startswith("Do not rely on this heat map.")
    assert "untrusted" in box.get_attribute("class")
    assert "Do not rely on this heat map." in page.locator("#announcement").text_content()


def test_the_slices_of_a_folder_are_one_scan_for_a_classifier_of_stacks(opened, stack_server, tmp_path):
    folder = tmp_path / "exam"
    folder.mkdir()
    for number, pixels in enumerate(volume(5, 0.9)):
        Image.fromarray(pixels).save(folder / f"slice {number + 1}.png")
    page = opened(stack_server)
    assert "The slices of one scan are sent together" in page.locator("#accepted").inner_text()
    page.set_input_files("#folder", folder)
    page.locator("#rows tr").first.wait_for(state="attached")
    page.locator("#progress").wait_for(state="hidden")
    assert page.locator("#rows tr").count() == 1
    assert page.locator("#rows button").first.text_content() == "exam"
    assert "Dementia" in page.locator("#headline").inner_text()
    assert "8 slices in order: slice 1.png to slice 8.png" in page.locator("#answer").inner_text()


def test_at_the_width_of_a_phone_nothing_overflows(opened, slice_server, images, tmp_path):
    long = tmp_path / f"{'a-name-without-any-space-' * 4}.png"
    shutil.copy(images[0], long)
    page = opened(slice_server, viewport=PHONE, color_scheme="dark")
    assert _no_overflow(page)
    _send(page, images[0])
    assert _no_overflow(page)
    _send(page, images[1], long)
    page.locator("#rows button").last.click()
    page.locator("#answer details summary").click()
    assert _no_overflow(page)
    for part in ("#choose-files", "#headline", "#viewer canvas", ".bars", ".answers"):
        box = page.locator(part).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"] + 1


def test_the_keyboard_alone_is_enough(opened, slice_server, images):
    page = opened(slice_server)

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            if (focused.get_attribute("aria-label") or focused.inner_text()).startswith(name):
                assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
                return
        raise AssertionError(f"'{name}' cannot be reached by Tab")

    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    tab_to("Choose scans")
    page.keyboard.press("Enter")
    for _ in range(SHOWN // 50):
        page.wait_for_timeout(50)
        if choosers:
            break
    choosers[0].set_files(images[:2])
    page.locator("#rows .answered").nth(1).wait_for()
    page.locator("#progress").wait_for(state="hidden")
    tab_to("Choose a folder")
    tab_to("Download CSV")
    tab_to("Table of answers")
    tab_to(images[0].name)
    tab_to(images[1].name)
    page.keyboard.press("Enter")
    page.locator("#scan-name", has_text=images[1].name).wait_for()
    tab_to("PPV, NPV")
    page.keyboard.press("Enter")
    assert page.locator("#answer .rates").is_visible()


def test_several_files_are_a_table_with_downloads(opened, slice_server, image_bundle, images, tmp_path):
    names = ["=1+1.png", "b.png", "c.png", "d.png", "e.png", "f.png", "g.png"]
    paths = [tmp_path / name for name in names]
    for path, original in zip(paths, images, strict=False):
        shutil.copy(original, path)
    (tmp_path / "notes.txt").write_text("no scan")
    page = opened(slice_server, allowed="status of 422")
    _send(page, *paths, tmp_path / "notes.txt")
    page.locator("#rows button", has_text="c.png").click()
    assert page.locator("#scan-name").inner_text() == "c.png"
    page.locator("#viewer canvas").first.wait_for()  # of many, a picture is fetched when it is looked at
    downloaded = []
    for kind in ("CSV", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}").click()
        downloaded.append(Path(download.value.path()).read_text(encoding="utf-8"))
        assert download.value.suggested_filename == f"gyrus-answers.{kind.lower()}"
    rows = list(csv.DictReader(io.StringIO(downloaded[0])))
    assert [row["sample"] for row in rows] == [*map(for_spreadsheets, names), "notes.txt"]
    assert rows[-1]["problem"]
    wanted = predict_bundle(image_bundle, paths)
    for row, path in zip(rows, paths, strict=False):
        place = wanted.samples.index(str(path))
        assert row["predicted"] == wanted.classes[int(wanted.logits[place].argmax())]
        value = wanted.columns["subject_calibrated_probability:Dementia"][place]
        assert float(row["calibrated_probability:Dementia"]) == pytest.approx(value, abs=1e-5)
    document = json.loads(downloaded[1])
    assert [each["name"] for each in document["answers"]] == names
    assert document["classifier"]["classes"] == ["Control", "Dementia"]
    assert "view" not in document["answers"][0]
    page.get_by_role("button", name="Remove all").click()
    assert page.locator("#rows tr").count() == 0
    assert page.locator("#results").is_hidden()


def test_a_number_is_shown_with_its_interval_and_downloaded(opened, number_server, number_bundle, images):
    page = opened(number_server)
    assert "Predicts lesion load from brain-MRI slices" in page.locator("#subtitle").inner_text()
    about = page.locator("#about").inner_text()
    assert all(
        word in about for word in ("lesion load", "Mean absolute error", "Prediction intervals", "0.85 (95 % CI")
    )
    _send(page, *images[:2])
    wanted = predict_bundle(number_bundle, images[:2])
    for row, path in enumerate(images[:2]):
        page.locator("#rows button", has_text=path.name).click()
        low, high = (float(wanted.columns[f"subject_interval_{end}"][row]) for end in ("low", "high"))
        texts = [f"{value:.2f}".replace("-", "−") for value in (wanted.numbers[row], low, high)]
        headline = page.locator("#headline").inner_text()
        assert f"Predicted lesion load: {texts[0]}, 90 % prediction interval {texts[1]} to {texts[2]}." in headline
        assert "Corrected for the bias towards the mean" in page.locator("#answer").inner_text()
    assert page.locator("#no-heat-map").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [float(row["prediction"]) for row in rows] == pytest.approx(wanted.numbers.tolist(), abs=1e-5)
    assert float(rows[0]["interval_low"]) == pytest.approx(wanted.columns["subject_interval_low"][0], abs=1e-5)


def test_slices_of_a_subject_are_decided_together_as_by_predict(opened, slice_server, image_bundle, tmp_path):
    brightness = {"sub-001_slice-1": 0.9, "sub-001_slice-2": 0.2, "sub-001_slice-3": 0.8, "sub-002_slice-1": 0.1}
    paths = [tmp_path / f"{name}.png" for name in brightness]
    for number, (path, bright) in enumerate(zip(paths, brightness.values(), strict=True)):
        Image.fromarray(image(300 + number, bright)).save(path)
    page = opened(slice_server)
    _send(page, *paths)
    wanted = predict_bundle(image_bundle, [tmp_path])
    for path in paths:
        page.locator("#rows button", has_text=path.name).click()
        page.locator("#scan-name", has_text=path.name).wait_for()
        place = [sample.endswith(path.name) for sample in wanted.samples].index(True)
        value = wanted.columns["subject_calibrated_probability:Dementia"][place]
        assert _shown_numbers(page)["Dementia"] == f"{value:.2f}"
        decision = str(wanted.columns["subject_decision"][place])
        assert f"{decision.capitalize()} for Dementia" in page.locator("#answer").inner_text()
    assert len({row.locator("td").nth(2).inner_text() for row in page.locator("#rows tr").all()}) == 2  # subjects


def test_a_folder_is_searched_for_scans_and_the_whole_page_takes_drops(opened, slice_server, images, tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    shutil.copy(images[0], folder / "inner" / "one.png")
    (folder / "notes.txt").write_text("no scan")
    page = opened(slice_server)
    page.set_input_files("#folder", folder)
    page.locator("#rows .answered").wait_for(state="attached")
    assert page.locator("#scan-name").inner_text() == "folder/inner/one.png"
    assert "folder/notes.txt" in page.locator("#left-out").inner_text()
    page.evaluate(
        """bytes => { const dropped = new DataTransfer();
        dropped.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
        const event = new DragEvent("drop", {dataTransfer: dropped, bubbles: true});
        document.querySelector("footer").dispatchEvent(event); }""",
        list(images[1].read_bytes()),
    )
    page.locator("#rows .answered").nth(1).wait_for()
    assert page.locator("#scan-name").inner_text() == "dropped.png"


def test_a_busy_server_is_asked_again_and_a_token_is_kept_in_memory_only(opened, slice_server, images):
    page = opened(slice_server, allowed="status of (401|503)|ERR_FAILED")
    tries: list[str | None] = []

    def answer(route: Any) -> None:
        tries.append(route.request.headers.get("authorization"))
        if len(tries) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "The queue is full."})
        elif tries[-1] != "Bearer right":
            route.fulfill(status=401, json={"error": "A token is needed."})
        else:
            route.continue_()

    page.route("**/v1/predict*", answer)
    page.set_input_files("#files", images[0])
    page.locator("#headline", has_text="The server is busy; next try in 1 s").wait_for()
    field = page.get_by_label("Token", exact=True)
    for token in ("wrong", "right"):
        field.fill(token)
        page.keyboard.press("Enter")
        if token == "wrong":
            page.get_by_text("does not accept this token").wait_for()
    page.locator("#viewer canvas").first.wait_for()
    assert tries == [None, None, "Bearer wrong", "Bearer right"]
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.unroute("**/v1/predict*")
    page.route("**/v1/predict*", lambda route: route.abort())
    page.set_input_files("#files", images[0])
    page.locator("#scan .warning", has_text="No connection to the server").wait_for()
    page.unroute("**/v1/predict*")
    page.locator("#scan").get_by_role("button", name="Try again").click()
    page.locator("#rows .answered").nth(1).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(scheme, opened, slice_server, noise, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    (tmp_path / "notes.txt").write_text("no scan")
    page = opened(slice_server, allowed="status of 422", color_scheme=scheme)
    _send(page, noise, tmp_path / "notes.txt")
    page.locator("#rows button").first.click()
    page.locator("#answer details summary").click()
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []


def test_all_files_of_the_page_are_in_the_package():
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["gyrus"]
    files = [path for path in Path(str(PAGE)).rglob("*") if path.is_file()]
    names = [path.relative_to(Path(str(PAGE)).parents[1]).as_posix() for path in files]
    assert "serving/page/niivue/niivue.umd.js" in names
    for name in names:
        assert any(fnmatch(name, each) and name.count("/") == each.count("/") for each in patterns), name
