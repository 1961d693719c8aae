"""Every setting of a training, with its range, its default and what it means."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Monitor = Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auc"]
"""A score of the validation set, counted per image at the end of each epoch."""

BestBy = Monitor | Literal["epoch"]
"""What tells the best epoch: a score, or its number, so that the last epoch is taken and nothing is chosen."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    """A frozen part of a config that refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Optimiser(_Section):
    lr: float = Field(1e-3, gt=0, description="Learning rate at its peak; the schedule scales it.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay (L2 penalty; decoupled in adamw).")
    decay_norms_and_biases: bool = Field(True, description="Whether norms, biases and layer scales decay too.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Learning rate of each stage as a share of the next one's; the head has the peak."
    )


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

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, for example 0.9")
        return self


class RMSprop(_Optimiser):
    """RMSprop (Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum.")
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay of the mean of squared gradients.")


Optimiser = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]


class _Warmup(_Section):
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    warmup_start: Share = Field(0.1, description="Where the rise begins, as a share of the peak.")
    every: Literal["step", "epoch"] = Field("step", description="How often the learning rate changes.")


class Constant(_Warmup):
    """The same learning rate throughout, after the warm-up if any."""

    name: Literal["constant"] = "constant"


class Cosine(_Warmup):
    """Linear warm-up, then half a cosine down to the end (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    final_share: Share = Field(0.0, description="Learning rate at the end (eta_min), as a share of the peak.")
    length: float = Field(1.0, gt=0, description="Share of the training after which the end is reached.")


class OneCycle(_Section):
    """Up to the peak and down far below the start, along cosines (Smith and Topin 2018); momentum stays."""

    name: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(0.3, gt=0, lt=1, description="Share of the training until the peak.")
    start_divisor: float = Field(25.0, gt=1, description="The peak divided by the first learning rate.")
    final_divisor: float = Field(1e4, gt=1, description="The first learning rate divided by the last.")
    length: float = Field(1.0, gt=0, description="Share of the training after which the end is reached.")


class Plateau(_Section):
    """Lower the learning rate when a score of the validation set has not improved for a while."""

    name: Literal["plateau"] = "plateau"
    monitor: Monitor = Field("val_loss", description="The score to watch.")
    factor: float = Field(0.5, gt=0, lt=1, description="What the learning rate is multiplied with.")
    patience: int = Field(3, ge=0, description="Epochs without improvement that are put up with.")
    threshold: float = Field(1e-4, ge=0, description="Relative change that counts as an improvement.")
    cooldown: int = Field(0, ge=0, description="Epochs after a reduction that do not count.")
    min_share: Share = Field(0.0, description="Lowest learning rate, as a share of the peak.")


Schedule = Annotated[Constant | Cosine | OneCycle | Plateau, Field(discriminator="name")]

ClassWeights = Literal["none", "balanced", "inverse"] | tuple[Annotated[float, Field(ge=0)], ...]
"""none; balanced: n / (K count); inverse: 1 / count, scaled to sum 1; or one weight a class, in their order."""


class CrossEntropy(_Section):
    """Cross-entropy, with label smoothing (Szegedy et al. 2016) and class weights as options."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each label that is spread over all classes.")
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


class Focal(_Section):
    """Focal loss (Lin et al. 2017): cross-entropy that looks away from what is already right."""

    name: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, description="How strongly; 0 is cross-entropy.")
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


Loss = Annotated[CrossEntropy | Focal, Field(discriminator="name")]


class HardExamples(_Section):
    """Learn from the hardest images of each batch only (Shrivastava et al. 2016)."""

    share: float = Field(0.2, gt=0, le=1, description="Share of each batch that is learnt from; at least one image.")
    passes: Literal[1, 2] = Field(1, description="2: choose by one forward pass, learn from the chosen by another.")


class MixingStrength(_Section):
    """How often and how strongly batches are mixed."""

    probability: Share = Field(1.0, description="Share of the batches that are mixed.")
    mixup_alpha: float = Field(0.8, ge=0, description="MixUp (Zhang et al. 2018): share from Beta(a, a); 0: never.")
    cutmix_alpha: float = Field(1.0, ge=0, description="CutMix (Yun et al. 2019): share from Beta(a, a); 0: never.")


class MixingSchedule(_Section):
    """Explore at full strength, fade, refine at low strength, and end on images as they are."""

    explore_until: Share = Field(0.5, description="Full strength until this share of all epochs.")
    fade_until: Share = Field(0.75, description="Linear fading until here.")
    fade_to: MixingStrength = Field(
        MixingStrength(probability=0.5, mixup_alpha=0.16, cutmix_alpha=0.3), description="Strength when faded."
    )
    refine_until: Share = Field(0.8, description="Low strength until the epoch before this share; none from then on.")
    refine: MixingStrength = Field(
        MixingStrength(probability=0.2, mixup_alpha=0.2, cutmix_alpha=0.3), description="The low strength."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.explore_until <= self.fade_until <= self.refine_until:
            raise ValueError("explore_until, fade_until and refine_until must not fall")
        return self


class Mixing(MixingStrength):
    """MixUp and CutMix, one or the other by the toss of a coin where both are on."""

    first_epoch: int = Field(1, ge=1, description="First epoch, counted from 1, that is mixed.")
    schedule: MixingSchedule | None = Field(None, description="How the strength changes; null: it does not.")


class EMA(_Section):
    """Exponential moving average of the weights: it is what is validated, kept and used."""

    name: Literal["ema"] = "ema"
    decay: float = Field(0.999, ge=0, lt=1, description="Decay a step; lower at first: (1 + n) / (10 + n) at step n.")


class SWA(_Section):
    """Stochastic weight averaging (Izmailov et al. 2018) of the last epochs; kept if it validates as well."""

    name: Literal["swa"] = "swa"
    start: float = Field(0.8, gt=0, lt=1, description="Share of all epochs after which averaging begins.")
    lr_share: Share = Field(0.1, description="Learning rate while averaging, as a share of the peak.")
    anneal_epochs: int = Field(10, ge=1, description="Epochs until that learning rate is reached, along a cosine.")


Averaging = Annotated[EMA | SWA, Field(discriminator="name")]


class EarlyStopping(_Section):
    """Stop when the monitored score has not improved for a while."""

    monitor: Monitor | None = Field(None, description="The score to watch; null: that of the best checkpoint.")
    patience: int = Field(10, ge=1, description="Epochs without improvement after which training stops.")
    min_delta: float = Field(0.0, ge=0, description="An improvement must be larger than this.")


class Tracking(_Section):
    """Where and as what the loggers follow a training."""

    project: str = Field("gyrus", min_length=1, description="MLflow's experiment, W&B's project.")
    mlflow: str | None = Field(
        None, description="Server or database; null: MLFLOW_TRACKING_URI, else mlflow.db beside the run folder."
    )
    wandb: Literal["offline", "online"] = Field("offline", description="online sends what is logged to the service.")
    every: int = Field(0, ge=0, description="Steps between two whose loss is logged; 0: epochs only.")


class TrainingConfig(_Section):
    """How a classifier is trained. The same config, seed, data and machine give the same weights, bit for bit.

    The defaults are meant for small, imbalanced sets. The best epoch is the one with the highest balanced
    accuracy on the validation set: the loss and the plain accuracy follow the largest class, and balanced
    accuracy also leaves out a class that the validation set lacks. It moves in steps, so ties are common on a
    small part; they go to the lower validation loss.
    """

    epochs: int = Field(30, ge=1, description="Passes over the training set.")
    batch_size: int = Field(32, ge=1, description="Images a step. A last batch of one joins the batch before.")
    optimiser: Optimiser = Field(default_factory=AdamW, description="What turns gradients into steps.")
    schedule: Schedule = Field(default_factory=Cosine, description="The learning rate over time.")
    loss: Loss = Field(default_factory=CrossEntropy, description="What is minimised.")
    mining: HardExamples | None = Field(None, description="Learn from the hardest images only; null: from all.")
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="Each image once an epoch; or drawn with replacement, each class as often."
    )
    mixing: Mixing | None = Field(None, description="MixUp and CutMix; null: none.")
    averaging: Averaging | None = Field(None, description="Averages of the weights over time; null: none.")
    early_stopping: EarlyStopping | None = Field(None, description="When to stop early; null: never.")
    monitor: BestBy = Field(
        "val_balanced_accuracy", description="The score by which the best epoch is chosen; epoch: the last one is kept."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Arithmetic of the forward and backward pass; 16-mixed needs a GPU."
    )
    gradient_clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; null: no clipping.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are averaged into one step.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    workers: int = Field(0, ge=0, description="Processes that load batches; 0: the main process.")
    deterministic: bool = Field(True, description="Refuse operations that differ from run to run on the device.")
    channels_last: bool = Field(True, description="Memory order that is faster for 2D convolutions.")
    compile: bool = Field(False, description="Compile the model by torch.compile; slow to start.")
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="Where the training is followed, besides the CSV."
    )
    tracking: Tracking = Field(Tracking(), description="Where and as what the loggers follow it.")

    @model_validator(mode="after")
    def _one_choice_of_images(self) -> Self:
        if self.mining is not None and self.mixing is not None:
            raise ValueError("mining needs images as they are; set mining or mixing to null")
        return self

    @model_validator(mode="after")
    def _a_score_where_one_is_needed(self) -> Self:
        if self.monitor == "epoch" and isinstance(self.averaging, SWA):
            raise ValueError("swa is kept if it validates as well as the best epoch; set monitor to a score, not epoch")
        if self.monitor == "epoch" and self.early_stopping is not None and self.early_stopping.monitor is None:
            raise ValueError("monitor epoch never stops early; set early_stopping.monitor to a score, or it to null")
        return self

    def concerns(self) -> tuple[str, ...]:
        """What is allowed, but rarely meant."""
        if self.sampler == "balanced" and self.loss.class_weights != "none":
            return (
                "Imbalance is corrected twice: by the balanced sampler and by class weights. Rare classes will be "
                "called too often. Set training.sampler to shuffle, or training.loss.class_weights to none.",
            )
        return ()


def _names(union: object) -> tuple[str, ...]:
    """The names of the sections that a discriminated union may be."""
    return tuple(section.model_fields["name"].default for section in get_args(get_args(union)[0]))


OPTIMISER_NAMES = _names(Optimiser)
SCHEDULE_NAMES = _names(Schedule)
LOSS_NAMES = _names(Loss)
