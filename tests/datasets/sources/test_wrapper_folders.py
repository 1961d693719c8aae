from __future__ import annotations

import re
from pathlib import Path

import pytest

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.listing import ScanRequest
from gyrus.datasets.sources.wrapper_folders import require_classes_at_the_top
from gyrus.errors import DataError
from tests.support.sources import write_images


def test_a_nested_copy_needs_a_choice_and_both_ways_out_work(tmp_path: Path) -> None:
    classes = [f"{label}/{label}{number}.png" for label in ("no", "yes") for number in range(3)]
    write_images(tmp_path, *classes, *(f"brain_set/{name}" for name in classes))

    with pytest.raises(DataError, match=r"brain_set .* names of classes beside it \(no, yes\)") as error:
        scan(tmp_path)
    patterns = re.findall(r"--files \'([^\']+)\'", str(error.value))
    beside, inside = scan(tmp_path, files=patterns), scan(tmp_path / "brain_set")

    assert beside.classes == inside.classes == ("no", "yes")
    assert beside.table["sample"].tolist() == inside.table["sample"].tolist() == classes
    assert beside.files is not None
    assert beside.files.left_aside == {"not asked for": 6}


def test_equal_folders_need_a_choice_and_both_ways_out_work(tmp_path: Path) -> None:
    names = [f"{w}/{c}/{n}.png" for w in ("Augmented", "Original") for c in ("Mild", "None") for n in range(2)]
    write_images(tmp_path, *names)

    with pytest.raises(DataError, match=r"same names: Mild, None.*/Original\..*--classes \'Augmented,Original\'"):
        scan(tmp_path)
    assert scan(tmp_path / "Original").classes == ("Mild", "None")
    assert scan(tmp_path, classes=["Augmented", "Original"]).classes == ("Augmented", "Original")
    assert len(scan(tmp_path, labelled=False)) == 8


UNCLEAR = {
    "one folder too many": [("set", "AD"), ("set", "NC")],
    "subsets inside": [("set", "train", "AD"), ("set", "test", "AD")],
    "a third class in the original only": [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("b", "y")],
    "a copy in another case": [("AD",), ("NC",), ("copy", "ad"), ("copy", "nc")],
}
CLEAR = {
    "classes": [("AD",), ("NC",)],
    "subjects": [("AD", "anna"), ("AD", "bert"), ("NC", "carl")],
    "numbered subjects in every class": [(label, f"p{number}") for label in ("AD", "NC") for number in range(4)],
    "visits and sequences": [(c, f) for c in ("AD", "NC") for f in ("T1", "FLAIR", "ses-1", "ses-2")],
    "planes": [(label, plane) for label in ("AD", "NC") for plane in ("axial", "coronal", "images", "masks")],
    "numbered subjects of one class": [("AD", f"sub-{number}") for number in range(5)],
    "nothing": [(), ()],
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_an_unclear_level_is_refused(case: str) -> None:
    with pytest.raises(DataError, match="Which level"):
        require_classes_at_the_top(Path("data"), UNCLEAR[case], ScanRequest())


@pytest.mark.parametrize("case", CLEAR)
def test_a_clear_level_is_accepted(case: str) -> None:
    require_classes_at_the_top(Path("data"), CLEAR[case], ScanRequest())
