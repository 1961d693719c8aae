"""``gyrus demo`` as a user meets it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gyrus as api
from tests.support.command_line import succeeded


def test_the_demo_prints_both_scores_and_what_to_do_next(monkeypatch, tmp_path):
    def demo(out: Path, *, seed: int, display: object) -> SimpleNamespace:
        assert display is api.SILENT
        return SimpleNamespace(
            text=lambda: f"Seed {seed}", report=out / "report.html", subject=SimpleNamespace(folder=out)
        )

    monkeypatch.setattr(api, "demo", demo, raising=False)
    scores, report, _, following, *steps = succeeded("demo", "--out", tmp_path, "--seed", 3, "--quiet").splitlines()
    assert [scores, report, following] == ["Seed 3", f"Report: {tmp_path}/report.html", "Next:"]
    assert f"{tmp_path}/report.html" in steps[0]
    assert f"gyrus explain {tmp_path} " in steps[1]
