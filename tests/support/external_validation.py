"""Are two external validations the same, but for rounding?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gyrus.evaluation.external_validation import ExternalValidation
from gyrus.evaluation.number_external import NumberExternalValidation

Validation = ExternalValidation | NumberExternalValidation


def require_same_results(run: Validation, bundle: Validation) -> None:
    """Compare all numbers, and the verdict; not what a bundle cannot know about the people who are set aside."""
    same = {"notes": (), "set_aside": (), "pixels_compared": False}
    one, other = (replace(each, **same).to_document() for each in (run, bundle))
    _require_close(one, other, "")
    assert [(each.subject, each.reason) for each in run.set_aside] == [
        (each.subject, each.reason) for each in bundle.set_aside
    ]
    assert replace(run, pixels_compared=False).verdict() == bundle.verdict()
    assert [note for note in bundle.notes if note not in run.notes] == [
        note for note in bundle.notes if note.startswith("A bundle holds no images")
    ]


def _require_close(one: object, other: object, where: str) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            _require_close(value, other[name], f"{where}/{name}")
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), where
        for number, (value, twin) in enumerate(zip(one, other, strict=True)):
            _require_close(value, twin, f"{where}/{number}")
    elif isinstance(one, float) and isinstance(other, float):
        # The slope of a classifier that hardly tells the classes apart is large, and so are its rounding errors.
        assert one == pytest.approx(other, abs=1e-5, rel=1e-3), where
    else:
        assert one == other, where
