from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.listing import ScanRequest
from gyrus.datasets.sources.side_by_side import holds_labels, require_one_sequence
from gyrus.errors import DataError
from tests.support import images
from tests.support.dicoms import write_series
from tests.support.heads import nifti, noise
from tests.support.sources import write_images, write_table

SEQUENCES = ("flair", "t1", "t1ce", "t2")


def _labels(shape: tuple[int, ...] = (7, 6, 5)) -> np.ndarray:
    labels = np.zeros(shape, np.int16)
    labels[1:6, 1:5] = 2
    labels[2:4, 2:4] = 4
    return labels


def _tumours(root: Path, label_name: str = "seg") -> Path:
    for number in range(6):
        name = f"Case_{number:03d}"
        folder = root / ("HGG", "LGG")[number % 2] / name
        for seed, sequence in enumerate(SEQUENCES):
            nifti(noise(seed=10 * number + seed), folder / f"{name}_{sequence}.nii.gz")
        nifti(_labels(), folder / f"{name}_{label_name}.nii.gz")
    return root


@pytest.mark.parametrize("label_name", ["seg", "gtv"])
def test_label_maps_are_left_aside_and_sequences_need_a_choice(label_name: str, tmp_path: Path) -> None:
    _tumours(tmp_path, label_name)

    with pytest.raises(DataError, match=r"4 kinds .*flair \(6\), t1 \(6\), t1ce \(6\), t2 \(6\)") as error:
        scan(tmp_path)
    command = re.search(r"--files \'(?P<pattern>[^\']+)\'", str(error.value))
    assert command is not None
    assert command["pattern"] == "*_t1.nii.gz"
    manifest = scan(tmp_path, files=command["pattern"])
    everything = scan(tmp_path, files="*")

    assert manifest.table["sample"].str.endswith("_t1.nii.gz").all()
    assert len(manifest) == 6
    assert manifest.files is not None
    assert everything.files is not None
    assert manifest.files.left_aside == {"not asked for": 24}
    assert everything.files.left_aside_note == "6 files left aside: 6 label maps"
    with pytest.raises(DataError, match=r"None of the 30 volumes of .* matches --files \*_pd"):
        scan(tmp_path, files="*_pd*")


def test_masks_of_images_are_left_aside_unless_they_are_all(tmp_path: Path) -> None:
    mask = images.encode(Image.fromarray((_labels((13, 11)) > 0).astype(np.uint8) * 255))
    write_images(tmp_path, *(f"{label}/p{number}.png" for label in ("AD", "NC") for number in range(3)))
    for file in sorted(tmp_path.rglob("*.png")):
        file.with_name(f"{file.stem}_mask.png").write_bytes(mask)
    (tmp_path / "NC/p2_mask.png").write_bytes(images.gray())  # the name alone does not decide

    assert len(scan(tmp_path, labelled=False)) == 12
    (tmp_path / "NC/p2_mask.png").write_bytes(mask)
    manifest = scan(tmp_path)
    assert len(manifest) == 6
    assert manifest.files is not None
    assert manifest.files.left_aside == {"label map": 6}
    assert len(scan(tmp_path, files="*_mask.png")) == 6


def test_gray_values_are_no_labels() -> None:
    assert holds_labels(_labels())
    assert holds_labels(np.zeros((4, 4)))
    assert not holds_labels(noise())
    assert not holds_labels(_labels() * 0.3)
    smooth = np.round(np.add.outer(np.arange(40), np.arange(50)))
    assert not holds_labels(smooth)


ASKED = {
    "as the whole name": ([f"AD/p{n}/{s}.nii" for n in range(3) for s in ("T1", "FLAIR")], "T1.nii"),
    "as a folder": ([f"AD/p{n}/{s}/scan.nii" for n in range(3) for s in ("T2", "DWI")], "*/T2/*"),
    "before a number": ([f"NC/p1_{s}_{n}.png" for n in range(3) for s in ("t2", "pd")], "*_t2_*"),
    "below a subset": ([f"test/NC/p1-{s}.mgz" for s in ("t2", "flair")], "*-t2.mgz"),
    "by unknown words": ([f"AD/p{n}_{s}.nii" for n in range(3) for s in ("left", "right")], "*_left.nii"),
}
ONE = {
    "class folders": [f"{label}/{n}.png" for label in ("T1", "T2", "FLAIR") for n in range(4)],
    "the same names in classes": [f"{label}/{name}.png" for label in ("AD", "NC") for name in ("anna", "bert")],
    "numbered slices": [f"AD/p{n}_{i}.png" for n in range(4) for i in range(4)],
    "visits and slices": [f"AD/sub-{n}_ses-{s}_slice-{i}.png" for n in range(3) for s in "ab" for i in range(3)],
    "one sequence": [f"AD/sub-{n}_T1w.nii.gz" for n in range(4)],
    "sites with different sequences": ["AD/p1_T1.nii", "AD/p2_T2.nii", "NC/p3_T1.nii", "NC/p4_FLAIR.nii"],
}


@pytest.mark.parametrize("case", ASKED)
def test_sequences_are_found(case: str) -> None:
    names, pattern = ASKED[case]
    with pytest.raises(DataError, match=re.escape(f"--files '{pattern}'")):
        require_one_sequence(Path(), names, ScanRequest())
    chosen = [name for name in names if ScanRequest(files=(pattern,)).wants(name)]
    assert 2 * len(chosen) == len(names)


@pytest.mark.parametrize("case", ONE)
def test_other_names_are_no_sequences(case: str) -> None:
    require_one_sequence(Path(), ONE[case], ScanRequest())


def test_series_with_several_descriptions_need_a_choice(tmp_path: Path) -> None:
    for number, description in itertools.product(range(4), ("Sag MPRAGE", "Ax FLAIR")):
        folder = tmp_path / ("AD", "NC")[number % 2] / f"p{number}"
        tags = {"PatientID": f"id{number}", "SeriesDescription": description, "ProtocolName": f"{description} 3T"}
        write_series(noise(seed=number).T[:3], folder, names=[f"{description[:2]}{n}" for n in range(3)], **tags)

    with pytest.raises(DataError, match=r"2 kinds of series .*Ax FLAIR \(4\), Sag MPRAGE \(4\).*'Sag MPRAGE'"):
        scan(tmp_path)
    by_description, by_protocol = scan(tmp_path, files="sag*"), scan(tmp_path, files=["*mprage 3T"])
    assert len(by_description) == 4
    assert by_description.digest == by_protocol.digest
    assert by_description.files is not None
    assert by_description.files.left_aside == {"not asked for": 12}
    assert len(scan(tmp_path, files="*")) == 8
    with pytest.raises(DataError, match=r"None of the 8 series .* Series: Ax FLAIR, Sag MPRAGE"):
        scan(tmp_path, files="T2*")


def test_files_are_selected_in_tables_and_bids(tmp_path: Path) -> None:
    names = [f"images/p{n}_{s}.png" for n in range(2) for s in ("t1", "t2")]
    write_images(tmp_path / "table", *names)
    write_table(tmp_path / "table" / "labels.csv", {"path": names, "label": ["AD", "AD", "NC", "NC"]})
    for subject, suffix in itertools.product(("sub-1", "sub-2"), ("T1w", "T2w", "dseg")):
        array = _labels() if suffix == "dseg" else noise(seed=int(subject[-1]))
        nifti(array, tmp_path / "bids" / subject / "anat" / f"{subject}_{suffix}.nii.gz")
    people = {"participant_id": ["sub-1", "sub-2"], "group": ["AD", "NC"]}
    write_table(tmp_path / "bids" / "participants.tsv", people)

    table, bids = scan(tmp_path / "table", files="*_t1.png"), scan(tmp_path / "bids", files="sub-*/*_T2w*")

    assert table.table["sample"].tolist() == ["images/p0_t1.png", "images/p1_t1.png"]
    assert bids.table["sample"].str.endswith("_T2w.nii.gz").all()
    assert table.files is not None
    assert bids.files is not None
    assert table.files.left_aside == {"not asked for": 2}
    assert bids.files.left_aside == {"not asked for": 2, "label map": 2}
