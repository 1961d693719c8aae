"""The step, the epoch and the state of a training, in Lightning's form."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from gyrus.data.dataset import Batch
from gyrus.errors import RunError
from gyrus.training.config import TrainingConfig
from gyrus.training.history import History
from gyrus.training.loading import Loader
from gyrus.training.optimisers import build_optimiser, set_learning_rates
from gyrus.training.progress import Progress
from gyrus.training.randomness import seed_torch
from gyrus.training.schedules import factor
from gyrus.training.scores import validation_scores

HEARTBEAT = 50
"""Steps between two looks at the loss on a GPU, because each look waits for the device."""

MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}

BeforeEpoch = Callable[[int, nn.Module], None]
"""Called with the epoch, from 0, and the model. It must depend on nothing else, so that a resumed training agrees."""


class TrainingModule(LightningModule):
    """A model in training.

    Attributes:
        model: The model that is trained.
        history: The epochs that are over. The epoch in progress is number ``len(history)``, counted from 0.
        step_of_epoch: Optimiser steps made in the epoch in progress.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        config: TrainingConfig,
        *,
        classes: Sequence[str],
        seed: int,
        progress: Progress,
        epoch_over: Callable[[TrainingModule], None],
        before_epoch: BeforeEpoch | None = None,
    ) -> None:
        """Store the arguments.

        Args:
            model: Images float32 (B, C, *spatial) in, logits (B, K) out.
            loader: The training part.
            config: All settings.
            classes: The K class names.
            seed: Of everything that is random.
            progress: Is told how it goes.
            epoch_over: Called when the history has a new row.
            before_epoch: Called at the start of every epoch.
        """
        super().__init__()
        self.model = model
        self.config = config
        self.history = History()
        self.step_of_epoch = 0
        self._loader = loader
        self._classes = classes
        self._seed = seed
        self._progress = progress
        self._epoch_over = epoch_over
        self._before_epoch = before_epoch
        self._forward: Callable[[Tensor], Tensor] = torch.compile(model) if config.compile else model
        self._resumed: dict[str, Any] | None = None
        self._sums = EpochSums()
        self._val_logits: list[Tensor] = []
        self._val_targets: list[Tensor] = []
        self._val_scores: dict[str, float] = {}
        self._started = 0.0

    # State

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimizers(use_pl_optimizer=False).state_dict(),  # type: ignore[union-attr]
            "precision": self.trainer.precision_plugin.state_dict(),
            "history": [dict(row) for row in self.history.rows],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot; the optimiser follows when Lightning has made it."""
        self.model.load_state_dict(snapshot["model"])
        self.history = History(tuple(snapshot["history"]))
        self._resumed = snapshot

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        stopped = self.history.should_stop(self.config.early_stopping, self.config.monitor)
        return stopped or len(self.history) >= self.config.epochs

    def configure_optimizers(self) -> Optimizer:
        """Called by Lightning when the model is on its device."""
        optimiser = build_optimiser(self.model, self.config.optimiser)
        if self._resumed is not None:
            optimiser.load_state_dict(self._resumed["optimiser"])
        return optimiser

    def on_fit_start(self) -> None:
        """Called by Lightning before the first epoch."""
        if self._resumed is not None:
            self.trainer.precision_plugin.load_state_dict(self._resumed["precision"])
            self._resumed = None

    # Training

    def on_train_epoch_start(self) -> None:
        """Called by Lightning before the first batch is fetched."""
        epoch = len(self.history)
        self._loader.epoch = epoch
        seed_torch(self._seed, epoch)
        self.model.train()
        if self._before_epoch is not None:
            self._before_epoch(epoch, self.model)
        self.step_of_epoch = 0
        self._sums = EpochSums()
        self._started = time.perf_counter()
        self._progress.begin_epoch(epoch + 1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of a batch."""
        logits = self._logits(batch.images)
        loss = functional.cross_entropy(logits, batch.targets)
        self._sums.add(loss, logits, batch.targets)
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Called by Lightning when gradients are to become a step; sets the learning rate first."""
        time_in_epochs = len(self.history) + self.step_of_epoch / self._steps_per_epoch
        set_learning_rates(optimizer, factor(self.config.schedule, time_in_epochs, self.config.epochs))
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.step_of_epoch += 1

    def on_train_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each batch."""
        looks = self.device.type == "cpu" or self._sums.batches % HEARTBEAT == 0
        self._progress.advance(self._checked_loss() if looks else None)

    def on_train_epoch_end(self) -> None:
        """Called by Lightning after the validation at the end of the epoch."""
        row = {
            "epoch": len(self.history) + 1,
            "lr": max(group["lr"] for group in self.optimizers(use_pl_optimizer=False).param_groups),  # type: ignore[union-attr]
            **self._sums.means(),
            **self._val_scores,
            "seconds": time.perf_counter() - self._started,
        }
        self.history = self.history.with_row(row)
        self._progress.end_epoch(row)
        self._epoch_over(self)
        self.trainer.should_stop = self.is_over

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Called by Lightning before the validation part."""
        self._val_logits, self._val_targets = [], []

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect the logits of a batch."""
        self._val_logits.append(self._logits(batch.images).float())
        self._val_targets.append(batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Called by Lightning after the validation part."""
        self._checked_loss()
        logits = torch.cat(self._val_logits).cpu().numpy()
        if not np.isfinite(logits).all():
            raise _not_finite("output for the validation part", f"after epoch {len(self.history) + 1}")
        targets = torch.cat(self._val_targets).cpu().numpy()
        self._val_scores = validation_scores(logits, targets, self._classes)

    # Parts

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(len(self._loader) / self.config.accumulate)

    def _logits(self, images: Tensor) -> Tensor:
        if self.config.channels_last and images.ndim in MEMORY_FORMATS:
            images = images.to(memory_format=MEMORY_FORMATS[images.ndim])
        return self._forward(images)

    def _checked_loss(self) -> float:
        """The mean loss of the latest batches.

        Raises:
            RunError: The loss of a batch is NaN or infinite.
        """
        losses = self._sums.latest_losses(HEARTBEAT)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            step = self._sums.batches - len(losses) + int(bad[0]) + 1
            raise _not_finite("training loss", f"in epoch {len(self.history) + 1} at step {step}")
        return float(losses.mean())


class EpochSums:
    """Losses and hits of an epoch, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._sizes: list[int] = []

    @property
    def batches(self) -> int:
        """Batches so far."""
        return len(self._sizes)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        self._losses.append(loss.detach())
        self._hits.append((logits.detach().argmax(dim=1) == targets).sum())
        self._sizes.append(len(targets))

    def latest_losses(self, count: int) -> np.ndarray:
        """The losses of the latest ``count`` batches, float64."""
        return torch.stack(self._losses[-count:]).double().cpu().numpy()

    def means(self) -> dict[str, float]:
        """Loss and accuracy, each image counting once."""
        sizes = np.array(self._sizes)
        losses = self.latest_losses(self.batches)
        return {
            "train_loss": float((losses * sizes).sum() / sizes.sum()),
            "train_accuracy": int(torch.stack(self._hits).sum()) / int(sizes.sum()),
        }


def _not_finite(what: str, where: str) -> RunError:
    return RunError(
        f"The {what} became NaN or infinite {where}. Try a lower learning rate (training.optimiser.lr), "
        "training.gradient_clip 1.0, a longer warm-up, or precision 32-true, and look at the images for odd values."
    )
