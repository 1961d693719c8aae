"""What the main classes show in a notebook: small tables, in which no text of the data is markup."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.audit.findings import Finding, Findings
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import split
from gyrus.evaluation.evaluate import evaluate
from gyrus.explanation.attribution import Attribution
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run

HOSTILE = "<script>alert(1)</script>"


def manifest() -> Manifest:
    rows = [
        {"sample": f"{name}/{number}.png", "path": f"{name}/{number}.png", "label": name, "subject": f"{name}{number}"}
        for name in (HOSTILE, "b")
        for number in range(10)
    ]
    return Manifest.from_rows(pd.DataFrame(rows), root=Path(HOSTILE), subject_kind="subject", subject_rule="bids")


def predictions() -> Predictions:
    targets = [HOSTILE, "b"] * 10
    logits = np.array([[2.0, 0.0] if target == HOSTILE else [0.0, 1.0] for target in targets])
    names = [str(number) for number in range(20)]
    return Predictions.from_logits(
        samples=names,
        logits=logits,
        classes=(HOSTILE, "b"),
        targets=targets,
        subjects=names,
        split_unit="subject",
        subset="test",
    )


def attribution(shape: tuple[int, ...]) -> Attribution:
    heat = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    image = np.zeros(shape, np.uint8)
    return Attribution("a.png", heat, image, "grad-cam", f"class {HOSTILE}", (HOSTILE, "b"), np.array([0.9, 0.1]), "b")


def shown() -> dict[str, object]:
    findings = Findings("slices", "", 20, (Finding("leakage", "error", f"{HOSTILE} leaks.", {}),))
    return {
        "manifest": manifest(),
        "split": split(manifest()),
        "evaluation": evaluate(predictions(), resamples=20),
        "findings": findings,
        "image": attribution((8, 6)),
        "volume": attribution((4, 8, 6)),
    }


@pytest.mark.parametrize("name", ["manifest", "split", "evaluation", "findings", "image", "volume"])
def test_text_is_escaped_and_every_tag_is_closed(name):
    page = shown()[name]._repr_html_()
    assert "<script" not in page
    assert HOSTILE not in page
    for tag in ("table", "tr", "td", "th", "div", "p"):
        assert len(re.findall(rf"<{tag}\b", page)) == page.count(f"</{tag}>")


def test_the_tables_hold_the_numbers():
    found = shown()
    assert "10 images" in found["manifest"]._repr_html_()
    assert "test set" in found["split"]._repr_html_()
    assert "<td>by subject (20)</td>" in found["evaluation"]._repr_html_()
    assert "<td>1.00 [" in found["evaluation"]._repr_html_()
    assert "leaks" in found["findings"]._repr_html_()
    assert "90%" in found["image"]._repr_html_()


def test_a_heat_map_is_a_picture_of_the_image_beside_its_overlay():
    content = re.search(r"base64,([^\"]+)", replace(attribution((8, 6)), truth=None)._repr_html_())[1]
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (12, 8)


def test_a_run_shows_its_status(tmp_path):
    assert "No run" in Run(tmp_path)._repr_html_()
    run = Run(tmp_path / "run")
    run.mark("started")
    run.report.write_text("", encoding="utf-8")
    page = run._repr_html_()
    assert "started" in page
    assert "report.html" in page
