"""Receive the files of a request, within limits, into its folder."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gyrus.files import FULL
from gyrus.imaging.decoding import IMAGE_EXTENSIONS
from gyrus.imaging.dicom import DICOM_EXTENSIONS
from gyrus.memory import memory_text
from gyrus.serving.errors import RequestError, busy
from gyrus.serving.limits import ServingLimits
from gyrus.text import visible

VOLUME_EXTENSIONS = (".nii", ".nii.gz", ".mgh", ".mgz", ".nrrd", ".mha")
"""Volumes that are one file and carry their geometry."""

ACCEPTED = (*IMAGE_EXTENSIONS, *VOLUME_EXTENSIONS, *DICOM_EXTENSIONS, ".zip")
"""Extensions of uploads; files without an extension may be DICOM."""

LONGEST_NAME = 512
"""Characters of the name of a file, with its folders."""

FIELD = "files"

_OVERHEAD = 1024
"""Bytes of a multipart body around each file."""

Upload = tuple[str, Path]
"""The name of a file as it was sent, and where it is."""


def extension(name: str) -> str:
    """The accepted extension of a name, in lower case; empty for others."""
    lowered = name.lower()
    return max((each for each in ACCEPTED if lowered.endswith(each)), key=len, default="")


def require_form(content_type: str, length: str | None, limits: ServingLimits) -> bytes:
    """The boundary of a multipart body, before the body is read.

    Raises:
        RequestError: It is no multipart body, or is too large.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RequestError(
            415, f"The body is not multipart/form-data. Send the files as the field '{FIELD}' of a form."
        )
    if length is not None and length.isdigit() and int(length) > limits.bytes + limits.files * _OVERHEAD:
        raise too_large(limits)
    return options[b"boundary"]


def too_large(limits: ServingLimits) -> RequestError:
    """The body is larger than the limit."""
    return RequestError(
        413, f"The upload is larger than {memory_text(limits.bytes)}, the limit of this server. Send fewer files."
    )


async def receive_files(
    stream: AsyncIterator[bytes], boundary: bytes, folder: Path, limits: ServingLimits, hold: Callable[[int], None]
) -> list[Upload]:
    """Receive the files of a form.

    Args:
        stream: The body.
        boundary: From :func:`require_form`.
        folder: Where they are written, under numbers: names are not written anywhere.
        limits: Of the server.
        hold: Called with the bytes that arrive; may raise.

    Raises:
        RequestError: A limit is exceeded, the form is damaged, or has no file.
    """
    form = _Form(folder, limits)
    parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in stream:
                hold(len(chunk))
                form.count(len(chunk))
                parser.write(chunk)
        parser.finalize()
        if not form.ended:
            raise RequestError(400, "The form ends too early. Send the request again.")
    except TimeoutError as error:
        raise RequestError(
            408, f"The upload took longer than {limits.upload_seconds:g} s. Send fewer files, or use a faster network."
        ) from error
    except FormParserError as error:
        raise RequestError(400, "The multipart form is damaged. Send the request again.") from error
    except OSError as error:
        if error.errno in (*FULL, errno.ENOMEM):
            raise busy("there is no space for the upload") from error
        raise
    finally:
        form.close()
    if not form.files:
        raise RequestError(422, f"There is no file in the request. Send files as the field '{FIELD}' of a form.")
    return form.files


class _Form:
    """The state while a multipart body is parsed."""

    def __init__(self, folder: Path, limits: ServingLimits) -> None:
        self.files: list[Upload] = []
        self.ended = False
        self._folder, self._limits = folder, limits
        self._bytes = 0
        self._open: IO[bytes] | None = None
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._start,
            "on_part_data": self._write,
            "on_part_end": self.close,
            "on_end": self._end,
        }

    def count(self, received: int) -> None:
        self._bytes += received
        if self._bytes > self._limits.bytes + _OVERHEAD * (len(self.files) + 1):
            raise too_large(self._limits)

    def close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    def _begin(self) -> None:
        self._headers = {}

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _start(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            raise RequestError(422, f"The form has a field other than '{FIELD}', or one that is no file.")
        if len(self.files) >= self._limits.files:
            raise too_many_files(self._limits)
        name = shown_name(options[b"filename"].decode("utf-8", errors="replace"))
        path = self._folder / f"{len(self.files):06d}{extension(name)}"
        self.files.append((name, path))
        self._open = path.open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._open:
            self._open.write(data[start:end])

    def _end(self) -> None:
        self.ended = True


def too_many_files(limits: ServingLimits) -> RequestError:
    """There are more files than the limit."""
    return RequestError(413, f"There are more than {limits.files} files, the limit of this server. Send fewer files.")


def shown_name(name: str) -> str:
    """A name as answers show it: without control characters, and not longer than is allowed.

    Raises:
        RequestError: It is too long.
    """
    if len(name) > LONGEST_NAME:
        raise RequestError(422, f"The name of a file has more than {LONGEST_NAME} characters. Rename the file.")
    return visible(name.replace("\\", "/")).strip() or "unnamed"
