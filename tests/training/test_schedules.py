"""Learning rates agree with PyTorch's schedulers wherever those exist."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as peers

from gyrus.training.config import SCHEDULE_NAMES, SWA, Constant, Cosine, OneCycle, Plateau, TrainingConfig
from gyrus.training.history import History
from gyrus.training.schedules import SCHEDULES, Moment, learning_rate_factor
from tests.support.toy_training import changed, rows, train

NOTHING = History()


def factors(schedule, epochs: int, steps: int = 1) -> list[float]:
    moments = [Moment(step, steps, epochs) for step in range(epochs * steps)]
    return [SCHEDULES[schedule.name](schedule, moment, NOTHING) for moment in moments]


def rates_of_peer(make, count: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = make(optimiser)
    rates = [optimiser.param_groups[0]["lr"]]
    for _ in range(count - 1):
        optimiser.step()
        peer.step()
        rates.append(optimiser.param_groups[0]["lr"])
    return rates


def test_every_name_of_the_config_has_a_schedule():
    assert set(SCHEDULES) == set(SCHEDULE_NAMES)


def test_constant():
    assert factors(Constant(), 3, 2) == [1.0] * 6


def test_cosine_by_epoch_is_cosine_annealing():
    mine = factors(Cosine(warmup_epochs=0, final_share=0.01, every="epoch"), 30)
    assert mine == pytest.approx(rates_of_peer(lambda opt: peers.CosineAnnealingLR(opt, 30, eta_min=0.01), 30))


def test_cosine_by_step_is_cosine_annealing_over_all_steps():
    mine = factors(Cosine(warmup_epochs=0), 6, 5)
    assert mine == pytest.approx(rates_of_peer(lambda opt: peers.CosineAnnealingLR(opt, 30), 30))


def test_warmup_and_cosine_of_adni_2d_convnext():
    """LinearLR 0.1 to 1 over 5 epochs, then cosine over 395 down to 1e-6 of 1e-3."""

    def make(optimiser):
        rise = peers.LinearLR(optimiser, 0.1, 1.0, 5)
        fall = peers.CosineAnnealingLR(optimiser, 395, eta_min=1e-3)
        return peers.SequentialLR(optimiser, [rise, fall], [5])

    mine = factors(Cosine(warmup_epochs=5, warmup_start=0.1, final_share=1e-3, every="epoch"), 400)
    assert mine == pytest.approx(rates_of_peer(make, 400))


@pytest.mark.parametrize(("epochs", "steps"), [(10, 7), (3, 4), (1, 30)])
def test_one_cycle(epochs, steps):
    schedule = OneCycle(rise=0.3, start_divisor=25, final_divisor=1e4)
    total = epochs * steps
    peer = rates_of_peer(lambda opt: peers.OneCycleLR(opt, 1.0, total_steps=total, cycle_momentum=False), total)
    assert factors(schedule, epochs, steps) == pytest.approx(peer)


def test_one_cycle_of_a_single_step():
    assert factors(OneCycle(), 1, 1) == [1.0]


@given(
    losses=st.lists(st.floats(0.01, 10), min_size=1, max_size=40),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.2]),
    minimum=st.sampled_from([0.0, 0.05]),
    accuracy=st.booleans(),
)
def test_plateau_is_reduce_on_plateau(losses, patience, cooldown, threshold, minimum, accuracy):
    monitor = "val_accuracy" if accuracy else "val_loss"
    schedule = Plateau(
        monitor=monitor, factor=0.3, patience=patience, cooldown=cooldown, threshold=threshold, min_share=minimum
    )
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = peers.ReduceLROnPlateau(
        optimiser,
        "max" if accuracy else "min",
        factor=0.3,
        patience=patience,
        cooldown=cooldown,
        threshold=threshold,
        min_lr=minimum,
        eps=0,
    )
    history = NOTHING
    for loss in losses:
        history = history.with_row({monitor: loss})
        peer.step(loss)
        mine = SCHEDULES["plateau"](schedule, Moment(len(history), 1, 100), history)
        assert mine == pytest.approx(optimiser.param_groups[0]["lr"])


def test_swa_of_adni_2d_convnext_continues_the_cosine():
    """400 epochs, averaging from epoch 320, down to a tenth of the peak within 10 epochs."""
    config = TrainingConfig(
        epochs=400,
        schedule=Cosine(warmup_epochs=5, final_share=1e-3, every="epoch"),
        averaging=SWA(start=0.8, lr_share=0.1, anneal_epochs=10),
    )
    rates = [learning_rate_factor(config, Moment(epoch, 1, 400), NOTHING) for epoch in range(400)]
    plain = factors(config.schedule, 400)
    assert rates[:321] == plain[:321]
    assert rates[319] == pytest.approx(0.1, abs=0.005)
    assert rates[330:] == [pytest.approx(0.1)] * 70

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=plain[320])
    peer = torch.optim.swa_utils.SWALR(optimiser, swa_lr=0.1, anneal_epochs=10)
    for epoch in range(320, 335):
        assert rates[epoch] == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        peer.step()


def test_swa_after_plateau_starts_at_its_rate():
    config = TrainingConfig(
        epochs=10, schedule=Plateau(patience=0, factor=0.5), averaging=SWA(start=0.5, lr_share=0.1, anneal_epochs=2)
    )
    history = History(tuple({"val_loss": float(epoch)} for epoch in range(5)))
    assert learning_rate_factor(config, Moment(5, 1, 10), history) == pytest.approx(0.5**4)


def test_learning_rates_in_the_history_follow_the_schedule(tmp_path):
    train(tmp_path, changed(schedule={"name": "cosine", "warmup_epochs": 1, "every": "epoch"}, epochs=3))
    expected = [1e-3 * factor for factor in (0.1, 1.0, 0.5)]
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx(expected)


def test_plateau_monitors_the_validation_set(tmp_path):
    train(tmp_path, changed(schedule={"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 100.0}))
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
