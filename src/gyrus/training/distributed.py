"""Several processes that train one network together: how they start, find each other, and end.

Process 0 runs the command: it alone reads the data, writes files and shows progress. The others only train: they wait
for a network and a data set from process 0, train with it, and wait for the next, until the command is over. torchrun
or SLURM has started them, or process 0 starts them on its own machine.

A socket connects each of them with process 0. The system closes it when a process ends in whatever way, so no process
waits for one that has been killed.
"""

from __future__ import annotations

import hmac
import itertools
import json
import os
import pickle
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed

from gyrus.errors import ConfigError, GyrusError, RunError
from gyrus.processes import LED, Process, launcher
from gyrus.text import counted
from gyrus.training.config import TrainingConfig

WORKER_MODULE = "gyrus.training.worker"

CONNECT_SECONDS = 600.0
"""How long processes wait for each other at the start."""

PATIENCE = timedelta(days=1)
"""How long an operation of all processes may take. It is long, because the end of a process is noticed at once."""

GRACE_SECONDS = 20.0
"""How long a process may take to notice by itself that another has ended, before it is ended too."""

RESUME = "The last complete epoch is kept: continue with gyrus train --resume and the run folder."


class SharedError(RunError):
    """An error that all processes raise after the same step, so that none waits for another."""


class Message(NamedTuple):
    """A message between process 0 and another: "train", "over", "done" or "failed"."""

    kind: str
    content: Mapping[str, Any]


class Channel:
    """Messages to and from another process.

    Attributes:
        closing: Set when the other process has ended, or has announced the end of the command.
    """

    def __init__(self, connected: socket.socket, on_end: Callable[[], None] = lambda: None) -> None:
        """Start to receive.

        Args:
            connected: A socket that is connected with the other process.
            on_end: Called in another thread when that process has ended.
        """
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices a machine that is lost
        for name, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
        self.closing = threading.Event()
        self._connection = Connection(connected.detach())
        self._received: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._on_end = on_end
        threading.Thread(target=self._receive_all, daemon=True).start()

    def send(self, kind: str, **content: Any) -> None:
        """Send a message; one to a process that has ended is lost."""
        with suppress(OSError), self._sending:
            self._connection.send_bytes(pickle.dumps(Message(kind, content)))

    def receive(self, seconds: float | None = None) -> Message:
        """The next message.

        Raises:
            EOFError: The other process has ended.
            TimeoutError: There is none within these seconds.
        """
        try:
            message = self._received.get(timeout=seconds)
        except queue.Empty as error:
            raise TimeoutError from error
        if message is None:
            self._received.put(None)
            raise EOFError
        return message

    def _receive_all(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                message = pickle.loads(self._connection.recv_bytes())  # of a process that knew the token
                self._received.put(message)
                if message.kind == "over":
                    self.closing.set()
        self._received.put(None)
        self.closing.set()
        self._on_end()


class Team:
    """All other processes, as process 0 uses them.

    Attributes:
        process: Process 0.
        outcome: What the others get at the end of the command: ``code``, and what :mod:`gyrus.training.worker` adds.
    """

    def __init__(self, process: Process, host: str, children: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        """Store the arguments; :meth:`connect` completes the team.

        Args:
            process: Process 0.
            host: The name of this machine for the others.
            children: The other processes, in order, if this one has started them.
        """
        self.process = process
        self.outcome: dict[str, Any] = {"code": 1}
        self._host = host
        self._children = children
        self._channels: dict[int, Channel] = {}
        self._lost: list[int] = []
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False
        self._stuck = False

    def connect(self, server: socket.socket, token: str) -> None:
        """Wait for the connections of all other processes.

        Raises:
            RunError: One has ended, or does not connect in time.
        """
        server.settimeout(0.5)
        deadline = time.monotonic() + CONNECT_SECONDS
        while len(self._channels) < self.process.world - 1:
            ended = [number for number, child in enumerate(self._children, start=1) if child.poll() is not None]
            if ended:
                raise RunError(f"{self._name(ended[0])} ended before the training began{self._reason(ended[0])}.")
            if time.monotonic() > deadline:
                raise RunError(
                    f"Only {len(self._channels) + 1} of {self.process.world} processes have started within "
                    f"{CONNECT_SECONDS / 60:.0f} minutes. Start the same command in each of them: with srun or "
                    "torchrun, not in a batch script alone."
                )
            with suppress(TimeoutError, OSError, ValueError, KeyError):
                connected, _ = server.accept()
                connected.settimeout(30)
                with connected.makefile("rb") as lines:
                    hello = json.loads(lines.readline(4096))
                if hmac.compare_digest(str(hello["token"]), token):
                    rank = int(hello["rank"])
                    self._channels[rank] = Channel(connected, lambda rank=rank: self._ended(rank))  # type: ignore[misc]

    @contextmanager
    def training(self, job: bytes, device: str) -> Iterator[None]:
        """Train with all processes in this block.

        Args:
            job: Sent to the others.
            device: The type of the device.

        Raises:
            RunError: Another process has ended, or failed.
        """
        if self._lost:
            raise RunError(self._loss())
        if self._stuck:
            raise RunError("A training process did not end with the training before. Start the command again.")
        store = _store(self._host, 0, is_host=True)
        self._idle.clear()
        try:
            for channel in self._channels.values():
                channel.send("train", host=self._host, port=store.port, device=device, job=job)
            try:
                with process_group(store, self.process, device):
                    yield
            finally:
                self._idle.set()
        except Exception as error:
            reason = None if isinstance(error, GyrusError) else self._failure()
            if reason is None:
                raise
            raise RunError(reason) from error
        self._failure()  # all others have finished before the next training

    def close(self) -> None:
        """Tell the others that the command is over; those that this process has started are ended."""
        self._closed = True
        for channel in self._channels.values():
            channel.send("over", **self.outcome)
        for child in self._children:  # they have nothing more to do
            child.kill()
            child.wait()

    def _failure(self) -> str | None:
        """Why another process has not finished its training, for the user; None if it has."""
        failures = []
        for rank, channel in self._channels.items():
            try:
                report = channel.receive(GRACE_SECONDS)
            except EOFError:
                continue
            except TimeoutError:
                self._stuck = True
                continue
            if report.kind == "failed":
                failures.append((report.content["is_consequence"], rank, report.content["words"]))
        if failures and not min(failures)[0]:
            _, rank, words = min(failures)
            return f"{self._name(rank)} failed: {words}"
        return self._loss() if self._lost else None

    def _ended(self, rank: int) -> None:
        """Called when another process has ended: ends this one if it waits for the other in vain."""
        if self._closed:
            return
        self._lost.append(rank)
        if not self._idle.wait(GRACE_SECONDS):
            _end_at_once(self._loss())

    def _loss(self) -> str:
        rank = self._lost[0]
        return (
            f"{self._name(rank)} ended unexpectedly{self._reason(rank)}; the others were stopped. It may have been "
            f"killed for its memory. {RESUME}"
        )

    def _name(self, rank: int) -> str:
        return f"Training process {rank} (of 0 to {self.process.world - 1})"

    def _reason(self, rank: int) -> str:
        """The signal or the exit code of a process that this one has started."""
        if not self._children:
            return ""
        child = self._children[rank - 1]
        with suppress(subprocess.TimeoutExpired):
            child.wait(2)
        if child.returncode is None:
            return ""
        if child.returncode < 0:
            return f" by signal {signal.Signals(-child.returncode).name}"
        return f" with exit code {child.returncode}"


def planned_processes(config: TrainingConfig, device: str) -> Process:
    """Process 0 among those that will train with this config.

    Args:
        config: The settings.
        device: The type of the device.

    Raises:
        ConfigError: The numbers do not fit this machine, the batch size or what torchrun or SLURM has started.
    """
    process = _team.process if _team else _started_by_gyrus(config, device)
    if process.world == 1:
        return process
    started = config.nodes * config.devices if isinstance(config.devices, int) else 1
    if _team and started not in (1, process.world):
        raise ConfigError(
            f"training.devices is {config.devices} and training.nodes is {config.nodes}, but the launcher has "
            f"started {counted(process.world, 'process', 'processes')}. Leave out both settings: the number of "
            "processes is that of torchrun or srun."
        )
    if config.batch_size < process.world:
        raise ConfigError(
            f"training.batch_size is {config.batch_size}, which cannot be divided among {process.world} processes: it "
            "counts the images of all processes together. Use a larger batch or fewer processes."
        )
    if config.compile:
        raise ConfigError(
            f"training.compile is not available with {process.world} processes. Set training.compile to false, or "
            "training.devices to 1."
        )
    return process


def _started_by_gyrus(config: TrainingConfig, device: str) -> Process:
    if config.nodes > 1:
        raise ConfigError(
            f"training.nodes is {config.nodes}, but Gyrus starts processes on one machine only. Start the command on "
            "all machines with srun or torchrun."
        )
    devices = torch.cuda.device_count() if device == "cuda" else 1
    count = devices if config.devices == "auto" else config.devices
    if count > 1 and device == "mps":
        raise ConfigError("training.devices must be 1 on MPS.")
    if device == "cuda" and count > devices:
        raise ConfigError(f"training.devices is {count}, but this machine has {counted(devices, 'GPU')}.")
    return Process(0, count, 0, count)


def device_of(process: Process, device: str) -> torch.device:
    """The device of a process: each process of a machine has its own GPU."""
    if device != "cuda" or process.world == 1:
        return torch.device(device)
    # With one GPU per task, SLURM shows each process its own GPU only.
    return torch.device(device, process.local_rank % torch.cuda.device_count())


@contextmanager
def team_of(process: Process, device: str) -> Iterator[Team | None]:
    """The other processes of a training: those of the whole command, or new ones for this block, or None.

    Args:
        process: The result of :func:`planned_processes`.
        device: The type of the device.
    """
    if process.world == 1 or _team:
        yield _team
        return
    with _started_here(process, device) as team:
        yield team


@contextmanager
def leading(process: Process) -> Iterator[Team]:
    """In process 0, lead the processes that torchrun or SLURM has started, for the block.

    Raises:
        RunError: Not all of them connect.
    """
    global _team
    host, store = _rendezvous(process)
    token = secrets.token_hex()
    with socket.create_server(("", 0)) as server:
        store.set(_meeting(), json.dumps({"port": server.getsockname()[1], "token": token}))
        team = Team(process, host)
        try:
            team.connect(server, token)
            _team = team
            os.environ[LED] = "1"
            yield team
        finally:
            _team = None
            os.environ.pop(LED, None)
            team.close()


_team: Team | None = None
"""The team of the whole command, in process 0 of torchrun or SLURM."""


def follow(process: Process, train: Callable[[bytes, Process], None]) -> Mapping[str, Any]:
    """In another process of torchrun or SLURM: train with process 0 until its command is over.

    Args:
        process: This process.
        train: Trains with process 0 from what it has sent.

    Returns:
        The ``outcome`` of the team.

    Raises:
        RunError: Process 0 has ended.
    """
    host, store = _rendezvous(process)
    try:
        found = json.loads(store.get(_meeting()))
    except RuntimeError as error:
        raise RunError(f"Process 0 has not started within {CONNECT_SECONDS / 60:.0f} minutes.") from error
    return serve((host, found["port"]), found["token"], process, train)


def serve(
    address: tuple[str, int], token: str, process: Process, train: Callable[[bytes, Process], None]
) -> Mapping[str, Any]:
    """Connect with process 0, and train with it until its command is over; see :func:`follow`."""
    connected = socket.create_connection(address, timeout=CONNECT_SECONDS)
    connected.sendall(json.dumps({"rank": process.rank, "token": token}).encode() + b"\n")
    channel, idle = Channel(connected), threading.Event()
    idle.set()

    def end_in_vain() -> None:
        channel.closing.wait()
        if not idle.wait(GRACE_SECONDS):
            os._exit(2)

    threading.Thread(target=end_in_vain, daemon=True).start()
    while True:
        try:
            message = channel.receive()
        except EOFError as error:
            raise RunError(f"Process 0 of the training ended unexpectedly. {RESUME}") from error
        if message.kind == "over":
            return message.content
        idle.clear()
        try:
            about = message.content
            store = _store(about["host"], about["port"], is_host=False)
            with process_group(store, process, about["device"]):
                train(about["job"], process)
        except SharedError:
            channel.send("done")
        except Exception as error:
            words = str(error) if isinstance(error, GyrusError) else f"{type(error).__name__}: {error}"
            channel.send("failed", words=words, is_consequence=_is_lost_connection(error))
            os._exit(2)  # closes all connections: the others would wait for this process
        else:
            channel.send("done")
        idle.set()


@contextmanager
def process_group(store: distributed.Store, process: Process, device: str) -> Iterator[None]:
    """Operations over all processes are possible in this block: of tensors on the CPU, and on the GPU if it is one."""
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=store,
        rank=process.rank,
        world_size=process.world,
        timeout=PATIENCE,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def _started_here(process: Process, device: str) -> Iterator[Team]:
    """Start the other processes on this machine, and share its cores among all.

    Each runs a module of Gyrus and gets everything from this process, so that it does not matter whether this is a
    script, a notebook or the command line.
    """
    threads = torch.get_num_threads()
    each = threads if device != "cpu" else max(1, threads // process.world)
    token = secrets.token_hex()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    children: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        team = Team(process, "127.0.0.1", children)
        try:
            for rank in range(1, process.world):
                about = {
                    "process": asdict(Process(rank, process.world, rank, process.world)),
                    "address": server.getsockname(),
                    "token": token,
                    "threads": each,
                }
                child = subprocess.Popen(
                    # Process 0 shows the warnings. Signals reach it alone: it decides when all stop.
                    [sys.executable, "-W", "ignore", "-m", WORKER_MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
                children.append(child)
                assert child.stdin is not None
                with suppress(BrokenPipeError), child.stdin:
                    child.stdin.write(json.dumps(about).encode())
            team.connect(server, token)
            torch.set_num_threads(each)
            yield team
        finally:
            torch.set_num_threads(threads)
            team.close()


def _rendezvous(process: Process) -> tuple[str, distributed.Store]:
    """The name of the machine of process 0, and a store that all processes of torchrun or SLURM share."""
    global _shared
    if launcher() == "torchrun":
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        is_host = process.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    else:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST") or "127.0.0.1"
        host = os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
        job, step = (int(os.environ.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        port = int(os.environ.get("MASTER_PORT") or 15000 + (job * 7 + step) % 10000)
        is_host = process.rank == 0
    if _shared is None:
        try:
            _shared = _store(host, port, is_host=is_host)
        except RuntimeError as error:
            hint = "Set MASTER_PORT to a free port." if is_host else "It may not have started."
            raise RunError(f"Cannot reach process 0 of the training at {host}:{port}. {hint}") from error
    return host, _shared


_shared: distributed.Store | None = None
_meetings = itertools.count()


def _meeting() -> str:
    """The name under which process 0 announces itself: one for each command of a script, and for each restart."""
    return f"gyrus/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_meetings)}"


def _store(host: str, port: int, *, is_host: bool) -> distributed.TCPStore:
    seconds = timedelta(seconds=CONNECT_SECONDS)
    return distributed.TCPStore(host, port, None, is_host, seconds, wait_for_workers=False)


def _is_lost_connection(error: Exception) -> bool:
    """Whether an error may come from the end of another process."""
    return isinstance(error, distributed.DistError) or any(
        name in str(error) for name in ("gloo", "NCCL", "Connection closed", "Connection reset")
    )


def _end_at_once(words: str) -> None:
    """End this process, which waits for another in vain; no exception could reach it."""
    with suppress(OSError):
        sys.stderr.write(f"Error: {words}\n")
        sys.stderr.flush()
    os._exit(2)
