"""Contract: every limit and every hostile upload is refused in words, and the server goes on and keeps nothing."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import struct
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.export.manifest import BUNDLE
from gyrus.imaging.volume_formats import write_nifti
from gyrus.serving.app import create_app
from gyrus.serving.errors import RequestError
from gyrus.serving.limits import ServingLimits
from gyrus.serving.security import Access
from gyrus.serving.server import access_for, read_token, serve
from gyrus.serving.uploads import receive_files
from tests.serving.test_app import png, upload, zipped
from tests.support.bundles import as_volume, volume
from tests.support.images import png_header

LIMITS = ServingLimits(bytes=300_000, files=20, unpacked_bytes=1_000_000, seconds=20)
SECRET = "sub-secret"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def images(image_bundle) -> Iterator[TestClient]:
    with TestClient(create_app(image_bundle, limits=LIMITS), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def volumes(volume_bundle) -> Iterator[TestClient]:
    with TestClient(create_app(volume_bundle, limits=LIMITS), base_url="http://localhost") as client:
        yield client


def folder(client: TestClient) -> Path:
    return client.app.state.server.folder


def left_behind(client: TestClient) -> list[str]:
    """Files in the private folder of a server, without the empty folders of its workers."""
    return [str(path) for path in folder(client).rglob("*") if not path.name.startswith("worker-")]


def nifti_header(shape: tuple[int, int, int]) -> bytes:
    """A NIfTI that announces more voxels than it has."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 0, 1)
    for place, row in ((280, (1, 0, 0, 0)), (296, (0, 1, 0, 0)), (312, (0, 0, 1, 0))):
        struct.pack_into("<4f", header, place, *row)
    header[344:348] = b"n+1\0"
    return bytes(header)


def lying_zip() -> bytes:
    """An archive whose header announces a tiny file."""
    content = bytearray(zipped({"a.png": b"\0" * 2_000_000}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(mark) + offset, 10)
    return bytes(content)


def link_in_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        member = zipfile.ZipInfo("link.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    return content.getvalue()


def encrypted_zip() -> bytes:
    content = bytearray(zipped({"a.png": png(1)}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


GOOD = png(1)
IMAGES: dict[str, tuple[list[Any], int, str]] = {
    "empty file": ([upload("a.png", b"")], 422, "empty"),
    "text as png": ([upload("a.png", b"hello")], 422, "none of the formats"),
    "other kind of file": ([upload("a.exe", b"MZ")], 422, "no PNG, JPEG, NIfTI, DICOM"),
    "truncated": ([upload("a.png", GOOD[:600])], 422, "ends too early"),
    "image bomb": ([upload("a.png", png_header(60000, 60000, content=b"\0" * 1000))], 422, "pixels"),
    "huge upload": ([upload("a.png", b"x" * 400_000)], 413, "larger than"),
    "too many files": ([upload(f"{number}.png", b"x") for number in range(30)], 413, "more than 20 files"),
    "too many files in a zip": ([upload("a.zip", zipped({f"{n}.png": b"x" for n in range(30)}))], 413, "more than 20"),
    "zip bomb": ([upload("a.zip", zipped({"a.png": b"\0" * 5_000_000}))], 413, "unpacked"),
    "zip that lies about its size": ([upload("a.zip", lying_zip())], 422, "archive is damaged"),
    "zip in a zip": ([upload("a.zip", zipped({"b.zip": zipped({"c.png": GOOD})}))], 422, "archives in archives"),
    "link in a zip": ([upload("a.zip", link_in_zip())], 422, "links"),
    "encrypted zip": ([upload("a.zip", encrypted_zip())], 422, "encrypted"),
    "damaged zip": ([upload("a.zip", zipped({"a.png": GOOD})[:200])], 422, "archive is damaged"),
    "zip of nothing": ([upload("a.zip", zipped({}))], 422, "no scan"),
    "volume for a classifier of images": ([upload("a.nii", nifti_header((8, 16, 16)))], 422, ""),
    "long name": ([upload("x" * 2000 + ".png", GOOD)], 422, "512 characters"),
    "other field": ([("other", ("a.png", GOOD))], 422, "other than 'files'"),
    "field without a file": ([("files", (None, b"text"))], 422, "no file"),
}
VOLUMES: dict[str, tuple[list[Any], int, str]] = {
    "huge NIfTI header": ([upload("a.nii", nifti_header((30000, 30000, 30000)))], 422, "announces"),
    "large NIfTI header": ([upload("a.nii", nifti_header((700, 700, 700)))], 422, ""),
    "NIfTI without voxels": ([upload("a.nii", nifti_header((8, 16, 16)))], 422, ""),
    "damaged gzip": ([upload("a.nii.gz", b"\x1f\x8b" + b"x" * 100)], 422, ""),
    "not DICOM": ([upload("a.dcm", b"x" * 500)], 422, "not a DICOM file"),
    "DICOM without image": ([upload("a.dcm", b"\0" * 128 + b"DICM" + b"\0" * 40)], 422, ""),
    "image for a classifier of volumes": ([upload("a.png", GOOD)], 422, "2D image"),
}


@pytest.mark.parametrize(("kind", "name"), [("images", n) for n in IMAGES] + [("volumes", n) for n in VOLUMES])
def test_hostile_uploads_are_refused_in_words_and_leave_nothing(kind, name, images, volumes):
    client, (files, status, words) = (images, IMAGES[name]) if kind == "images" else (volumes, VOLUMES[name])
    response = client.post("/v1/predict", files=files)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert words in error
    assert str(folder(client)) not in response.text
    assert "Traceback" not in error
    assert left_behind(client) == []
    explained = client.post("/v1/explain", files=files)
    assert explained.status_code == status, explained.text
    assert left_behind(client) == []


def test_a_bad_file_beside_good_ones_costs_only_itself(images):
    names = {"../../../../tmp/evil.png": GOOD, "/etc/evil.png": GOOD, "C:\\evil\x1b[31m.png": GOOD, "bad.png": b"x"}
    found = images.post("/v1/predict", files=[upload("a.zip", zipped(names)), upload("ok.png", GOOD)]).json()
    assert len(found["answers"]) == 4
    assert [each["name"] for each in found["problems"]] == ["bad.png"]
    assert "\x1b" not in str(found)
    assert not Path("/tmp/evil.png").exists()
    assert not Path("/etc/evil.png").exists()
    assert left_behind(images) == []


BODIES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no form": ({"content-type": "application/json"}, b"{}", 415),
    "no boundary": ({"content-type": "multipart/form-data"}, b"x", 415),
    "damaged form": ({"content-type": "multipart/form-data; boundary=x"}, b"nonsense", 400),
    "cut form": (
        {"content-type": "multipart/form-data; boundary=x"},
        b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc',
        400,
    ),
    "empty form": ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 422),
    "announced too large": (
        {"content-type": "multipart/form-data; boundary=x", "content-length": "999999999"},
        b"",
        413,
    ),
    "long headers": (
        {"content-type": "multipart/form-data; boundary=x"},
        b"--x\r\n" + b"a" * 9000 + b": b\r\n\r\n\r\n--x--\r\n",
        400,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_damaged_forms_are_refused(name, images):
    headers, body, status = BODIES[name]
    response = images.post("/v1/predict", headers=headers, content=body)
    assert response.status_code == status, response.text
    assert response.json()["error"]
    assert left_behind(images) == []


PLACES = [
    ({"host": "evil.example"}, 421),
    ({"host": "evil.example:8000"}, 421),
    ({"host": "localhost:1234"}, 200),
    ({"host": "[::1]:8000"}, 200),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://localhost"}, 200),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "same-origin"}, 200),
]


@pytest.mark.parametrize(("headers", "status"), PLACES)
def test_other_sites_and_names_are_refused(headers, status, images):
    for path in ("/v1/classifier", "/", "/healthz"):
        assert images.get(path, headers=headers).status_code == status
    if status != 200:
        assert images.post("/v1/predict", headers=headers, files=[upload("a.png", GOOD)]).status_code == status


def test_a_link_elsewhere_may_open_the_page_and_nothing_else(images):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert images.get("/", headers=link).status_code == 200
    assert images.get("/v1/classifier", headers=link).status_code == 403


def test_every_answer_has_the_headers_that_bind_browsers(images):
    for response in (images.get("/"), images.get("/nothing"), images.get("/", headers={"host": "x"}), images.put("/")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in response.headers
        assert "server" not in response.headers
        assert response.status_code == 200 or response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/"]
)
def test_only_files_of_the_page_are_served(path, images):
    assert images.get(path).status_code == 404


def test_a_token_guards_all_but_the_page(image_bundle):
    with TestClient(
        create_app(image_bundle, limits=LIMITS, access=Access(("lab.example",), TOKEN)), base_url="http://lab.example"
    ) as client:
        assert client.get("/").status_code == client.get("/healthz").status_code == 200
        for path in ("/v1/classifier", "/metrics"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
                refused = client.get(path, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.post("/v1/predict", files=[upload("a.png", GOOD)]).status_code == 401


def test_other_machines_are_served_only_with_a_token(tmp_path, monkeypatch):
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError, match="--token-file"):
            access_for(host, None)
    assert access_for("0.0.0.0", TOKEN).token == TOKEN
    assert TOKEN not in repr(access_for("::1", TOKEN))
    assert access_for("127.0.0.1", None).token is None
    for bad in ("short", "x" * 20 + "\n" + "x", "é" * 20):
        with pytest.raises(ConfigError, match="at least 16"):
            access_for("127.0.0.1", bad)
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "token") == TOKEN
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none")
    monkeypatch.setenv("GYRUS_SERVE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN


@pytest.mark.parametrize("change", [{"bytes": 0}, {"seconds": -1.0}, {"memory": 1000}])
def test_limits_that_nothing_passes_are_refused(change):
    with pytest.raises(ConfigError):
        ServingLimits(**change)


def test_a_bundle_that_fails_verification_is_not_served(image_bundle, tmp_path):
    import shutil

    broken = Path(shutil.copytree(image_bundle, tmp_path / "broken"))
    content = bytearray((broken / "networks" / "1.onnx").read_bytes())
    content[-600] ^= 0xFF
    (broken / "networks" / "1.onnx").write_bytes(content)
    with pytest.raises(GyrusError, match="must not be used"):
        serve(broken, port=0)
    (broken / BUNDLE).unlink()
    with pytest.raises(DataError, match="There is no bundle"):
        serve(broken, port=0)


def ask(client: TestClient, **options: Any) -> Any:
    return client.post("/v1/predict", files=[upload(f"{SECRET}.png", GOOD)], **options)


def started(bundle: Path, **limits: Any) -> TestClient:
    return TestClient(create_app(bundle, limits=ServingLimits(**limits)), base_url="http://localhost")


def workers_of(client: TestClient) -> list[int]:
    return list(client.app.state.server.pool.process_ids)


def stopped(client: TestClient) -> Callable[[], None]:
    """Stop the worker, so that requests wait; the function lets it go on."""
    number = workers_of(client)[0]
    os.kill(number, signal.SIGSTOP)
    return lambda: os.kill(number, signal.SIGCONT)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 20 s")


def test_a_full_queue_is_refused_with_a_time_to_come_back(image_bundle):
    with started(image_bundle, waiting=3) as client, ThreadPoolExecutor(3) as threads:
        go_on = stopped(client)
        waiting = [threads.submit(ask, client) for _ in range(3)]
        wait_for(lambda: client.app.state.server._requests == 3)
        refused = ask(client)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "busy" in refused.json()["error"]
        go_on()
        assert [each.result().status_code for each in waiting] == [200, 200, 200]
        assert ask(client).status_code == 200
        assert left_behind(client) == []


def test_uploads_together_have_a_limit(image_bundle):
    with started(image_bundle, held_bytes=100) as client:
        assert ask(client).status_code == 503
        assert client.app.state.server._held == 0
        assert left_behind(client) == []


def test_a_worker_that_takes_too_long_is_replaced(image_bundle):
    with started(image_bundle, seconds=1) as client:
        assert ask(client).status_code == 200
        first = workers_of(client)
        stopped(client)
        late = ask(client)
        assert late.status_code == 504
        assert "longer than 1 s" in late.json()["error"]
        assert ask(client).status_code == 200
        assert workers_of(client) != first
        assert left_behind(client) == []
        assert "gyrus_workers_replaced_total 1.0" in client.get("/metrics").text


def test_a_worker_that_needs_too_much_memory_is_replaced(image_bundle, monkeypatch):
    from gyrus.serving.pool import _Worker

    with started(image_bundle) as client:
        monkeypatch.setattr(_Worker, "_used_memory", lambda _: 1 << 60)
        stopped(client)
        refused = ask(client)
        assert refused.status_code == 413
        assert "memory" in refused.json()["error"]
        monkeypatch.undo()
        assert ask(client).status_code == 200


def test_a_killed_worker_costs_no_answer(image_bundle):
    """The requests that it was answering are given to its successor, each alone."""
    with started(image_bundle) as client, ThreadPoolExecutor(4) as threads:
        expected = ask(client).json()["answers"]
        number = workers_of(client)[0]
        stopped(client)
        waiting = [threads.submit(ask, client) for _ in range(4)]
        wait_for(lambda: client.app.state.server._requests == 4)
        os.kill(number, signal.SIGKILL)
        assert [each.result().json()["answers"] for each in waiting] == [expected] * 4
        assert number not in workers_of(client)
        assert left_behind(client) == []


def test_a_request_that_ends_each_worker_is_refused_and_others_are_answered(image_bundle):
    with started(image_bundle) as client, ThreadPoolExecutor(2) as threads:
        waiting = None
        for _ in range(2):
            number = workers_of(client)[0]
            stopped(client)
            waiting = waiting or threads.submit(ask, client)
            wait_for(lambda: client.app.state.server._requests == 1)
            time.sleep(0.2)
            os.kill(number, signal.SIGKILL)
            wait_for(lambda number=number: workers_of(client) not in ([], [number]))
        result = waiting.result()
        assert result.status_code in (200, 422)  # the second kill may come before the second try
        assert ask(client).status_code == 200


def test_the_server_has_no_names_in_its_log(image_bundle, caplog):
    from gyrus.serving.security import access_log

    with started(image_bundle) as client, caplog.at_level("INFO", logger=access_log.name):
        ask(client, headers={"x-patient": SECRET, "user-agent": SECRET})
        client.get(f"/{SECRET}?name={SECRET}")
        client.get("/v1/classifier", headers={"host": f"{SECRET}.example"})
    assert "POST /v1/predict 200" in caplog.text
    assert "GET other 404" in caplog.text
    assert SECRET not in caplog.text


def test_an_error_that_nobody_expected_is_reported_without_its_message(image_bundle, caplog, monkeypatch):
    with started(image_bundle) as client:

        async def fail(*_: object, **__: object) -> None:
            raise ValueError(SECRET)

        monkeypatch.setattr(client.app.state.server, "upload", fail)
        response = ask(client)
        assert response.status_code == 500
        assert SECRET not in response.text
        assert SECRET not in caplog.text
        assert "ValueError at" in caplog.text


def test_a_volume_of_the_wrong_size_is_refused(volumes, tmp_path):
    write_nifti(as_volume(np.pad(volume(1), ((0, 3), (0, 0), (0, 0)))), tmp_path / "scan.nii.gz")
    response = volumes.post("/v1/predict", files=[upload("scan.nii.gz", (tmp_path / "scan.nii.gz").read_bytes())])
    assert response.status_code == 422
    assert "8 x 16 x 16" in response.json()["error"]


def test_an_upload_that_takes_too_long_is_ended(tmp_path):
    async def slow() -> AsyncIterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
        await asyncio.sleep(60)

    limits = ServingLimits(upload_seconds=0.05)
    with pytest.raises(RequestError, match=r"longer than 0\.05 s") as refused:
        asyncio.run(receive_files(slow(), b"x", tmp_path, limits, lambda _: None))
    assert refused.value.status == 408
