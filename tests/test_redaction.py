"""Passwords and tokens are removed from what is stored, and nothing else is changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gyrus.configuration import parse, write_document
from gyrus.errors import ConfigError, RunError
from gyrus.redaction import command_line, document_without_secrets, has_hidden_secret, without_secrets
from gyrus.reporting.report_content import command_text
from gyrus.runs.run_folder import Run
from gyrus.training.config import Tracking
from gyrus.training.loggers import _mlflow_address
from gyrus.workflows.experiment_config import load_config

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:hunter2@host:5432/tuning",
        "--storage=postgresql://ann:hunter2@host/tuning?sslmode=require",
        "postgresql+psycopg://:hunter2@host/db",
        "postgresql://ann:p@ss:hunter2@host/db",
        "postgresql://ann:a/hunter2@host/db",
        "postgresql://host/db?user=ann&password=hunter2",
        "postgresql://host/db?sslpassword=hunter2&user=ann",
        "https://hunter2@github.com/a/b.git",
        "https://ann:hunter2@mlflow.example.org/path/@here",
        "training.tracking.mlflow=https://ann:hunter2@host:5000",
        "https://host/data.zip?token=hunter2",
        "https://host/data.zip?a=1&X-Amz-Signature=hunter2&b=2",
        "https://host/data.zip?sig=hunter2#part",
        "host=db user=ann password=hunter2",
        "host=db password='hunter2 hunter2'",
        "API_KEY=hunter2",
        "no connection to postgresql://ann:hunter2@host/db: timeout",
    ],
)
def test_secrets_are_found(text: str) -> None:
    shown = without_secrets(text)
    assert SECRET not in shown
    assert "***" in shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:5000",
        "http://localhost:5000/a@b",
        "sqlite:////data/a@b/mlflow.db",
        "postgresql://ann@host:5432/tuning",
        "https://host/page?subject=7&slice=3",
        "/data/token/password/key.csv",
        "model.options.token_size=8 and keys=3",
        "s3://bucket/key@version",
        "column label=key=value",
    ],
)
def test_addresses_without_secrets_stay_as_they_are(text: str) -> None:
    assert without_secrets(text) == text
    assert not has_hidden_secret(text)


def test_everything_that_is_stored_of_a_run_is_without_the_secret(tmp_path: Path, monkeypatch) -> None:
    address = f"https://ann:{SECRET}@host/mlflow"
    monkeypatch.setattr(sys, "argv", ["gyrus", "tune", "--storage", f"postgresql://ann:{SECRET}@host/db"])
    run = Run.create(tmp_path / "run")
    write_document(run.config, load_config("dementia-baseline", {"training.tracking.mlflow": address}))
    assert all(SECRET not in path.read_text() for path in run.folder.iterdir())
    assert run.facts["command"][-1] == command_line()[-1] == "postgresql://ann:***@host/db"
    assert SECRET not in command_text(["gyrus", address])
    assert document_without_secrets({"a": [address, 1, None]}) == {"a": ["https://ann:***@host/mlflow", 1, None]}
    assert load_config(run.config).training.tracking.mlflow == "https://ann:***@host/mlflow"


def test_a_config_that_is_refused_does_not_show_the_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Tracking, {"wandb": f"https://ann:{SECRET}@host"}, where="The config")
    assert SECRET not in str(caught.value)


def test_a_resumed_run_takes_the_address_from_the_environment(monkeypatch) -> None:
    stored = Tracking(mlflow="https://ann:***@host")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RunError, match="MLFLOW_TRACKING_URI"):
        _mlflow_address(stored)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://ann:{SECRET}@host")
    assert _mlflow_address(stored) == f"https://ann:{SECRET}@host"
    assert _mlflow_address(Tracking(mlflow="https://host")) == "https://host"
