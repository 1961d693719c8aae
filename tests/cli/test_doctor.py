"""``gyrus doctor`` as a user meets it."""

from __future__ import annotations

from gyrus.extras import install_command
from tests.support.command_line import succeeded


def test_what_is_installed_and_what_is_missing(monkeypatch):
    shown = succeeded("doctor")
    assert "torch" in shown
    assert "MISSING" not in shown
    monkeypatch.setattr("gyrus.workflows.doctor.installed_version", lambda name: None if name == "optuna" else "1.0")
    assert f"not installed; for gyrus tune: {install_command('tuning')}" in " ".join(succeeded("doctor").split())
