"""A stand-in for the Hugging Face Hub with repositories of models, which can be read and written over its protocol.

It speaks the Git LFS transfer; Xet, which needs a server of its own, is turned off in the library.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tests.support.hub import Reply, Request, serving

WRITE, READ = "hf_" + "w" * 34, "hf_" + "r" * 34
"""Tokens that may write, and read."""


@dataclass
class Repository:
    """A repository: the files of each commit, by name."""

    private: bool = True
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with exactly these files; returns its name."""
        content = json.dumps([len(self.commits), sorted((name, _sha(data)) for name, data in files.items())])
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch or a commit."""
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class ModelHub:
    """Repositories by name, and what went over the wire.

    Attributes:
        repositories: By owner/name.
        requests: Method and path of each request.
        tokens: Of each request; None without one.
        fault: Called with each request; a reply of it is sent instead.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    fault: Callable[[Request], Reply | None] = lambda _request: None
    _stored: dict[str, bytes] = field(default_factory=dict)
    _address: str = ""

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Answer until the block ends; the address is handed to the block."""
        with serving(self.answer) as address:
            self._address = address
            yield address

    def answer(self, request: Request) -> Reply:
        """The reply to a request."""
        self.requests.append(f"{request.method} {request.path}")
        bearer = request.headers.get("Authorization")
        token = bearer.removeprefix("Bearer ") if bearer else None
        self.tokens.append(token)
        if (reply := self.fault(request)) is not None:
            return reply
        if token not in (None, READ, WRITE):
            return refusal(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
        if request.path.startswith("/lfs/"):
            return self._store(request)
        if request.path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if request.path == "/api/repos/create":
            return self._create(request, token)
        parts = request.path.removeprefix("/api/models").strip("/").split("/")
        name = f"{parts[0]}/{parts[1].removesuffix('.git')}" if len(parts) > 1 else ""
        found = self.repositories.get(name)
        if found is None or (found.private and token is None):
            status = HTTPStatus.NOT_FOUND if token else HTTPStatus.UNAUTHORIZED
            return refusal(status, "RepoNotFound", "Repository not found")
        return self._of_repository(name, found, request, parts[2:], token)

    def _of_repository(
        self, name: str, found: Repository, request: Request, rest: list[str], token: str | None
    ) -> Reply:
        if request.method == "POST" and token != WRITE:
            return refusal(HTTPStatus.FORBIDDEN, "", "You have read access but not the required permissions")
        if rest[:1] == ["preupload"]:
            return _json({"files": [_upload_mode(each) for each in json.loads(request.body)["files"]]})
        if rest[:1] == ["info"]:
            return self._batch(request)
        if rest[:1] == ["commit"]:
            return self._commit(name, found, request, rest[1])
        commit = found.resolve(rest[1] if len(rest) > 1 else "main")
        if commit is None:
            return refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound", "Invalid rev id")
        if rest[:1] == ["resolve"]:
            return self._content(found.commits[commit].get("/".join(rest[2:])), commit)
        return _json(
            {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": found.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": each} for each in sorted(found.commits[commit])],
            }
        )

    def _create(self, request: Request, token: str | None) -> Reply:
        if token != WRITE:
            status = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
            return refusal(status, "", "You do not have the rights to create a model")
        asked = json.loads(request.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            status, _, headers = refusal(HTTPStatus.CONFLICT, "", "You already created this model repo")
            return status, json.dumps({"url": f"{self._address}/{name}"}).encode(), headers
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[name] = Repository(private)
        self.repositories[name].commit({".gitattributes": b"*.onnx filter=lfs\n"})
        return _json({"url": f"{self._address}/{name}", "id": name})

    def _batch(self, request: Request) -> Reply:
        objects = [
            {
                **each,
                **(
                    {}
                    if each["oid"] in self._stored
                    else {"actions": {"upload": {"href": f"{self._address}/lfs/{each['oid']}", "header": {}}}}
                ),
            }
            for each in json.loads(request.body)["objects"]
        ]
        return _json({"transfer": "basic", "objects": objects})

    def _store(self, request: Request) -> Reply:
        oid = request.path.removeprefix("/lfs/")
        if _sha(request.body) != oid:
            return refusal(HTTPStatus.BAD_REQUEST, "", "the content has another SHA-256")
        self._stored[oid] = request.body
        return HTTPStatus.OK, b"", {}

    def _commit(self, name: str, found: Repository, request: Request, branch: str) -> Reply:
        files = dict(found.commits[found.branches[branch]])
        for line in request.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header" and value.get("parentCommit") not in (None, found.branches[branch]):
                return refusal(HTTPStatus.PRECONDITION_FAILED, "", "A commit has happened since")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self._stored[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = found.commit(files, branch)
        return _json({"commitUrl": f"{self._address}/{name}/commit/{sha}", "commitOid": sha, "pullRequestUrl": None})

    def _content(self, content: bytes | None, commit: str) -> Reply:
        if content is None:
            return refusal(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        return HTTPStatus.OK, content, {"ETag": f'"{_sha(content)}"', "X-Repo-Commit": commit}


def refusal(status: HTTPStatus, code: str, message: str) -> Reply:
    """An error as the Hub sends it."""
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return status, json.dumps({"error": message}).encode(), {**headers, "Content-Type": "application/json"}


def _upload_mode(file: dict[str, Any]) -> dict[str, Any]:
    large = not file["path"].endswith((".json", ".md", "SHA256SUMS"))
    return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}


def _json(value: Any) -> Reply:
    return HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
