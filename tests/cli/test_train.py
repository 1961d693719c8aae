"""Options of ``gyrus train`` that are fields of the config."""

from __future__ import annotations

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows import train as module
from tests.cli.test_app import refused


def test_shuffled_labels_are_asked_for_by_an_option(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def told(*_: object, overrides: dict[str, object], **__: object) -> None:
        raise ConfigError(f"Asked for {overrides}.")

    monkeypatch.setattr(module, "train", told)
    arguments = ("train", "--data", tmp_path, "--out", tmp_path / "run")
    assert "'evaluation.shuffled_labels': True" in refused(*arguments, "--shuffled-labels")
    assert "shuffled_labels" not in refused(*arguments)
    assert "no other option" in refused("train", "--resume", tmp_path, "--shuffled-labels")
