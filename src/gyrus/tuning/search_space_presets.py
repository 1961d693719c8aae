"""The search spaces that come with Gyrus, in one table."""

from __future__ import annotations

from typing import Any

from gyrus.tuning.search_space import Parameter, SearchSpace

_OPTIMISER, _SCHEDULE = "training.optimiser.name", "training.schedule.name"
_FALLING = {_SCHEDULE: ["plateau", "cosine"]}
_ADAPTIVE = {_OPTIMISER: ["adam", "adamw", "rmsprop"]}
_BETAS = {_OPTIMISER: ["adam", "adamw"]}
_WIDTHS = [[width, 2 * width, 4 * width, 8 * width] for width in (16, 32, 64)]
_CNN, _RESNET = {"model.name": "neuroflux-cnn"}, {"model.name": "timm:resnet50.tv2_in1k"}


def _choice(field: str, *values: Any, **when: Any) -> Parameter:
    return Parameter(field=field, values=values, **when)


def _range(field: str, low: float, high: float, *, log: bool = False, when: dict[str, Any] | None = None) -> Parameter:
    return Parameter(field=field, low=low, high=high, log=log, when=when or {})


NEUROFLUX = SearchSpace(
    title="System C's search space: optimiser, schedule, dropout, batch size, width and head",
    parameters=(
        _choice(_OPTIMISER, "adam", "adamw", "sgd", "rmsprop"),
        _choice(_SCHEDULE, "plateau", "cosine", "one_cycle"),
        # A one-cycle schedule has a peak of its own there; with the others, SGD has a range of its own.
        _range("training.optimiser.lr", 1e-5, 1e-3, log=True, when=_ADAPTIVE | _FALLING),
        _range("training.optimiser.lr", 1e-4, 1e-2, log=True, when={_OPTIMISER: "sgd"} | _FALLING),
        _range("training.optimiser.lr", 1e-4, 1e-2, log=True, when={_SCHEDULE: "one_cycle"}),
        _range("training.optimiser.weight_decay", 1e-5, 1e-3, log=True),
        _range("training.optimiser.beta1", 0.8, 0.99, when=_BETAS),
        _range("training.optimiser.beta2", 0.9, 0.9999, when=_BETAS),
        _range("training.optimiser.momentum", 0.8, 0.99, when={_OPTIMISER: ["sgd", "rmsprop"]}),
        _choice("training.optimiser.nesterov", True, False, when={_OPTIMISER: "sgd"}),
        _range("training.optimiser.alpha", 0.8, 0.99, when={_OPTIMISER: "rmsprop"}),
        _range("training.schedule.factor", 0.1, 0.5, when={_SCHEDULE: "plateau"}),
        _range("training.schedule.patience", 3, 10, when={_SCHEDULE: "plateau"}),
        # min_lr and eta_min from 1e-6 to 1e-4, as shares of a peak of 1e-5 to 1e-3.
        _range("training.schedule.min_share", 1e-3, 1.0, log=True, when={_SCHEDULE: "plateau"}),
        _range("training.schedule.final_share", 1e-3, 1.0, log=True, when={_SCHEDULE: "cosine"}),
        _choice("training.schedule.warmup_epochs", 0.0, when={_SCHEDULE: "cosine"}),
        # T_max from 10 to 100 epochs of 50; total_steps from 100 to 1000 of about 1,475 to 5,900.
        _range("training.schedule.length", 0.2, 2.0, when={_SCHEDULE: "cosine"}),
        _range("training.schedule.length", 0.02, 0.7, when={_SCHEDULE: "one_cycle"}),
        _range("training.schedule.rise", 0.1, 0.3, when={_SCHEDULE: "one_cycle"}),
        _range("training.schedule.start_divisor", 10.0, 100.0, when={_SCHEDULE: "one_cycle"}),
        _range("training.schedule.final_divisor", 100.0, 1000.0, when={_SCHEDULE: "one_cycle"}),
        _range("model.head.options.dropout", 0.3, 0.7),
        _choice("training.batch_size", 16, 32, 64),
        _choice(
            "model.options.channels", *[[width, 2 * width, 4 * width, 8 * width] for width in (16, 32, 64)], when=_CNN
        ),
        _choice("model.head.options.hidden", [256], [512], [1024], when=_RESNET),
    ),
)

SPACES: dict[str, SearchSpace] = {"neuroflux": NEUROFLUX}
