"""A stand-in for the Hugging Face Hub: one data set, served over the Hub's HTTP protocol on the loopback device."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_PROGRAM = """
import json, os, sys
from pathlib import Path
from gyrus.datasets.scan import scan
from gyrus.errors import GyrusError

results = {}
for number, name in enumerate(sys.argv[1:]):
    try:
        out = Path(f"manifest-{os.getpid()}-{number}").absolute()
        scan(name).save(out)
        results[name] = str(out)
    except GyrusError as error:
        results[name] = f"{type(error).__name__}: {error}"
print(json.dumps(results))
"""

REVISION = "0123456789abcdef0123456789abcdef01234567"


Reply = tuple[HTTPStatus, bytes, dict[str, str]]
"""Status, content and headers. Content that ends before its Content-Length header is a broken connection."""


@dataclass(frozen=True)
class Request:
    """A request: method, path without the query, query, headers, body."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes


@contextmanager
def serving(answer: Callable[[Request], Reply]) -> Iterator[str]:
    """Answer requests on the loopback device until the block ends; the address is handed to the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            address = urlsplit(self.path)
            body = self._body()
            request = Request(self.command, unquote(address.path), parse_qs(address.query), self.headers, body)
            status, content, headers = answer(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
                self.close_connection = int(headers.get("Content-Length", len(content))) > len(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_HEAD = do_POST = do_PUT = _reply  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Hub:
    """Serves the files of ``folder`` as the data set ``name``; remembers what it was asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.requests: list[str] = []

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Answer until the block ends; the address is handed to the block."""
        with serving(lambda request: self.answer(request.path, request.body)) as address:
            yield address

    def answer(self, path: str, body: bytes) -> Reply:
        """Status, content and headers of a request."""
        self.requests.append(path)
        about, files = f"/api/datasets/{self.name}", f"/datasets/{self.name}/resolve/"
        if path in (about, f"{about}/revision/main", f"{about}/revision/{REVISION}"):
            return _json(self._about())
        if path.startswith(f"{about}/tree/"):
            _, _, below = path.removeprefix(f"{about}/tree/").partition("/")
            return _json(self._tree(below)) if (self.folder / below).is_dir() else _missing("EntryNotFound")
        if path.startswith(f"{about}/paths-info/"):
            return _json([self._entry(self.folder / name) for name in _paths(body) if (self.folder / name).exists()])
        if path.startswith(files):
            return self._content(path.removeprefix(files).partition("/")[2])
        return _missing("RepoNotFound")

    def _about(self) -> dict[str, Any]:
        names = [file.relative_to(self.folder).as_posix() for file in sorted(self.folder.rglob("*")) if file.is_file()]
        return {
            "id": self.name,
            "sha": REVISION,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in names],
        }

    def _tree(self, below: str) -> list[dict[str, Any]]:
        return [self._entry(file) for file in sorted((self.folder / below).rglob("*"))]

    def _entry(self, file: Path) -> dict[str, Any]:
        path = file.relative_to(self.folder).as_posix()
        if file.is_dir():
            return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
        content = file.read_bytes()
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}

    def _content(self, name: str) -> Reply:
        if not (self.folder / name).is_file():
            return _missing("EntryNotFound")
        content = (self.folder / name).read_bytes()
        tag = hashlib.sha1(content).hexdigest()
        return HTTPStatus.OK, content, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}


def scan_in_new_process(address: str, home: Path, *names: str, offline: bool = False) -> dict[str, str]:
    """Scan data sets in a process that knows the Hub at ``address``; the library reads that when it is imported.

    Returns:
        For each name the file with the manifest, or the error.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))},
        "HF_ENDPOINT": address,
        "HF_HOME": str(home / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": str(int(offline)),  # only to spare half a minute of tries; without it the answer is the same
        "GYRUS_CACHE": str(home / "gyrus"),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, *names],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout)


def _paths(body: bytes) -> list[str]:
    try:
        asked = json.loads(body)
    except ValueError:
        asked = parse_qs(body.decode())
    paths = asked["paths"]
    return [paths] if isinstance(paths, str) else list(paths)


def _json(value: Any) -> Reply:
    return HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _missing(code: str) -> Reply:
    return HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": code, "X-Error-Message": code}
