"""The training step, the epoch and the state of a training, as a Lightning module."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from gyrus.datasets.torch_dataset import Batch
from gyrus.malloc import FreedMemory
from gyrus.processes import ALONE, Process
from gyrus.training.config import EMA, SWA, NumberLoss, TrainingConfig
from gyrus.training.cuda_graph import GraphedNetwork
from gyrus.training.data_loader import Loader
from gyrus.training.distributed import SharedError
from gyrus.training.global_batch import PartOfBatch, WholeBatch
from gyrus.training.history import History
from gyrus.training.losses import Objective
from gyrus.training.metrics import EpochMetrics, number_scores, validation_scores
from gyrus.training.mixup import Mix, draw_mix, strength
from gyrus.training.optimisers import build_optimiser, set_learning_rates
from gyrus.training.progress import Progress
from gyrus.training.random_state import generator, seed_torch
from gyrus.training.schedules import Moment, first_swa_epoch, learning_rate_factor
from gyrus.training.weight_averaging import WeightAverage

LOSS_INTERVAL = 50
"""Steps between two checks of the loss on a GPU, because each check waits for the device."""

BeforeEpoch = Callable[[int, nn.Module], None]
"""Called with the epoch, from 0, and the model. It must depend on nothing else, so that a resumed training agrees."""

SaveEpoch = Callable[[dict[str, Any]], None]
"""Called with a snapshot after each epoch."""


@runtime_checkable
class FollowsFreezing(Protocol):
    """A strategy of Lightning that must know which weights are trained."""

    def follow_freezing(self) -> None:
        """Called when the model may have other trained weights than before."""


class TrainingModule(LightningModule):
    """A model in training.

    Attributes:
        model: The model that is trained.
        history: The complete epochs. The current epoch is number ``len(history)``, counted from 0.
        loader: The training set.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        config: TrainingConfig,
        *,
        class_weights: np.ndarray | None,
        classes: Sequence[str],
        seed: int,
        progress: Progress,
        save_epoch: SaveEpoch,
        before_epoch: BeforeEpoch | None = None,
        process: Process = ALONE,
        scale: float = 1.0,
        ordered: bool = False,
    ) -> None:
        """Store the arguments.

        Args:
            model: From images float32 (B, C, *spatial) to logits (B, K).
            loader: The training set.
            config: All settings.
            class_weights: float32 (K,) or None.
            classes: The K class names.
            seed: Seed of all random numbers.
            progress: Shows the progress.
            save_epoch: Saves the snapshot.
            before_epoch: Called at the start of every epoch.
            process: This process among those that train together; ``loader`` yields its share of each batch.
            scale: Standard deviation of a number over the training set.
            ordered: Whether the classes are in the order of their stages.
        """
        super().__init__()
        self.model = model
        self.config = config
        self.history = History()
        self._objective = Objective(config, class_weights, scale)
        self._number = config.loss if isinstance(config.loss, NumberLoss) else None
        self._scale = scale
        self.loader = loader
        self._classes = classes
        self._ordered = ordered
        self._seed = seed
        self._progress = progress
        self._save_epoch = save_epoch
        self._before_epoch = before_epoch
        self._process = process
        self._network = GraphedNetwork(model, torch.compile(model) if config.compile else model)
        self._average: WeightAverage | None = None
        self._resumed: dict[str, Any] | None = None
        self._steps = 0
        self._mixing = strength(None, 1, 1)
        self._metrics = EpochMetrics()
        self._val_logits: list[Tensor] = []
        self._val_targets: list[Tensor] = []
        self._val_positions: list[Tensor] = []
        self._val_scores: dict[str, float] = {}
        self._started = 0.0
        self._freed_memory = FreedMemory()

    # State

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "optimiser": self._optimiser.state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
            "history": [dict(row) for row in self.history.rows],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restore a snapshot; optimiser and averages follow when Lightning has moved the model to its device."""
        self.model.load_state_dict(snapshot["model"])
        self.history = History(tuple(snapshot["history"]))
        self._resumed = snapshot

    @property
    def is_over(self) -> bool:
        """Whether the training is complete."""
        stopped = self.history.should_stop(self.config.early_stopping, self.config.monitor)
        return stopped or len(self.history) >= self.config.epochs

    def configure_optimizers(self) -> Optimizer:
        """Called by Lightning when the model is on its device."""
        optimiser = build_optimiser(self.model, self.config.optimiser, scaled=self.config.precision == "16-mixed")
        if self._resumed is not None:
            optimiser.load_state_dict(self._resumed["optimiser"])
        return optimiser

    def on_fit_start(self) -> None:
        """Called by Lightning before the first epoch."""
        if self.config.averaging is not None:
            self._average = WeightAverage(self.model)
        if self._resumed is not None:
            self.trainer.precision_plugin.load_state_dict(self._resumed["precision"])
            if self._average is not None:
                self._average.load_state_dict(self._resumed["average"])
            self._resumed = None

    # Training

    def on_train_epoch_start(self) -> None:
        """Called by Lightning before the first batch is fetched."""
        epoch = len(self.history)
        self.loader.epoch = epoch
        seed_torch(self._seed, epoch)
        self.model.train()
        if self._before_epoch is not None:
            self._before_epoch(epoch, self.model)
            if isinstance(self.trainer.strategy, FollowsFreezing):
                self.trainer.strategy.follow_freezing()
        self._record_passes()
        self._mixing = strength(self.config.mixing, epoch + 1, self.config.epochs)
        self._steps = epoch * self._steps_per_epoch
        self._metrics = EpochMetrics(with_accuracy=self._mixing.probability == 0, number=self._number)
        self._started = time.perf_counter()
        self._progress.begin_epoch(epoch + 1)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of a batch."""
        images = self._in_memory_format(batch.images)
        whole = self._whole_batch(index)
        mix = self._draw_mix((whole.total or len(images), *images.shape[1:]), index)
        loss, logits = self._objective(self._network, self.model, images, batch.targets, mix, whole)
        self._metrics.add(loss, whole.used(logits), whole.used(batch.targets), whole.total)
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Called by Lightning before each optimiser step; sets the learning rate first."""
        moment = Moment(self._steps, self._steps_per_epoch, self.config.epochs)
        set_learning_rates(optimizer, learning_rate_factor(self.config, moment, self.history))
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self._steps += 1
        if self._average is not None and isinstance(self.config.averaging, EMA):
            self._average.update_exponentially(self.model, self.config.averaging)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Called by Lightning, whose own clipping refuses fused optimisers also where no gradient is scaled."""
        if self.config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)

    def on_train_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each batch."""
        if self.device.type == "cpu":
            self._freed_memory.after_step()
        check = self.device.type == "cpu" or self._metrics.batches % LOSS_INTERVAL == 0
        self._progress.advance(self._checked_loss() if check else None)

    def on_train_epoch_end(self) -> None:
        """Called by Lightning after the validation at the end of an epoch."""
        row = {
            "epoch": len(self.history) + 1,
            "lr": max(group["lr"] for group in self._optimiser.param_groups),
            **self._metrics.means(self._sum_over_processes),
            **self._val_scores,
            "seconds": time.perf_counter() - self._started,
        }
        if self._average is not None and self._averages_epoch():
            self._average.update_equally(self.model)
        self.history = self.history.with_row(row)
        self._save_epoch(self.snapshot())
        self._progress.end_epoch(row)
        self.trainer.should_stop = self.is_over

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Called by Lightning before the validation set."""
        self._checked_loss()
        self._val_logits, self._val_targets, self._val_positions = [], [], []
        if self._process.world > 1:  # without synchronised batch norms, each process has its own statistics
            for network in (self.model, self._average.model if self._average else None):
                for buffer in network.buffers() if network else ():
                    distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect the logits of a batch; with EMA, those of the averaged weights."""
        averaged = self._average is not None and isinstance(self.config.averaging, EMA)
        network = self._average.model if self._average is not None and averaged else self._network
        self._val_logits.append(network(self._in_memory_format(batch.images)).float())
        self._val_targets.append(batch.targets)
        self._val_positions.append(batch.positions)

    def on_validation_epoch_end(self) -> None:
        """Called by Lightning after the validation set."""
        logits, targets = self._val_of_all_processes()
        if not np.isfinite(logits).all():
            raise _not_finite("output for the validation set", f"after epoch {len(self.history) + 1}")
        self._val_scores = (
            number_scores(logits, targets, self._number, self._scale)
            if self._number
            else validation_scores(logits, targets, self._classes, ordered=self._ordered)
        )

    # Helpers

    @property
    def _optimiser(self) -> Optimizer:
        return self.trainer.optimizers[0]

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(len(self.loader) / self.config.accumulate)

    def _in_memory_format(self, images: Tensor) -> Tensor:
        # Slices only: for volumes this format halved the speed of 3D ResNets on the CPU.
        if self.config.channels_last and images.ndim == 4:
            return images.to(memory_format=torch.channels_last)
        return images

    def _record_passes(self) -> None:
        """On a GPU: record the passes of the network, unless a step consists of several of them."""
        config = self.config
        one_pass = self._process.world == 1 and config.accumulate == 1 and config.mining is None
        if self.device.type == "cuda" and config.cuda_graphs and one_pass:
            with self.trainer.precision_plugin.forward_context():
                said = self._network.record(lambda: self._in_memory_format(self.loader.example().images))
            if said:
                self._progress.say(said)

    def _averages_epoch(self) -> bool:
        averaging = self.config.averaging
        return isinstance(averaging, SWA) and len(self.history) >= first_swa_epoch(averaging, self.config.epochs)

    def _whole_batch(self, index: int) -> WholeBatch:
        """The batch that this process has a share of."""
        if self._process.world == 1:
            return WholeBatch()
        return PartOfBatch.of_share(
            self.loader.share(index),
            self._process.world,
            self.device,
            sync_batch_norm=self.config.sync_batch_norm,
        )

    def _sum_over_processes(self, own: Tensor) -> Tensor:
        if self._process.world > 1:
            distributed.all_reduce(own)
        return own

    def _val_of_all_processes(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 (N, K) and targets (N,) of the validation set, each image once, in its order."""
        own = tuple(torch.cat(each).cpu() for each in (self._val_positions, self._val_logits, self._val_targets))
        parts: list[Any] = [own] * self._process.world
        if self._process.world > 1:
            distributed.all_gather_object(parts, own)
        positions, logits, targets = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        # A small batch leaves a process without an image of its own, and it repeats one.
        _, first = np.unique(positions, return_index=True)
        return logits[first], targets[first]

    def _draw_mix(self, size: tuple[int, ...], batch: int) -> Mix | None:
        if self._mixing.probability == 0:
            return None
        return draw_mix(self._mixing, size, generator(self._seed, "mixing", len(self.history), batch))

    def _checked_loss(self) -> float:
        """The mean loss of the latest batches.

        Raises:
            SharedError: The loss of a batch is NaN or infinite.
        """
        losses = self._metrics.latest_losses(LOSS_INTERVAL)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            step = self._metrics.batches - len(losses) + int(bad[0]) + 1
            raise _not_finite("training loss", f"in epoch {len(self.history) + 1} at step {step}")
        return float(losses.mean())


def _not_finite(what: str, where: str) -> SharedError:
    return SharedError(
        f"The {what} became NaN or infinite {where}. Try a lower learning rate (training.optimiser.lr), "
        "training.gradient_clip 1.0, a longer warm-up, or precision 32-true, and check the images for extreme values."
    )
