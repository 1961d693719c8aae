from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from gyrus.cli.audit import audit
from gyrus.data.phantom import generate, write
from gyrus.errors import ConfigError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of 12 phantom people, given by the command."""
    phantom = generate(subjects=12, slices=24, classes=2, size=64, seed=4)
    folder = tmp_path_factory.mktemp("audit")
    data = write(phantom, folder / "<b>data", "train-test")
    audit(str(data), out=folder / "out", subject_rule="none", maps=False)
    return folder / "out"


def test_everything_is_written(written: Path) -> None:
    findings = json.loads((written / "findings.json").read_text())
    assert "12 people" in findings["verdict"]
    subjects = pd.read_csv(written / "subjects.csv")
    assert subjects["subject"].nunique() == 12
    assert subjects.groupby("subject")["slice"].nunique().eq(24).all()
    assert len(pd.read_csv(written / "quality.csv")) == 12 * 24
    assert (written / "figures" / "groups_by_threshold.png").exists()


def test_the_page_is_whole_and_needs_no_network(written: Path) -> None:
    page = (written / "audit.html").read_text()
    assert "12 people or scans, 24 each" in page
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


def test_nothing_to_audit_is_told() -> None:
    with pytest.raises(ConfigError, match="nothing to audit"):
        audit(None)
    with pytest.raises(ConfigError, match="exclude each other"):
        audit("data", split=Path("split.json"), run=Path("run"))
