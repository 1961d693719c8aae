"""Lightning's trainer, configured so that users never see it.

Ctrl-C, SIGTERM and SIGHUP end it after the current batch.
"""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from gyrus.processes import ALONE, Process
from gyrus.training.data_loader import Loader
from gyrus.training.distributed import SharedError, device_of
from gyrus.training.lightning_module import TrainingModule

NOISE = (
    ".*isinstance\\(treespec, LeafSpec\\).* is deprecated.*",
    ".*does not have many workers.*",
    ".*eval mode at the start of training.*",
    ".*available but not used.*",
)
"""Warnings about Lightning's own code, or about choices that are intended: the config names the device."""

NOISE_OF_SEVERAL = (
    ".*broadcast_buffers.* is deprecated.*",
    # Weights of one input channel have the same order in both memory formats, with other strides.
    "Grad strides do not match bucket view strides",
)
"""Warnings of a training by several processes."""


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class InterruptedTraining(Exception):  # noqa: N818, it signals an event and not an error
    """A signal requested the end of the training; the current epoch is discarded."""


class Interruption(Callback):
    """Ends the training after the current batch when a signal arrives; a second signal has its previous effect.

    Of several processes all end after the same batch, whichever of them the signal reaches.
    """

    def __init__(self, process: Process = ALONE) -> None:
        """Store the argument.

        Args:
            process: This process among those that train together.
        """
        self._process = process
        self._requested = False
        self._asked: tuple[torch.Tensor, distributed.Work] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Called by Lightning after it has installed its own signal handlers, which these replace."""
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # not under nohup
            self._before = {number: signal.signal(number, self._request) for number in heeded}

    def on_train_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each training batch."""
        if self._process.world == 1:
            self._stop_if_requested()
            return
        # The answer of all processes is read one batch later, so that none waits for it.
        if self._asked:
            requested, work = self._asked
            work.wait()
            if requested:
                raise InterruptedTraining
        requested = torch.tensor(int(self._requested))
        self._asked = requested, distributed.all_reduce(requested, distributed.ReduceOp.MAX, async_op=True)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each validation batch."""
        if self._process.world == 1:
            self._stop_if_requested()

    def _request(self, *_: Any) -> None:
        self._requested = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _stop_if_requested(self) -> None:
        if self._requested:
            raise InterruptedTraining


class OneProcessOfMany(ClusterEnvironment):
    """Tells Lightning the place of this process; Gyrus has started and connected all of them."""

    main_address = "127.0.0.1"
    main_port = 0
    creates_processes_externally = True

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    @staticmethod
    def detect() -> bool:
        """Never chosen by Lightning."""
        return False

    def world_size(self) -> int:
        """The number of processes."""
        return self._process.world

    def global_rank(self) -> int:
        """The number of this process."""
        return self._process.rank

    def local_rank(self) -> int:
        """Its number on its machine."""
        return self._process.local_rank

    def node_rank(self) -> int:
        """Not used."""
        return 0

    def set_world_size(self, size: int) -> None:
        """It is known already."""

    def set_global_rank(self, rank: int) -> None:
        """It is known already."""


class DataParallel(DDPStrategy):
    """Averages the gradients of all processes; also where weights are frozen or unfrozen during the training."""

    def __init__(self, process: Process, device: str, *, sync_batch_norm: bool) -> None:
        """Store the arguments.

        Args:
            process: This process.
            device: The type of its device.
            sync_batch_norm: Whether all processes have the same statistics anyway.
        """
        super().__init__(
            parallel_devices=[device_of(process, device)],
            cluster_environment=OneProcessOfMany(process),
            broadcast_buffers=not sync_batch_norm,
            gradient_as_bucket_view=True,
        )
        self._trained: list[bool] = []

    @property
    def root_device(self) -> torch.device:
        """The one device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[0]

    def _configure_launcher(self) -> None:
        """The processes have been started."""

    def configure_ddp(self) -> None:
        """Called by Lightning before the training."""
        assert self.lightning_module is not None
        self._trained = [parameter.requires_grad for parameter in self.lightning_module.parameters()]
        super().configure_ddp()

    def follow_freezing(self) -> None:
        """Average the gradients of the weights that are trained now: PyTorch takes note of them once."""
        module = self.lightning_module
        assert module is not None
        if self._trained != [parameter.requires_grad for parameter in module.parameters()]:
            module.zero_grad(set_to_none=True)
            self.model = module
            self.configure_ddp()

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Validate without an exchange between processes."""
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)


def run_epochs(
    module: TrainingModule, train: Loader, val: Loader, device: str, folder: Path, process: Process = ALONE
) -> bool:
    """Train the remaining epochs. Returns whether a signal requested the end.

    Raises:
        SharedError: A loss is not finite, or the device has no deterministic implementation of an operation.
    """
    with _quiet():
        trainer = _trainer(module, device, folder, process)
        try:
            trainer.fit(module, train, val)
        except (InterruptedTraining, SystemExit):
            # Lightning turns a Ctrl-C or SIGTERM that arrives before the first batch into SystemExit.
            return True
        except RuntimeError as error:
            if "deterministic" in str(error):
                raise SharedError(
                    f"This device has no deterministic implementation of an operation of the model: {error} "
                    "Set training.deterministic to false; repeated runs then differ slightly."
                ) from error
            raise
    return False


def _trainer(module: TrainingModule, device: str, folder: Path, process: Process) -> Trainer:
    config = module.config  # nothing is auto any more
    strategy: Any = {
        # One process on one device, also on a cluster.
        "plugins": [LightningEnvironment()]
    }
    if process.world > 1:
        strategy = {"strategy": DataParallel(process, device, sync_batch_norm=config.sync_batch_norm)}
    return Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=config.precision,  # type: ignore[arg-type]
        max_epochs=config.epochs - len(module.history),
        gradient_clip_val=config.gradient_clip,
        accumulate_grad_batches=config.accumulate,
        deterministic=config.deterministic,  # type: ignore[arg-type]
        callbacks=[Interruption(process)],
        **strategy,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of Lightning about itself; its other warnings are shown."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in (*NOISE, *NOISE_OF_SEVERAL):
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
