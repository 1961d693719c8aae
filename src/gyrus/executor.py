"""Where tasks run: in this process, in other processes of this machine, or on a Dask cluster.

Results come in the order of the tasks, and are the same wherever they are computed: a task gets all that it needs,
also its seed. Processes come from loky, which joblib contains, and clusters from Dask; both give futures. joblib's own
backend for Dask is not used, nor Dask's executor: both wait for ever for a task that Dask gives up after the death of
several workers.

A module that splits its work into tasks calls :func:`map_tasks`. The user decides where they run:

    >>> with workers(jobs=2):
    ...     list(map_tasks(abs, [-1, 2, -3]))
    [1, 2, 3]
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from gyrus.errors import ConfigError, GyrusError
from gyrus.extras import missing_dependency
from gyrus.files import cache_folder, make_folder
from gyrus.memory import available_memory, memory_text, reading_memory
from gyrus.text import counted, first_line

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 8
"""Threads for reading images at most; more wait for the disk and for each other."""

DEATHS = 3
"""How often the workers of one task may die before it is given up."""

_AHEAD = 3
"""Tasks per worker that are submitted before the first result is taken: results wait for those before them."""

_CONNECTING = 10.0
_FIRST_WORKER = 600.0
"""Seconds to wait for a scheduler, and for its first worker, which may have to be started by SLURM."""

_IDLE = 300
_ENDING = 10.0
"""Seconds after which an idle process ends, and in which one that is asked to end its task must do so."""


class Executor(Protocol):
    """Where tasks run."""

    @property
    def places(self) -> int:
        """How many tasks run at once."""

    def run(self, tasks: Iterable[Callable[[], Result]], *, whole: bool, ahead: int) -> Generator[Result]:
        """The results of tasks in their order; see :func:`map_tasks`."""

    def close(self) -> None:
        """End all workers."""


class Serial:
    """One task after the other, in this process."""

    places = 1

    def run(self, tasks: Iterable[Callable[[], Result]], *, whole: bool, ahead: int) -> Generator[Result]:  # noqa: ARG002
        """The results of tasks."""
        for task in tasks:
            yield task()

    def close(self) -> None:
        """Nothing is to be ended."""


class Threads:
    """Small tasks in threads of this process, and whole jobs one after the other."""

    @property
    def places(self) -> int:
        """How many tasks run at once."""
        return min(MOST_THREADS, os.cpu_count() or 1)

    def run(self, tasks: Iterable[Callable[[], Result]], *, whole: bool, ahead: int) -> Generator[Result]:
        """The results of tasks."""
        if whole:
            yield from Serial().run(tasks, whole=True, ahead=ahead)
            return
        with ThreadPoolExecutor(self.places) as pool:
            yield from _in_order(pool.submit, tasks, window=lambda: ahead * self.places)

    def close(self) -> None:
        """Threads end with the call that needs them."""


class Processes:
    """Processes of this machine, which share its memory for reading. They start when a task needs them.

    Attributes:
        places: Their number.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._pool: Any = None
        self._submitted: WeakSet[Future[Any]] = WeakSet()

    def run(self, tasks: Iterable[Callable[[], Result]], *, whole: bool, ahead: int) -> Generator[Result]:
        """The results of tasks. The tasks of a killed worker run again."""
        conditions = _Conditions(whole, reading_memory.total, self.places, str(self._turn))
        window = sys.maxsize if whole else ahead * self.places
        try:
            yield from _in_order(self.submit, map(partial(_Task, conditions), tasks), window=lambda: window)
        except BaseException:
            if whole:  # others may run for hours; small tasks end by themselves
                self.close()
            raise

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        """Hand a task to the processes; new ones are started if one of them was killed."""
        if self._pool is None or self._pool._flags.broken:
            from joblib.externals.loky import ProcessPoolExecutor

            # loky replaces a worker whose memory has grown, between tasks, and warns: nothing is lost.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            self._pool = ProcessPoolExecutor(self.places, timeout=_IDLE, initializer=_heed_signals)
            self._submitted = WeakSet()
        try:
            future: Future[Any] = self._pool.submit(task)
        except BrokenProcessPool:  # broken since the line above
            return self.submit(task)
        self._submitted.add(future)
        return future

    @cached_property
    def _turn(self) -> Path:
        return Path(tempfile.gettempdir()) / f"gyrus-reading-{os.getpid()}.lock"

    def close(self) -> None:
        """End the processes; those in the middle of a task remove their temporary files first."""
        if self._pool is None:
            return
        running = [future for future in self._submitted if not future.done()]
        if running:
            for process in list((self._pool._processes or {}).values()):
                with suppress(OSError):
                    os.kill(process.pid, signal.SIGTERM)
            wait(running, timeout=_ENDING)
        self._pool.shutdown(wait=True, kill_workers=True)
        self._pool = None
        self._turn.unlink(missing_ok=True)


class Cluster:
    """The workers of a Dask cluster, which share a file system with this machine."""

    def __init__(self, address: str) -> None:
        """Connect, and wait for the first worker.

        Args:
            address: Of the scheduler, such as "tcp://host:8786".

        Raises:
            GyrusError: There is no scheduler, or no worker, or workers have no or another version of Gyrus.
            MissingDependencyError: Dask is not installed.
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise missing_dependency("A Dask cluster", "cluster") from error
        try:
            self._client = Client(address, timeout=_CONNECTING, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise GyrusError(
                f"Cannot reach a Dask scheduler at {address}: {first_line(error).removesuffix('.')}. Start one with "
                "`dask scheduler`, and give its address as tcp://host:8786."
            ) from error
        self._address = address
        try:
            self._require_workers()
        except BaseException:
            self.close()
            raise

    def _require_workers(self) -> None:
        here = _version()
        try:
            there = self._client.submit(_version, pure=False).result(timeout=_FIRST_WORKER)
            versions = {there, *self._client.run(_version).values()}
        except TimeoutError as error:
            raise GyrusError(
                f"The cluster at {self._address} has had no worker for {_FIRST_WORKER / 60:.0f} minutes. Start some "
                f"with `dask worker {self._address}`."
            ) from error
        except Exception as error:
            raise GyrusError(
                f"The workers of {self._address} cannot run Gyrus: {first_line(error).removesuffix('.')}. Install "
                f"{here} on each machine."
            ) from error
        if versions != {here}:
            raise GyrusError(
                f"The workers of {self._address} have {', '.join(sorted(versions - {here}))}, and this machine {here}. "
                "Install the same version on each machine."
            )

    @property
    def places(self) -> int:
        """How many tasks run at once; workers may come and go."""
        return max(1, sum(self._client.ncores().values()))

    def run(self, tasks: Iterable[Callable[[], Result]], *, whole: bool, ahead: int) -> Generator[Result]:
        """The results of tasks. Dask runs the tasks of a worker that died on another one."""
        tasks = map(partial(_Task, _Conditions(whole)), tasks)
        try:
            yield from _in_order(
                partial(self._client.submit, pure=False),
                tasks,
                window=lambda: sys.maxsize if whole else ahead * self.places,
            )
        except CancelledError as error:
            raise GyrusError(
                f"The connection to the cluster at {self._address} was lost. Start it again, and repeat the command."
            ) from error

    def close(self) -> None:
        """Disconnect; tasks that wait are cancelled."""
        self._client.close()


_EXECUTOR: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def workers(jobs: int | None = None, cluster: str | None = None) -> Iterator[None]:
    """Run the tasks of all calls within the block in several processes, or on a cluster. Results do not change.

    Args:
        jobs: Processes of this machine; 1 for this process alone, without threads. By default images are read by
            threads of this process, and networks are trained one after the other.
        cluster: Address of a Dask scheduler, such as "tcp://host:8786". Its workers must see the data, the output
            folder and the folder of GYRUS_CACHE under the same paths.

    Raises:
        ConfigError: Both are given, or ``jobs`` is below 1.
        GyrusError: The cluster cannot be used.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"The number of jobs must be 1 or more, got {jobs}.")
    if cluster and jobs is not None:
        raise ConfigError("Give either jobs, which are processes of this machine, or a cluster, not both.")
    executor: Executor | None = None
    if cluster:
        executor = Cluster(cluster)
    elif jobs is not None:
        executor = Serial() if jobs == 1 else Processes(jobs)
    mark = _EXECUTOR.set(executor)
    try:
        yield
    finally:
        _EXECUTOR.reset(mark)
        if executor:
            executor.close()


def current_executor() -> Executor:
    """Where tasks run now."""
    return _EXECUTOR.get() or Threads()


def runs_here() -> bool:
    """Whether tasks run in this process, so that nothing has to be pickled."""
    return isinstance(current_executor(), Serial | Threads)


def folder_for_temporary_files() -> Path | None:
    """Where to create temporary files that tasks use; None for the system's folder, which a cluster does not share."""
    if not isinstance(current_executor(), Cluster):
        return None
    make_folder(cache_folder())
    return cache_folder()


def map_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    part: Callable[[Item], Callable[[], Result]] | None = None,
    whole: bool = False,
    ahead: int = _AHEAD,
) -> Generator[Result]:
    """Apply a function to each item, where the user wants it; see :func:`workers`.

    The first error in the order of the items is raised, as it would be here.

    Args:
        function: Thread-safe. For other processes it is pickled with each item, unless ``part`` is given.
        items: What it is applied to.
        part: Makes a call for other processes, with only those data that the item needs.
        whole: Whether each task is a job that uses all cores and the state of its process, such as a training. Such
            tasks run one at a time in each process.
        ahead: Tasks per worker that may have started or finished before the first result is taken; 1 for large results.

    Returns:
        The results in the order of the items. Close it if not all of them are taken, to end what runs.

    Raises:
        GyrusError: A task failed, or its workers died repeatedly.
    """
    tasks = map(part, items) if part and not runs_here() else (partial(function, item) for item in items)
    return current_executor().run(tasks, whole=whole, ahead=ahead)


@dataclass(frozen=True)
class _Conditions:
    """How a worker process runs its tasks.

    Attributes:
        whole: As in :func:`map_tasks`.
        memory: Bytes for reading images of all processes of the machine; None on a cluster, whose workers have their
            own limits.
        processes: Number of processes that share it.
        turn: As in :meth:`gyrus.memory.MemoryBudget.share`.
    """

    whole: bool
    memory: int | None = None
    processes: int = 1
    turn: str = ""


@dataclass(frozen=True)
class _Failure:
    """An error of a task, returned as a value so that all kinds of workers raise it in the same way."""

    error: Exception


@dataclass(frozen=True, repr=False)  # Dask names tasks by their text, which would hold the data
class _Task:
    """A task for a worker process."""

    conditions: _Conditions
    call: Callable[[], Any]

    def __call__(self) -> Any:
        global _busy
        if self.conditions.memory is not None:
            reading_memory.share(self.conditions.memory, self.conditions.processes, Path(self.conditions.turn))
        else:
            _use_memory_of_dask_worker()
        with ExitStack() as stack:
            if self.conditions.whole:
                stack.enter_context(_ONE_AT_A_TIME)
            mark = _EXECUTOR.set(Serial())
            _busy = True
            try:
                if _ended:
                    raise KeyboardInterrupt
                return self.call()
            except (GyrusError, OSError, MemoryError) as error:
                return _Failure(error)
            finally:
                _busy = False
                _EXECUTOR.reset(mark)


_ONE_AT_A_TIME = threading.Lock()
_busy = False
_ended = False


def _in_order(
    submit: Callable[[Callable[[], Any]], Any],
    tasks: Iterable[Callable[[], Any]],
    *,
    window: Callable[[], int],
) -> Generator[Any]:
    """Submit tasks, which gives futures, and yield their results in order.

    What killed processes have lost is submitted again.
    """
    waiting: deque[tuple[Callable[[], Any], Any]] = deque()
    rest = iter(tasks)
    deaths = 0
    try:
        while True:
            while len(waiting) < window() and (task := next(rest, None)):
                waiting.append((task, submit(task)))
            if not waiting:
                return
            try:
                result = waiting[0][1].result()
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > DEATHS:
                    raise _given_up() from error
                waiting = deque((task, submit(task) if _is_lost(future) else future) for task, future in waiting)
                continue
            except Exception as error:
                if type(error).__name__ == "KilledWorker":  # of Dask, which has tried several workers
                    raise _given_up() from error
                raise
            waiting.popleft()
            deaths = 0
            if isinstance(result, _Failure):
                raise result.error
            yield result
    finally:
        for _, future in waiting:
            future.cancel()


def _is_lost(future: Future[Any]) -> bool:
    return not future.done() or future.cancelled() or isinstance(future.exception(), BrokenProcessPool)


def _given_up() -> GyrusError:
    return GyrusError(
        f"A worker process was killed {counted(DEATHS + 1, 'time')} at the same task, perhaps because memory ran out "
        f"({memory_text(available_memory())} available here). Use fewer workers, give each more memory, or set the "
        "environment variable GYRUS_MEMORY to a smaller size, for example 1G."
    )


def _heed_signals() -> None:
    """Let the parent process decide on the end: it gets Ctrl-C, and sends SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, _: object) -> None:
        global _ended
        signal.signal(number, signal.SIG_IGN)
        _ended = True
        if _busy:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def _use_memory_of_dask_worker() -> None:
    """Read images in half of the memory that Dask gives to this worker."""
    from distributed import get_worker

    with suppress(ValueError, AttributeError):
        if limit := get_worker().memory_manager.memory_limit:
            reading_memory.limit(int(limit) // 2)


def _version() -> str:
    from gyrus import __version__

    return f"Gyrus {__version__}"
