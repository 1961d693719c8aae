"""Datalists of MONAI, read by MONAI and by Gyrus."""

from __future__ import annotations

import json

import pytest
from monai.data import load_decathlon_datalist

from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, leave_one_group_out, split
from gyrus.errors import DataError
from tests.support.sources import write_images


def entry(number: int, **fields) -> dict:
    return {"image": f"images/s{number}.png", "label": number % 2, "subject": f"p{number}", **fields}


@pytest.fixture
def write(tmp_path):
    write_images(tmp_path, *(f"images/s{number}.png" for number in range(12)))

    def written(**lists):
        file = tmp_path / "datalist.json"
        file.write_text(json.dumps({"name": "slices", "labels": {"0": "CN", "1": "AD"}, **lists}))
        return file

    return written


def test_subsets_and_images_are_those_that_monai_reads(write):
    file = write(
        training=[entry(n) for n in range(6)],
        validation=[entry(n) for n in (6, 7)],
        testing=[entry(n) for n in range(8, 12)],
    )
    manifest = scan(file)
    for key, subset in {"training": "train", "validation": "val", "testing": "test"}.items():
        theirs = load_decathlon_datalist(str(file), is_segmentation=False, data_list_key=key)
        ours = manifest.table[manifest.table["subset"] == subset]
        assert sorted(one["image"] for one in theirs) == sorted(str(manifest.root / path) for path in ours["path"])
        assert {one["image"]: str(one["label"]) for one in theirs} == {
            str(manifest.root / path): label for path, label in zip(ours["path"], ours["label"], strict=True)
        }
    assert split(manifest).method == "given"
    assert list(manifest.table["subject"][:2]) == ["p0", "p1"]


def test_folds_are_a_column_and_can_be_the_split(write):
    manifest = scan(write(training=[entry(n, fold=n // 4) for n in range(12)]))
    splits = leave_one_group_out(manifest, SplitConfig(group="fold", val=0.3))
    assert [set(one.subjects["test"]) for one in splits] == [
        {f"p{number}" for number in range(4 * fold, 4 * fold + 4)} for fold in range(3)
    ]


def test_test_images_without_label_are_left_out_of_training_and_predicted(write):
    training = [{"image": f"images/s{n}.png", "label": n % 2} for n in range(8)]
    file = write(training=training, testing=["images/s8.png", {"image": ["images/s9.png"]}])
    manifest = scan(file)
    assert len(manifest) == 8
    assert "2 images for testing without a label left out" in manifest.notes
    assert len(scan(file, labelled=False)) == 10


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"image": ["a.nii", "b.nii"], "label": 0}], "channels: give the folder"),
        ([{"image": "a.nii.gz", "label": "mask.nii.gz"}], "a datalist for segmentation"),
        ([{"image": "a.nii.gz"}], "no field label"),
    ],
)
def test_other_datalists_are_refused(write, images, message):
    with pytest.raises(DataError, match=message):
        scan(write(training=images))


def test_other_json_is_no_datalist(write, tmp_path):
    with pytest.raises(DataError, match="not a file that Gyrus reads"):
        scan(write(settings=[1, 2]))
    (tmp_path / "datalist.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        scan(tmp_path / "datalist.json", source="datalist")
