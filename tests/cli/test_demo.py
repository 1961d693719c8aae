"""``gyrus demo`` as a user meets it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gyrus as api
from tests.support.command_line import succeeded


def test_the_demo_prints_both_scores(monkeypatch, tmp_path):
    def demo(out: Path, *, seed: int, display: object) -> SimpleNamespace:
        assert display is api.SILENT
        return SimpleNamespace(text=lambda: f"Seed {seed}", report=out / "report.html")

    monkeypatch.setattr(api, "demo", demo, raising=False)
    assert succeeded("demo", "--out", tmp_path, "--seed", 3, "--quiet") == f"Seed 3\nReport: {tmp_path}/report.html\n"
