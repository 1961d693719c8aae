"""Every setting of a training: range, default and meaning."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from gyrus.configuration import Section

Monitor = Literal[
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_macro_f1",
    "val_auc",
    "val_kappa",
    "val_stage_error",
    "val_concordance",
    "val_mae",
    "val_rmse",
    "val_r2",
    "val_pearson",
]
"""A score of the validation set, computed per image at the end of each epoch."""

NUMBER_MONITORS = frozenset({"val_loss", "val_mae", "val_rmse", "val_r2", "val_pearson"})
"""The scores where a number is predicted; all others are those of classes."""

ORDERED_MONITORS = frozenset({"val_kappa", "val_stage_error", "val_concordance"})
"""The scores that only ordered classes have."""

LOWER_IS_BETTER = frozenset({"val_loss", "val_stage_error", "val_mae", "val_rmse"})

BestBy = Monitor | Literal["epoch"]
"""How the best epoch is selected: by a score, or by its number, which keeps the last epoch."""

MAY_CHANGE = frozenset(
    {"workers", "device", "devices", "nodes", "sync_batch_norm", "cuda_graphs", "check_memory", "loggers", "tracking"}
)
"""Settings that may change when a training is resumed."""

AUTOMATIC = ("precision", "deterministic")
"""Settings that may be ``auto``: chosen for the device when a training begins, and kept when it is resumed."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Optimiser(Section):
    lr: float = Field(1e-3, gt=0, description="Peak learning rate; scaled by the schedule.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay (L2 penalty; decoupled in adamw).")
    decay_norms_and_biases: bool = Field(True, description="Weight decay of norms, biases and layer scales too.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Learning rate of each stage as a fraction of the next; the head has the peak."
    )


class _Betas(_Optimiser):
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the running mean of gradients.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the running mean of squared gradients.")


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
    lr: float = Field(0.01, gt=0, description="Peak learning rate; scaled by the schedule.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    nesterov: bool = Field(False, description="Nesterov momentum; needs momentum above 0.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, for example 0.9")
        return self


class RMSprop(_Optimiser):
    """RMSprop (Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum.")
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay of the running mean of squared gradients.")


Optimiser = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]


class _Warmup(Section):
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    warmup_start: Fraction = Field(0.1, description="Initial learning rate, as a fraction of the peak.")
    every: Literal["step", "epoch"] = Field("step", description="How often the learning rate changes.")


class Constant(_Warmup):
    """Constant learning rate, after an optional warm-up."""

    name: Literal["constant"] = "constant"


class Cosine(_Warmup):
    """Linear warm-up, then cosine annealing (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs over which the learning rate rises linearly.")
    final_share: Fraction = Field(0.0, description="Final learning rate (eta_min), as a fraction of the peak.")
    length: float = Field(1.0, gt=0, description="Fraction of the training after which the final rate is reached.")


class OneCycle(Section):
    """Rise to the peak and fall far below the start, along cosines (Smith and Topin 2018); constant momentum."""

    name: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(0.3, gt=0, lt=1, description="Fraction of the training until the peak.")
    start_divisor: float = Field(25.0, gt=1, description="Peak divided by the initial learning rate.")
    final_divisor: float = Field(1e4, gt=1, description="Initial divided by the final learning rate.")
    length: float = Field(1.0, gt=0, description="Fraction of the training after which the final rate is reached.")


class Plateau(Section):
    """Reduce the learning rate when a score of the validation set stops improving."""

    name: Literal["plateau"] = "plateau"
    monitor: Monitor = Field("val_loss", description="The monitored score.")
    factor: float = Field(0.5, gt=0, lt=1, description="Factor of the reduction.")
    patience: int = Field(3, ge=0, description="Epochs without improvement before a reduction.")
    threshold: float = Field(1e-4, ge=0, description="Minimum relative improvement.")
    cooldown: int = Field(0, ge=0, description="Epochs after a reduction that are not counted.")
    min_share: Fraction = Field(0.0, description="Minimum learning rate, as a fraction of the peak.")


Schedule = Annotated[Constant | Cosine | OneCycle | Plateau, Field(discriminator="name")]

ClassWeights = Literal["none", "balanced", "inverse"] | tuple[Annotated[float, Field(ge=0)], ...]
"""none; balanced: n / (K count); inverse: 1 / count, scaled to sum 1; or one weight per class, in their order."""


class CrossEntropy(Section):
    """Cross-entropy with optional label smoothing (Szegedy et al. 2016) and class weights."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Fraction of each label spread over all classes.")
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


class Focal(Section):
    """Focal loss (Lin et al. 2017): cross-entropy with less weight on images that are already classified well."""

    name: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, description="Focusing parameter; 0 is cross-entropy.")
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


class CumulativeLink(Section):
    """Likelihood of proportional odds (McCullagh 1980), for ordered classes.

    The last layer computes one score and thresholds between the classes.
    """

    name: Literal["cumulative_link"] = "cumulative_link"
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


class Corn(Section):
    """Conditional ordinal regression (Shi, Cao and Raschka 2023), for ordered classes.

    The last layer computes the probability of being above each class, given being above the one below it.
    """

    name: Literal["corn"] = "corn"
    class_weights: ClassWeights = Field("none", description="Weight of each class: none, balanced, inverse, or a list.")


class NumberLoss(Section):
    """A loss of a number. Errors are in standard deviations of the number over the training set."""

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The levels of the quantiles that the network predicts; none if it predicts one number."""
        return ()

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return 1

    @property
    def point(self) -> int:
        """Which of them is the prediction."""
        return 0


class L2(NumberLoss):
    """Squared error; the prediction is the mean."""

    name: Literal["l2"] = "l2"


class L1(NumberLoss):
    """Absolute error; the prediction is the median."""

    name: Literal["l1"] = "l1"


class Huber(NumberLoss):
    """Squared error up to ``delta``, absolute error beyond (Huber 1964)."""

    name: Literal["huber"] = "huber"
    delta: float = Field(1.0, gt=0, description="Where the loss becomes linear, in standard deviations.")


class Quantile(NumberLoss):
    """Pinball loss of several quantiles (Koenker and Bassett 1978); the prediction is the median."""

    name: Literal["quantile"] = "quantile"
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.05, 0.5, 0.95), description="Levels of the quantiles, ascending; 0.5, the prediction, is one of them."
    )

    @model_validator(mode="after")
    def _around_the_median(self) -> Self:
        if 0.5 not in self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must ascend and contain 0.5, for example [0.05, 0.5, 0.95]")
        return self

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The levels."""
        return self.levels

    @property
    def outputs(self) -> int:
        """Outputs of the network: one per level."""
        return len(self.levels)

    @property
    def point(self) -> int:
        """Which of them is the median."""
        return self.levels.index(0.5)


ORDERED_LOSSES = frozenset({"cumulative_link", "corn"})
"""The losses that need ordered classes."""

Loss = Annotated[CrossEntropy | Focal | CumulativeLink | Corn | L2 | L1 | Huber | Quantile, Field(discriminator="name")]


class HardExamples(Section):
    """Train only on the hardest images of each batch (Shrivastava et al. 2016)."""

    share: float = Field(0.2, gt=0, le=1, description="Fraction of each batch that is used; at least one image.")
    passes: Literal[1, 2] = Field(1, description="2: select images by one forward pass, train on them with another.")


class MixingStrength(Section):
    """How often and how strongly batches are mixed."""

    probability: Fraction = Field(1.0, description="Fraction of batches that are mixed.")
    mixup_alpha: float = Field(0.8, ge=0, description="MixUp (Zhang et al. 2018): fraction from Beta(a, a); 0: off.")
    cutmix_alpha: float = Field(1.0, ge=0, description="CutMix (Yun et al. 2019): fraction from Beta(a, a); 0: off.")


class MixingSchedule(Section):
    """Full strength, linear decrease, low strength, and unmixed images at the end."""

    explore_until: Fraction = Field(0.5, description="Full strength until this fraction of all epochs.")
    fade_until: Fraction = Field(0.75, description="Linear decrease until this fraction.")
    fade_to: MixingStrength = Field(
        MixingStrength(probability=0.5, mixup_alpha=0.16, cutmix_alpha=0.3), description="Strength after the decrease."
    )
    refine_until: Fraction = Field(0.8, description="Low strength until the epoch before this; none afterwards.")
    refine: MixingStrength = Field(
        MixingStrength(probability=0.2, mixup_alpha=0.2, cutmix_alpha=0.3), description="The low strength."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.explore_until <= self.fade_until <= self.refine_until:
            raise ValueError("explore_until, fade_until and refine_until must be in ascending order")
        return self


class Mixing(MixingStrength):
    """MixUp and CutMix; each with probability one half if both are on."""

    first_epoch: int = Field(1, ge=1, description="First mixed epoch, counted from 1.")
    schedule: MixingSchedule | None = Field(None, description="How the strength changes over time; null: constant.")


class EMA(Section):
    """Exponential moving average of the weights, which is validated, saved and used."""

    name: Literal["ema"] = "ema"
    decay: float = Field(0.999, ge=0, lt=1, description="Decay per step; lower at first: (1 + n) / (10 + n) at step n.")


class SWA(Section):
    """Stochastic weight averaging (Izmailov et al. 2018) of the last epochs; used if its score is at least as good."""

    name: Literal["swa"] = "swa"
    start: float = Field(0.8, gt=0, lt=1, description="Fraction of all epochs after which averaging starts.")
    lr_share: Fraction = Field(0.1, description="Learning rate while averaging, as a fraction of the peak.")
    anneal_epochs: int = Field(10, ge=1, description="Epochs of cosine annealing to that learning rate.")


Averaging = Annotated[EMA | SWA, Field(discriminator="name")]


class EarlyStopping(Section):
    """Stop when the monitored score stops improving."""

    monitor: Monitor | None = Field(None, description="The monitored score; null: that of the best checkpoint.")
    patience: int = Field(10, ge=1, description="Epochs without improvement after which training stops.")
    min_delta: float = Field(0.0, ge=0, description="Minimum improvement.")


class Tracking(Section):
    """Settings of the loggers."""

    project: str = Field("gyrus", min_length=1, description="MLflow experiment, W&B project.")
    mlflow: str | None = Field(
        None, description="Server or database; null: MLFLOW_TRACKING_URI, else mlflow.db beside the run folder."
    )
    wandb: Literal["offline", "online"] = Field("offline", description="online sends the log to the service.")
    every: int = Field(0, ge=0, description="Log the loss every so many steps; 0: epochs only.")


class TrainingConfig(Section):
    """How a network is trained. The same config, seed, data and machine produce the same weights, bit for bit.

    The defaults are chosen for small, imbalanced data sets. The best epoch is the one with the highest balanced
    accuracy on the validation set: loss and accuracy are dominated by the largest class, and balanced accuracy can
    exclude a class that the validation set lacks. It takes few distinct values on a small set, so ties are common;
    they are broken by the lower validation loss.
    """

    epochs: int = Field(30, ge=1, description="Number of passes over the training set.")
    batch_size: int = Field(32, ge=1, description="Images per step. A last batch of one is merged with the one before.")
    optimiser: Optimiser = Field(default_factory=AdamW, description="The optimiser.")
    schedule: Schedule = Field(default_factory=Cosine, description="The learning rate over time.")
    loss: Loss = Field(default_factory=CrossEntropy, description="The loss function.")
    mining: HardExamples | None = Field(None, description="Hard example mining; null: use all images.")
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="Each image once per epoch; or drawn with replacement, all classes equally often."
    )
    mixing: Mixing | None = Field(None, description="MixUp and CutMix; null: off.")
    averaging: Averaging | None = Field(None, description="Weight averaging over time; null: off.")
    early_stopping: EarlyStopping | None = Field(None, description="Early stopping; null: off.")
    monitor: BestBy = Field(
        "val_balanced_accuracy", description="The score that selects the best epoch; epoch: keep the last one."
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto",
        description="Precision of the forward and backward pass; auto: bf16-mixed where the device computes it "
        "natively, else 32-true; 16-mixed needs a GPU.",
    )
    gradient_clip: float | None = Field(None, gt=0, description="Maximum norm of the gradient; null: no clipping.")
    accumulate: int = Field(1, ge=1, description="Batches per step, whose gradients are averaged.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="The device.")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="Processes per machine, each with its own GPU; auto: one per GPU. They divide every batch."
    )
    nodes: int = Field(1, ge=1, description="Machines; more than one are started by srun or torchrun.")
    sync_batch_norm: bool = Field(
        True, description="With several processes: batch norms use the whole batch, not the share of a process."
    )
    workers: int = Field(0, ge=0, description="Processes that load batches; 0: the main process loads them.")
    deterministic: Literal["auto"] | bool = Field(
        "auto", description="Refuse operations that are not deterministic on the device; auto: except on CUDA."
    )
    channels_last: bool = Field(True, description="Memory format that is faster for 2D convolutions.")
    compile: bool = Field(False, description="Compile the model with torch.compile; slow to start.")
    cuda_graphs: bool = Field(
        True, description="On one GPU, record the passes of the network once and repeat the recording in each step."
    )
    check_memory: bool = Field(True, description="Refuse a training that needs more memory than is available.")
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="Where the training is logged, besides the CSV file."
    )
    tracking: Tracking = Field(Tracking(), description="Settings of the loggers.")

    @model_validator(mode="after")
    def _mining_or_mixing(self) -> Self:
        if self.mining is not None and self.mixing is not None:
            raise ValueError("mining needs unmixed images; set mining or mixing to null")
        return self

    @model_validator(mode="after")
    def _needs_a_score(self) -> Self:
        if self.monitor == "epoch" and isinstance(self.averaging, SWA):
            raise ValueError("swa is compared with the best epoch by a score; set monitor to a score, not epoch")
        if self.monitor == "epoch" and self.early_stopping is not None and self.early_stopping.monitor is None:
            raise ValueError(
                "early stopping needs a score; set early_stopping.monitor to one, or early_stopping to null"
            )
        return self

    def warnings(self) -> tuple[str, ...]:
        """Combinations of settings that are allowed but rarely intended."""
        if isinstance(self.loss, NumberLoss):
            return ()
        if self.sampler == "balanced" and self.loss.class_weights != "none":
            return (
                "Class imbalance is corrected twice: by the balanced sampler and by class weights. Rare classes will "
                "be predicted too often. Set training.sampler to shuffle, or training.loss.class_weights to none.",
            )
        return ()


def _names(union: object) -> tuple[str, ...]:
    """The names of the sections of a discriminated union."""
    return tuple(section.model_fields["name"].default for section in get_args(get_args(union)[0]))


OPTIMISER_NAMES = _names(Optimiser)
SCHEDULE_NAMES = _names(Schedule)
LOSS_NAMES = _names(Loss)
NUMBER_LOSS_NAMES = tuple(
    section.model_fields["name"].default for section in get_args(get_args(Loss)[0]) if issubclass(section, NumberLoss)
)
