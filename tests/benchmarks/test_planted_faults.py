from __future__ import annotations

import importlib.util
from pathlib import Path

import gyrus

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "planted_faults.py"


def test_every_fault_can_be_planted():
    """The pieces of source that faults replace are those of today; otherwise a fault would be noticed by nobody."""
    spec = importlib.util.spec_from_file_location("planted_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.stale(Path(gyrus.__file__).parent) == []
