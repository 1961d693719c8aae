"""A worker process of a server: decodes uploads and runs the networks of a bundle.

It decodes files of strangers, so it has few rights: no token, no core dumps, files only up to a limit. It ends when the
server ends, in whatever way, and then removes the uploads.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
from pathlib import Path
from typing import IO, Any

from gyrus.errors import GyrusError
from gyrus.serving.messages import pack, read_message


def main(arguments: list[str]) -> None:
    """Answer the messages on standard input until it ends.

    Args:
        arguments: Of the command line; see :meth:`gyrus.serving.pool.Pool._command`.
    """
    bundle, engine, server_folder, own_folder, memory, unpacked, files, threads, seconds = arguments
    replies = os.fdopen(os.dup(1), "wb")
    _silence()
    _limit(int(unpacked))
    os.environ["OMP_NUM_THREADS"] = threads
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_receive, args=(messages, Path(server_folder)), daemon=True).start()
    from gyrus.memory import reading_memory

    reading_memory.limit(int(memory))
    try:
        from gyrus.serving.answers import Answering

        answering = Answering.load(Path(bundle), engine, Path(own_folder), int(unpacked), int(files), float(seconds))
    except GyrusError as error:
        _send(replies, {"error": str(error)})
        return
    _send(replies, answering.about())
    while True:
        _send(replies, {"results": answering.answer(messages.get()["requests"])})


def _send(replies: IO[bytes], message: dict[str, Any]) -> None:
    replies.write(pack(message))
    replies.flush()


def _receive(messages: queue.Queue[dict[str, Any]], folder: Path) -> None:
    """Pass on messages; at the end of the server, remove its folder and end."""
    while (message := read_message(sys.stdin.buffer)) is not None:
        messages.put(message)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _silence() -> None:
    """Let libraries write nothing: their messages name files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _limit(largest_file: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))


if __name__ == "__main__":
    main(sys.argv[1:])
