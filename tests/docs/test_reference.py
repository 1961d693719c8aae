"""The reference pages are made from the code: every command, every config field, every file of a run."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from gyrus.runs.run_folder import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("reference")
    module.main(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def cells(start: str, page: str) -> list[str]:
    """The cells of the first row that begins so."""
    row = next(line for line in page.splitlines() if line.startswith(start))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_commands_have_their_options(pages) -> None:
    assert "## gyrus train\n" in pages["commands"]
    assert "## gyrus data scan\n" in pages["commands"]
    assert cells("| `--recipe` |", pages["commands"])[2:4] == ["text", ""]
    assert "gyrus predict [OPTIONS] RUN" in pages["commands"]


def test_every_config_field_has_type_and_meaning(pages) -> None:
    config = pages["config"]
    assert cells("| `training.epochs` |", config)[2] == "integer (≥ 1)"
    assert "## training.optimiser, name: adamw\n" in config
    rows = [line for line in config.splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    unclear = [row for row in rows if not cells(row, config)[1]]
    assert not unclear, "fields without a description"


def test_every_file_of_a_run_is_listed(pages) -> None:
    for name in ("metrics", "report", "weights", "manifest", "split"):
        assert f"| `{getattr(Run(Path()), name).name}` |" in pages["run-folder"]


def test_the_navigation_names_every_page_and_no_other(pages) -> None:
    def targets(entries) -> list[str]:
        return [
            page
            for entry in entries
            for value in entry.values()
            for page in (targets(value) if isinstance(value, list) else [value])
        ]

    named = targets(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | {f"reference/{name}.md" for name in pages}
    there |= {f"tutorials/{path.stem}.md" for path in (ROOT / "examples").glob("*.py")} | {"gallery/index.md"}
    assert sorted(named) == sorted(there)


def test_every_score_has_a_formula(pages) -> None:
    from gyrus.evaluation.metrics import CLASS_METRICS, METRICS, ORDERED_METRICS
    from gyrus.evaluation.number_metrics import NUMBER_METRICS

    rows = [line.split(" | ") for line in pages["scores"].splitlines() if line.startswith("| `")]
    named = [*METRICS, *CLASS_METRICS, *ORDERED_METRICS, *NUMBER_METRICS]
    assert [row[0].strip("| `") for row in rows] == named
    assert all(row[2].strip("| ") for row in rows)
