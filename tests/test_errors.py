from __future__ import annotations

import re
from pathlib import Path

import pytest

from gyrus.errors import HELP, DataError, GyrusError, LeakageError, help_page

ROOT = Path(__file__).parents[1]


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("address", sorted(set(HELP.values())))
def test_every_page_and_section_exists(address):
    page, _, anchor = address.partition("#")
    assert not anchor or anchor in _anchors(ROOT / page)


def test_the_nearest_class_decides():
    class SpecialError(LeakageError):
        """A subclass."""

    assert help_page(SpecialError("", [])) == HELP[LeakageError]
    assert help_page(DataError("")) == help_page(GyrusError("")) == ""
