"""Who may use the server, and what browsers may do with its answers.

The checks are the outermost layer of the application and run before a body is read:

- the Host header must be a known name, so that no page elsewhere reaches the server by a name of its own (DNS
  rebinding)
- a browser must not send requests for other sites (``Sec-Fetch-Site``, ``Origin``); there are no CORS headers
- with a token, everything but the page and ``/healthz`` needs it
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

OPEN_PATHS = ("/", "/healthz", "/openapi.json")
"""Paths without a token, beside the files of the page: they hold nothing of the classifier."""

TOKEN_VARIABLE = "GYRUS_SERVE_TOKEN"
"""Environment variable of the token; workers do not get it."""

SMALLEST_TOKEN = 16
"""Characters of a token."""

access_log = logging.getLogger("gyrus.serving.access")
"""One line per request: method, route, status and seconds; no name, query, address or header."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes:
        hosts: Names in the Host header, without port; those of loopback are always allowed.
        token: What requests must carry as ``Authorization: Bearer``; None for none.
    """

    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    def refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason if a request is refused.

        Args:
            method: Of the request.
            path: Of the request, without query.
            headers: By name in lower case.
        """
        host = headers.get("host", "")
        if _without_port(host).lower() not in {*LOOPBACK_NAMES, *(name.lower() for name in self.hosts)}:
            return 421, (
                "The Host header is not a name of this server. Open it by its own address, or start it with "
                "--allowed-host and this name."
            )
        if _is_cross_site(method, path, host, headers):
            return 403, "Requests from other web sites are refused. Open the page of this server itself."
        if self.token and path not in OPEN_PATHS and not path.startswith("/page/"):
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode("latin-1"), f"Bearer {self.token}".encode("latin-1")):
                return 401, "A token is needed: send it in the header 'Authorization: Bearer'."
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


def _is_cross_site(method: str, path: str, host: str, headers: dict[str, str]) -> bool:
    site = headers.get("sec-fetch-site", "none")
    opened = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"  # a link to the page
    if site not in ("same-origin", "none") and not opened:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()


class Guard:
    """ASGI middleware: checks each request, adds the headers, writes the access log, and reports what went wrong.

    An error that nobody expected becomes status 500. Its message may hold names of files, so only its kind and place
    are logged.
    """

    def __init__(
        self, app: Any, access: Access, routes: Iterable[str], observe: Callable[[str, int, float], None]
    ) -> None:
        self._app = app
        self._access = access
        self._routes = frozenset(routes)
        self._observe = observe

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, begun = time.perf_counter(), 500, False

        async def send_guarded(message: Any) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                own = {name.lower() for name, _ in message.get("headers", ())}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._access.refusal(scope["method"], scope["path"], headers)
        try:
            if refusal:
                await send_error(send_guarded, *refusal)
            else:
                await self._app(scope, receive, send_guarded)
        except Exception as error:
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "unknown place"
            access_log.error("%s at %s", type(error).__name__, where)
            if not begun:
                await send_error(send_guarded, 500, "The server failed. Its log states where.")
        finally:
            seconds = time.perf_counter() - start
            route = self._route(scope["path"])
            self._observe(route, status, seconds)
            access_log.info("%s %s %d %.3f s", _method(scope), route, status, seconds)

    def _route(self, path: str) -> str:
        return path if path in self._routes else "/page/" if path.startswith("/page/") else "other"


def _method(scope: Any) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"


async def send_error(send: Any, status: int, message: str, retry_after: int | None = None) -> None:
    """Answer with ``{"error": message}``."""
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    headers += [(b"retry-after", str(retry_after).encode())] if retry_after is not None else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
