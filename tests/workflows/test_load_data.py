from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.workflows.display import Silent
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_data, scan_path, scan_unlabelled
from tests.support.sources import write_images


class Lines(Silent):
    """A display that keeps the lines that it is to show."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("command", ["train", "audit", "predict"])
def test_files_left_aside_are_reported(command: str, tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "AD/z.png", "NC/y.png")
    for name in ("AD/x.heic", "NC/y.heic", "readme.md"):
        (tmp_path / name).write_bytes(b"something else")
    display = Lines()

    if command == "train":
        scan_data(DataConfig(path=str(tmp_path)), display)
    elif command == "audit":
        scan_path(tmp_path, None, display, on_bad_file="skip")
    else:
        scan_unlabelled(tmp_path, DataConfig(), display)

    assert display.lines == ["Note: 3 files left aside: 2 .heic, 1 .md."]
