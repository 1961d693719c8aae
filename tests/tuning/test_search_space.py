from __future__ import annotations

import itertools

import optuna
import pytest
import torch
import yaml
from torch.optim import lr_scheduler as peers

from gyrus.errors import ConfigError
from gyrus.training.config import Cosine, OneCycle
from gyrus.training.history import History
from gyrus.training.schedules import SCHEDULES, Moment
from gyrus.tuning.samplers_and_pruners import grid_size
from gyrus.tuning.search_space import SearchSpace, configure, read_space, search_spaces
from gyrus.workflows.experiment_config import load_config

NEUROFLUX = read_space("neuroflux")
CNN, RESNET = load_config("neuroflux-cnn"), load_config("neuroflux-resnet50")


def draws(space, base, count, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask()
        yield space.draw(base, lambda name, parameter, trial=trial: parameter.draw(trial, name))


@pytest.mark.parametrize("name", search_spaces())
@pytest.mark.parametrize("base", [CNN, RESNET], ids=["cnn", "resnet"])
def test_every_draw_of_a_built_in_space_is_a_config(name, base):
    space = read_space(name)
    space.check(base)
    seen = set()
    for values in draws(space, base, 40):
        settings = configure(base, values)
        seen |= {settings.training.optimiser.name, settings.training.schedule.name}
        assert settings.seed == base.seed
        assert settings.split == base.split
        assert settings.data == base.data
    assert seen == {"adam", "adamw", "sgd", "rmsprop", "plateau", "cosine", "one_cycle"}


def test_neuroflux_holds_the_complete_space_of_the_original():
    """All parameters of the published search, under the field of Gyrus, with their ends."""
    ends = {name: parameter.ends for name, parameter in NEUROFLUX.named.items()}
    optimiser, schedule = "training.optimiser", "training.schedule"
    assert ends[f"{optimiser}.lr (adam adamw rmsprop plateau cosine)"] == (1e-5, 1e-3)
    assert ends[f"{optimiser}.lr (sgd plateau cosine)"] == (1e-4, 1e-2)
    assert ends[f"{optimiser}.lr (one_cycle)"] == (1e-4, 1e-2)  # max_lr
    assert ends[f"{optimiser}.weight_decay"] == (1e-5, 1e-3)
    assert ends[f"{optimiser}.beta1"] == (0.8, 0.99)
    assert ends[f"{optimiser}.beta2"] == (0.9, 0.9999)
    assert ends[f"{optimiser}.momentum"] == ends[f"{optimiser}.alpha"] == (0.8, 0.99)
    assert ends[f"{optimiser}.nesterov"] == (True, False)
    assert ends[f"{schedule}.factor"] == (0.1, 0.5)
    assert ends[f"{schedule}.patience"] == (3, 10)
    assert ends[f"{schedule}.length (cosine)"] == (10 / 50, 100 / 50)  # T_max of 50 epochs
    assert ends[f"{schedule}.rise"] == (0.1, 0.3)
    assert ends[f"{schedule}.start_divisor"] == (10, 100)
    assert ends[f"{schedule}.final_divisor"] == (100, 1000)
    assert ends["model.head.options.dropout"] == (0.3, 0.7)
    assert ends["training.batch_size"] == (16, 32, 64)
    assert [channels[0] for channels in ends["model.options.channels"]] == [16, 32, 64]
    assert ends["model.head.options.hidden"] == ([256], [512], [1024])


def test_parameters_of_another_optimiser_schedule_or_model_are_not_drawn():
    for values in draws(NEUROFLUX, CNN, 40):
        sgd = values["training.optimiser.name"] == "sgd"
        assert ("training.optimiser.nesterov" in values) == sgd
        assert ("training.optimiser.beta1" in values) == (values["training.optimiser.name"] in ("adam", "adamw"))
        assert ("training.schedule.patience" in values) == (values["training.schedule.name"] == "plateau")
        assert "model.options.channels" in values
        assert "model.head.options.hidden" not in values
    assert all("model.head.options.hidden" in values for values in draws(NEUROFLUX, RESNET, 3))


@pytest.mark.parametrize(("length", "epochs"), [(0.2, 50), (0.5, 20), (1.0, 10)])
def test_a_cosine_of_another_length_is_pytorch_s_until_its_end_and_constant_after(length, epochs):
    """As in PyTorch, the schedule follows the epoch."""
    end = round(length * epochs)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = peers.CosineAnnealingLR(optimiser, T_max=end, eta_min=0.01)
    schedule = Cosine(warmup_epochs=0, final_share=0.01, length=length)
    for epoch in range(epochs):
        factor = SCHEDULES["cosine"](schedule, Moment(epoch, 1, epochs), History())
        expected = optimiser.param_groups[0]["lr"] if epoch <= end else 0.01
        assert factor == pytest.approx(expected)
        optimiser.step()
        peer.step()


@pytest.mark.parametrize(("length", "steps"), [(0.1, 1000), (0.7, 200)])
def test_one_cycle_of_another_length_is_pytorch_s_until_its_end_and_constant_after(length, steps):
    total = round(length * steps)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = peers.OneCycleLR(
        optimiser, 1.0, total_steps=total, pct_start=0.2, div_factor=10, final_div_factor=100, cycle_momentum=False
    )
    schedule = OneCycle(rise=0.2, start_divisor=10, final_divisor=100, length=length)
    for step in range(steps):
        factor = SCHEDULES["one_cycle"](schedule, Moment(step, 10, steps // 10), History())
        assert factor == pytest.approx(optimiser.param_groups[0]["lr"])
        if step < total - 1:
            optimiser.step()
            peer.step()


def test_a_new_name_resets_its_section():
    base = load_config("neuroflux-cnn", {"training.optimiser": {"name": "adam", "lr": 0.5, "beta1": 0.5}})
    assert configure(base, {"training.optimiser.name": "adam"}).training.optimiser.lr == 0.5
    other = configure(base, {"training.optimiser.name": "sgd", "training.optimiser.momentum": 0.5})
    assert other.training.optimiser.model_dump() == {
        **load_config(None, {"training.optimiser": {"name": "sgd"}}).training.optimiser.model_dump(),
        "momentum": 0.5,
    }


def test_the_default_head_of_the_model_is_changed_not_replaced():
    assert CNN.model.head is None
    head = configure(CNN, {"model.head.options.dropout": 0.25}).model.head
    assert head.name == "mlp"
    assert (head.options["hidden"], head.options["dropout"]) == ([256], 0.25)


def test_ranges_of_the_command_line():
    space = read_space(
        None, ["training.optimiser.lr=1e-5:1e-2:log", "training.epochs=2:9", "model.options.channels=[4]|[8, 8]"]
    )
    rate, epochs, channels = space.parameters
    assert (rate.low, rate.high, rate.log, rate.is_whole) == (1e-5, 1e-2, True, False)
    assert (epochs.low, epochs.high, epochs.log, epochs.is_whole) == (2, 9, False, True)
    assert channels.values == ([4], [8, 8])
    drawn = list(draws(space, CNN, 30))
    assert {values["training.epochs"] for values in drawn} <= set(range(2, 10))
    assert {tuple(values["model.options.channels"]) for values in drawn} == {(4,), (8, 8)}


def test_a_range_replaces_that_of_the_space():
    space = read_space("neuroflux", ["training.batch_size=8"])
    assert [each.values for each in space.parameters if each.field == "training.batch_size"] == [(8,)]


def test_a_space_survives_being_written(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(NEUROFLUX.model_dump(mode="json")))
    assert read_space(str(path)).named == NEUROFLUX.named


def test_a_grid_has_each_valid_combination_once():
    space = SearchSpace.model_validate(
        {
            "parameters": [
                {"field": "training.optimiser.name", "values": ["adam", "sgd"]},
                {
                    "field": "training.optimiser.momentum",
                    "values": [0.0, 0.9],
                    "when": {"training.optimiser.name": "sgd"},
                },
                {"field": "training.batch_size", "values": [8, 16]},
            ]
        }
    )
    points = list(space.grid(CNN))
    assert grid_size(space, CNN) == len(points) == 6
    assert all(one != other for one, other in itertools.combinations(points, 2))
    assert sum("training.optimiser.momentum" in point for point in points) == 4


@pytest.mark.parametrize(
    ("name", "ranges", "words"),
    [
        ("neurflux", (), "'neuroflux'"),
        (None, (), "Nothing to tune"),
        ("/nowhere.yaml", (), "/nowhere.yaml"),
        (None, ["training.optimiser.lr"], "FIELD=LOW:HIGH"),
        (None, ["training.optimiser.lr=1:2:3:4"], "FIELD=LOW:HIGH"),
        (None, ["training.optimiser.lr=0.1:0.01"], "below high"),
        (None, ["training.optimiser.lr=0.0:0.1:log"], "above 0"),
        (None, ["split.seed=1|2"], "determines the data"),
        (None, ["data.path=a|b"], "determines the data"),
        (None, ["seed=1|2"], "determines the data"),
        (None, ["training.monitor=val_auc|val_loss"], "determines the data"),
        (None, ["training.optimizer.lr=0.1:0.2"], "'optimiser'"),
        (None, ["training.batch_size=0:9"], "greater than or equal to 1"),
        (None, ["training.optimiser.lr=0.1:2", "training.optimiser.weight_decay=0:1"], "write decimal ends"),
        (None, ["training.optimiser.momentum=0.1:0.9"], "no such field"),
        (None, ["model.head.options.hiden=[4]|[8]"], "'hidden'"),
    ],
)
def test_mistakes_are_reported_before_training(name, ranges, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        read_space(name, ranges).check(CNN)
