"""The worker processes of a server, and the queue before them.

A worker decodes uploads and runs the networks. It is killed when a request takes too long or too much memory, and
replaced; so a file that breaks a decoder costs its own request, not the server. Requests that were answered together
with it are tried again, each alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gyrus.errors import GyrusError
from gyrus.memory import SMALLEST_BUDGET, available_memory
from gyrus.serving.errors import RequestError, busy
from gyrus.serving.limits import SMALLEST_MEMORY, ServingLimits
from gyrus.serving.messages import LARGEST, LENGTH, pack
from gyrus.serving.metrics import Metrics
from gyrus.serving.security import TOKEN_VARIABLE

START_SECONDS = 120.0
"""Longest time to load a bundle."""

LOOK = 0.1
"""Seconds between two looks at the memory of a busy worker."""

TRIES = 2
"""How often a request is given to a worker; the second time alone."""


@dataclass(eq=False)
class Job:
    """A request that waits for its answer.

    Attributes:
        message: What the worker gets.
        alone: Whether it is answered by itself.
        answer: Status and body as JSON text, or an error.
        tries: How often a worker has begun with it.
        since: When it began to wait.
    """

    message: dict[str, Any]
    alone: bool
    answer: asyncio.Future[dict[str, Any]]
    tries: int = 0
    since: float = field(default_factory=time.monotonic)


class WorkerEndedError(Exception):
    """A worker has ended, or was killed because it needed too long or too much.

    Attributes:
        reason: "ended", "time" or "memory".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Pool:
    """Workers and their queue. All methods run in the event loop of the server."""

    def __init__(
        self, bundle: Path, engine: str, folder: Path, limits: ServingLimits, metrics: Metrics, workers: int
    ) -> None:
        self._bundle, self._engine, self._folder = bundle, engine, folder
        self._limits, self._metrics = limits, metrics
        share = available_memory() // 2 // workers
        self._memory = limits.memory or max(share, SMALLEST_MEMORY)
        self._workers = [
            _Worker(self._command(number, workers), folder / f"worker-{number}") for number in range(workers)
        ]
        self._waiting: list[Job] = []
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.about: dict[str, Any] = {}

    async def start(self) -> None:
        """Start the workers and wait until they have loaded the bundle.

        Raises:
            GyrusError: One of them could not.
        """
        found = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                await self.stop()
                raise each
            self.about = each
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self._workers]

    async def stop(self) -> None:
        """End the workers at once; requests that still wait are refused."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._waiting:
            _refuse(job, busy("it is being stopped"))
        self._waiting.clear()
        await asyncio.gather(*(worker.kill() for worker in self._workers))

    @property
    def process_ids(self) -> list[int]:
        """Of the running workers."""
        return [worker.process_id for worker in self._workers if worker.process_id]

    async def answer(self, message: dict[str, Any], *, alone: bool = False) -> dict[str, Any]:
        """The answer of a worker to a request.

        Raises:
            RequestError: It took too long, or ended the worker.
        """
        job = Job(message, alone, asyncio.get_running_loop().create_future())
        await self._put([job])
        try:
            async with asyncio.timeout(START_SECONDS + self._limits.seconds * (TRIES + 1)):
                return await job.answer
        except TimeoutError as error:
            raise busy("requests before this one took too long") from error
        finally:
            job.answer.cancel()
            if job in self._waiting:
                self._waiting.remove(job)
                self._metrics.waiting.set(len(self._waiting))

    async def _put(self, jobs: Iterable[Job]) -> None:
        async with self._changed:
            self._waiting[:0] = (job for job in jobs if job.tries)
            self._waiting += [job for job in jobs if not job.tries]
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify_all()

    async def _next(self) -> list[Job]:
        """The next jobs: those that wait, up to a batch; or one that must be alone."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))
            jobs = [self._waiting.pop(0)]
            while not jobs[0].alone and self._waiting and not self._waiting[0].alone and len(jobs) < self._limits.batch:
                jobs.append(self._waiting.pop(0))
            self._metrics.waiting.set(len(self._waiting))
        return [job for job in jobs if not job.answer.done()]

    async def _serve(self, worker: _Worker) -> None:
        while True:
            jobs = await self._next()
            if not jobs:
                continue
            if not worker.process_id and not await self._replace(worker):
                await self._put(jobs)
                await asyncio.sleep(1)
                continue
            self._metrics.batch.observe(len(jobs))
            for job in jobs:
                job.tries += 1
            try:
                results = await worker.ask(
                    {"requests": [job.message for job in jobs]}, self._limits.seconds, self._memory
                )
                for job, result in zip(jobs, results["results"], strict=True):
                    if not job.answer.done():
                        job.answer.set_result(result)
            except asyncio.CancelledError:
                for job in jobs:
                    _refuse(job, busy("it is being stopped"))
                raise
            except Exception as error:  # also what a worker must not send
                reason = error.reason if isinstance(error, WorkerEndedError) else "ended"
                await worker.kill()
                await self._put(self._to_try_again(jobs, reason))
                await self._replace(worker)

    def _to_try_again(self, jobs: list[Job], reason: str) -> list[Job]:
        again = []
        for job in jobs:
            guilty = len(jobs) == 1 and reason != "ended"
            if job.answer.done():
                continue
            if guilty or job.tries >= TRIES:
                _refuse(job, self._refusal(reason))
            else:
                job.alone = True
                again.append(job)
        return again

    def _refusal(self, reason: str) -> RequestError:
        if reason == "time":
            return RequestError(
                504,
                f"The answer took longer than {self._limits.seconds:g} s, the limit of this server. Send fewer files.",
            )
        if reason == "memory":
            return RequestError(413, "The upload needs more memory than this server has. Send fewer or smaller files.")
        return RequestError(422, "The files could not be read: the process that read them has ended.")

    async def _replace(self, worker: _Worker) -> bool:
        self._metrics.replaced.inc()
        try:
            await worker.start()
        except GyrusError:
            return False
        return True

    def _command(self, number: int, workers: int) -> list[str]:
        reading = max(SMALLEST_BUDGET, self._memory // 2)
        threads = max(1, (os.cpu_count() or 1) // workers)
        words = [str(self._bundle), self._engine, str(self._folder), str(self._folder / f"worker-{number}")]
        numbers = [reading, self._limits.unpacked_bytes, self._limits.files, threads]
        seconds = self._limits.seconds
        return [sys.executable, "-m", "gyrus.serving.worker", *words, *map(str, numbers), str(seconds)]


class _Worker:
    """One worker process."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command, self._folder = command, folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process_id(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> dict[str, Any]:
        """Start the process; what it tells about the bundle."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)
        environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        environment |= {"TMPDIR": str(self._folder), "GYRUS_CACHE": str(self._folder)}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # decoders write names there
            env=environment,
            cwd=tempfile.gettempdir(),
            start_new_session=True,  # Ctrl-C is for the server, which ends its workers
        )
        try:
            about = await asyncio.wait_for(self._read(), START_SECONDS)
        except (WorkerEndedError, TimeoutError) as error:
            await self.kill()
            raise GyrusError("A worker of the server could not be started.") from error
        if "error" in about:
            await self.kill()
            raise GyrusError(about["error"])
        return about

    async def ask(self, message: dict[str, Any], seconds: float, memory: int) -> dict[str, Any]:
        """The reply to a message.

        Raises:
            WorkerEndedError: The process has ended, or needs more time or memory.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        reply = asyncio.create_task(self._exchange(pack(message)))
        try:
            end = time.monotonic() + seconds
            while not reply.done():
                await asyncio.wait([reply], timeout=LOOK)
                if reply.done():
                    break
                if time.monotonic() > end:
                    raise WorkerEndedError("time")
                if self._used_memory() > memory:
                    raise WorkerEndedError("memory")
            return reply.result()
        finally:
            reply.cancel()
            with suppress(asyncio.CancelledError, WorkerEndedError, OSError):
                await reply

    async def kill(self) -> None:
        """End the process at once, and remove what it has written."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _exchange(self, message: bytes) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            await self._process.stdin.drain()
        except OSError as error:
            raise WorkerEndedError("ended") from error
        return await self._read()

    async def _read(self) -> dict[str, Any]:
        import json

        assert self._process is not None
        assert self._process.stdout is not None
        try:
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            if length > LARGEST:
                raise WorkerEndedError("ended")
            body = await self._process.stdout.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise WorkerEndedError("ended") from error
        found: dict[str, Any] = json.loads(body)
        return found

    def _used_memory(self) -> int:
        try:
            return int(psutil.Process(self.process_id).memory_info().rss) if self.process_id else 0
        except psutil.Error:
            return 0


def _refuse(job: Job, error: RequestError) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
