from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.table_columns import current_roles, find_columns, further, name_labels, subsets
from gyrus.errors import UnknownNameError
from tests.support.sources import write_images, write_table


def test_a_former_role_is_understood_and_an_unknown_one_refused() -> None:
    assert current_roles({"part": "fold"}) == {"subset": "fold"}
    with pytest.raises(UnknownNameError, match="subset"):
        current_roles({"subsett": "fold"})


def test_a_former_role_is_noted_with_its_current_name(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    columns = {"path": ["a.png", "b.png"], "label": ["AD", "NC"], "fold": ["train", "test"]}
    file = write_table(tmp_path / "table.csv", columns)
    manifest = scan(file, columns={"part": "fold"})
    assert manifest.table["subset"].tolist() == ["train", "test"]
    assert manifest.notes == ("the column role 'part' is now called 'subset'",)


@pytest.mark.parametrize("name", ["subset", "part", "Split", "set"])
def test_columns_of_subsets_are_recognised(name: str) -> None:
    assert find_columns(["path", name], {}) == {"path": "path", "subset": name}


def test_cells_are_read_by_role() -> None:
    assert subsets(["Training", None, "dev"], "split") == ["train", None, "val"]
    assert name_labels(["0", "1", "-1"], ["NC", "AD"]) == ["NC", "AD", None]
    assert further(pd.Series(["1", "n/a", "2.5"])).dtype.kind == "f"
