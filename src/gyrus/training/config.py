"""Every setting of a training, with its range, its default and what it means."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Monitor = Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auc"]
"""A score of the validation part, counted per image at the end of each epoch."""


class _Section(BaseModel):
    """A frozen part of a config that refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Optimiser(_Section):
    lr: float = Field(1e-3, gt=0, description="Learning rate at its peak; the schedule scales it.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay (L2 penalty; decoupled in adamw).")


class _Betas(_Optimiser):
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the mean of squared gradients.")


class Adam(_Betas):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"


class AdamW(_Betas):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")


class SGD(_Optimiser):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(0.01, gt=0, description="Learning rate at its peak; the schedule scales it.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    nesterov: bool = Field(False, description="Nesterov's form of momentum; needs momentum above 0.")


class RMSprop(_Optimiser):
    """RMSprop (Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum.")
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay of the mean of squared gradients.")


Optimiser = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]


class _Schedule(_Section):
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    warmup_start: float = Field(0.1, ge=0, le=1, description="Where the rise begins, as a share of the peak.")


class Constant(_Schedule):
    """The same learning rate throughout, after the warm-up if any."""

    name: Literal["constant"] = "constant"


class Cosine(_Schedule):
    """Linear warm-up, then half a cosine down to the end (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    final_share: float = Field(0.0, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")
    every: Literal["step", "epoch"] = Field("step", description="How often the learning rate changes.")


Schedule = Annotated[Constant | Cosine, Field(discriminator="name")]


class EarlyStopping(_Section):
    """Stop when the monitored score has not improved for a while."""

    monitor: Monitor | None = Field(None, description="The score to watch; null: that of the best checkpoint.")
    patience: int = Field(10, ge=1, description="Epochs without improvement after which training stops.")
    min_delta: float = Field(0.0, ge=0, description="An improvement must be larger than this.")


class TrainingConfig(_Section):
    """How a classifier is trained. The same config, seed, data and machine give the same weights, bit for bit.

    The defaults are meant for small, imbalanced sets. The best epoch is the one with the highest balanced
    accuracy on the validation part: the loss and the plain accuracy follow the largest class, and balanced
    accuracy also leaves out a class that the validation part lacks. It moves in steps, so ties are common on a
    small part; they go to the lower validation loss.
    """

    epochs: int = Field(30, ge=1, description="Passes over the training part.")
    batch_size: int = Field(32, ge=1, description="Images a step. A last batch of one joins the batch before.")
    optimiser: Optimiser = Field(default_factory=AdamW, description="What turns gradients into steps.")
    schedule: Schedule = Field(default_factory=Cosine, description="The learning rate over time.")
    sampler: Literal["shuffle"] = Field("shuffle", description="The order of images within an epoch.")
    early_stopping: EarlyStopping | None = Field(None, description="When to stop early; null: never.")
    monitor: Monitor = Field("val_balanced_accuracy", description="The score by which the best epoch is chosen.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Arithmetic of the forward and backward pass; 16-mixed needs a GPU."
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; null: no clipping.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are averaged into one step.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    workers: int = Field(0, ge=0, description="Processes that load batches; 0: the main process.")
    deterministic: bool = Field(True, description="Refuse operations that differ from run to run on the device.")
    channels_last: bool = Field(True, description="Memory order that is faster for convolutions; same results.")
    compile: bool = Field(False, description="Compile the model by torch.compile; slow to start.")
