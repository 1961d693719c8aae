"""``gyrus serve`` as a process: real HTTP, signals, and what it leaves behind."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving.test_app import png, upload

PROGRAM = """
import sys
sys.argv = ["gyrus", *sys.argv[1:]]
from gyrus.cli.app import main
try:
    main()
finally:
    heavy = {"torch", "lightning", "timm", "monai", "matplotlib", "sklearn", "captum"} & {*sys.modules}
    print("heavy:", sorted(heavy), flush=True)
"""


class Running:
    """A server in a process of its own."""

    def __init__(self, bundle: Path, folder: Path, *options: str) -> None:
        self.log = folder / "log"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        words = [sys.executable, "-c", PROGRAM, "serve", str(bundle), "--port", "0", *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(self.temporary)}
            )
        for _ in range(1200):
            text = self.log.read_text()
            if "Serving " in text or self.process.poll() is not None:
                break
            time.sleep(0.1)
        assert "Serving " in text, text
        self.port = int(text.split("http://127.0.0.1:")[1].split()[0])
        self.address = f"http://127.0.0.1:{self.port}"
        self.workers = psutil.Process(self.process.pid).children()
        words = self.workers[0].cmdline()
        self.folder = Path(words[words.index("gyrus.serving.worker") + 3])  # its private folder

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def server(image_bundle, tmp_path) -> Iterator[Running]:
    running = Running(image_bundle, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def gone(*paths: Path) -> bool:
    for _ in range(200):
        if not any(path.exists() for path in paths):
            return True
        time.sleep(0.05)
    return False


def test_a_server_answers_and_ends_in_order_without_torch(server):
    assert server.folder.is_dir()
    answer = httpx.post(f"{server.address}/v1/predict", files=[upload("sub-secret.png", png(1, 0.9))], timeout=60)
    assert answer.json()["answers"][0]["prediction"] == "Dementia"
    assert httpx.get(server.address).headers["content-security-policy"].startswith("default-src 'none'")
    assert "Gyrus" in httpx.get(server.address).text
    too_large = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    too_large.putrequest("POST", "/v1/predict")
    too_large.putheader("Content-Type", "multipart/form-data; boundary=x")
    too_large.putheader("Content-Length", str(10**10))
    too_large.endheaders()
    assert too_large.getresponse().status == 413  # before anything is sent
    too_large.close()
    assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
    log = server.log.read_text()
    assert "heavy: []" in log
    assert "POST /v1/predict 200" in log
    assert "POST /v1/predict 413" in log
    assert "secret" not in log
    assert "Traceback" not in log
    assert gone(server.folder)
    assert [*server.temporary.iterdir()] == []
    assert not any(worker.is_running() and worker.status() != "zombie" for worker in server.workers)


def test_a_killed_server_leaves_no_process_and_no_folder(server):
    assert server.folder.is_dir()
    server.end(signal.SIGKILL)
    for _ in range(200):
        if not any(worker.is_running() and worker.status() != "zombie" for worker in server.workers):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a worker outlives the server")
    assert gone(server.folder)


def test_a_client_that_leaves_during_its_upload_leaves_nothing(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        part = '--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n{part}".encode() + b"y" * 5000)
        for _ in range(200):
            if len([*server.folder.rglob("*.png")]) == 1:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("nothing arrived")
    assert gone(*server.folder.rglob("*.png"))
    assert httpx.get(f"{server.address}/healthz").json() == {"status": "ok"}


def test_a_port_in_use_is_reported_in_words(image_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["serve", str(image_bundle), "--port", str(taken.getsockname()[1])]
        found = subprocess.run([sys.executable, "-m", "gyrus", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "cannot listen on 127.0.0.1" in found.stderr
    assert "Traceback" not in found.stderr
