from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.audit.checks import run_checks
from gyrus.audit.context import AuditContext, gather
from gyrus.datasets.scan import scan
from gyrus.reporting import audit_maps
from gyrus.reporting.audit_maps import choose_rows
from gyrus.reporting.audit_report import write_audit
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of 12 phantom subjects."""
    phantom = generate(subjects=12, slices=24, classes=2, size=64, seed=4)
    folder = tmp_path_factory.mktemp("audit")
    data = write(phantom, folder / "<b>data", "train-test")
    context = gather(scan(data, subject_rule="none"))
    write_audit(folder / "out", context, run_checks(context, title="<b>data"), maps=False)
    return folder / "out"


def test_everything_is_written(written: Path) -> None:
    findings = json.loads((written / "findings.json").read_text())
    assert "12 subjects" in findings["verdict"]
    subjects = pd.read_csv(written / "subjects.csv")
    assert subjects["subject"].nunique() == 12
    assert subjects.groupby("subject")["slice"].nunique().eq(24).all()
    assert len(pd.read_csv(written / "quality.csv")) == 12 * 24
    assert (written / "figures" / "groups_by_threshold.png").exists()


def test_the_page_is_complete_and_needs_no_network(written: Path) -> None:
    page = (written / "audit.html").read_text()
    assert "12 groups of 24 similar images" in page
    assert "12 groups" in page
    assert not re.search(r"(src|href)=\"https?:", page)
    assert "<b>data" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    pictures: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: pictures.extend(  # type: ignore[method-assign]
        str(value) for name, value in attributes if tag == "img" and name == "src"
    )
    parser.feed(page)
    assert len(pictures) >= 6 * 12
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> AuditContext:
    """20 phantom subjects with subsets, and an image that is far too bright."""
    folder = write(
        generate(subjects=20, slices=6, classes=2, size=32, seed=4),
        tmp_path_factory.mktemp("maps") / "data",
        "train-test",
    )
    bright = sorted((folder / "train" / "Control").glob("*.png"))[0]
    Image.fromarray(np.clip(np.asarray(Image.open(bright)).astype(int) + 120, 0, 255).astype(np.uint8)).save(bright)
    return gather(scan(folder))


def test_maps_show_class_subject_subset_clusters_and_quality(context: AuditContext, tmp_path: Path) -> None:
    page = write_audit(tmp_path, context, run_checks(context, title="maps")).read_text()
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    maps = {"map_by_class", "map_by_subject", "map_by_subset", "map_by_cluster", "map_of_quality"}
    folded = {"map_of_unscaled_measures", "clusters_of_unscaled_measures", "plain_outliers", "quality_by_class"}
    assert maps | folded | {"quality", "quality_correlation"} <= figures
    assert "map_by_umap" not in figures
    table = pd.read_csv(tmp_path / "maps.csv")
    assert list(table["sample"]) == list(context.manifest.table["sample"])
    assert {"pixels x", "quality y", "unscaled measures x", "HDBSCAN of the pixels"} <= set(table)
    assert "<td>HDBSCAN of the pixels</td>" in page
    quality = pd.read_csv(tmp_path / "quality.csv").set_index("sample")
    assert quality["largest plain z"].idxmax() in set(quality.index[quality["worst robust z"] > 5])


def test_large_sets_are_mapped_by_whole_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_maps, "MAX_MAPPED", 50)
    subjects = np.repeat(np.arange(40), 7)
    rows = choose_rows(subjects, len(subjects), seed=1)
    assert 43 < len(rows) <= 50
    assert set(np.bincount(subjects[rows])) == {0, 7}
    assert len(choose_rows(None, 200, seed=1)) == 50
    assert len(choose_rows(np.zeros(200, np.int64), 200, seed=1)) == 50
    np.testing.assert_array_equal(choose_rows(subjects[:30], 30, seed=1), np.arange(30))
