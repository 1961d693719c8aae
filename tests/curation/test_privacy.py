"""Personal data in headers are not in anything that Gyrus writes, prints or logs."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from gyrus.cli.app import app
from gyrus.curation.privacy import kinds_in_text, privacy_warnings
from gyrus.datasets.scan import scan
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from tests.support.dicoms import write_series
from tests.support.heads import nifti

PERSON = {
    "PatientName": "Quirrelwood^Zebedee",
    "PatientBirthDate": "19480312",
    "PatientAddress": "7 Mulberry Crescent",
    "ReferringPhysicianName": "Thistlethwaite^Ada",
    "AccessionNumber": "ACC778899",
    "InstitutionName": "Saint Ottoline",
    "StudyDate": "20210716",
    "StudyID": "STUDY5511",
    "SeriesDescription": "T1 of Quirrelwood",
}
KEPT = "Gyrus copies no personal data from headers, but keeps file names."
SECRETS = [
    *("Quirrelwood", "Zebedee", "19480312", "Mulberry", "Thistlethwaite", "ACC778899", "Ottoline", "20210716"),
    *("STUDY5511", "MRN-55", "9.8.7.6.5"),
]
TINY = {
    "data.stack.slices": 4,
    "preprocessing.steps": [{"step": "grayscale"}, {"step": "resize", "size": [32, 32]}],
    "model": {"name": "baseline-cnn"},
    "training.epochs": 1,
    "evaluation.resamples": 10,
}


def _slices(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, (4, 32, 32)).astype(np.uint16)


@pytest.fixture(scope="module")
def dicoms(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scans")
    for number in range(12):
        label = ("AD", "NC")[number % 2]
        study = f"9.8.7.6.5.{number}"
        tags = {**PERSON, "PatientID": f"MRN-55{number:02d}", "StudyInstanceUID": study}
        write_series(_slices(number), root / label / f"p{number}", series=f"{study}.1", **tags)
    return root


def _leaks(folder: Path) -> list[tuple[str, str]]:
    """Files that contain a secret, including compressed files and the columns of Parquet."""
    import gzip

    import pandas as pd

    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        content = str(file).encode() + file.read_bytes()
        if file.suffix == ".gz":
            content += gzip.decompress(file.read_bytes())
        if file.suffix == ".parquet":
            content += pd.read_parquet(file).to_csv().encode()
        found += [(file.name, secret) for secret in _secrets_in(content)]
    return found


def _secrets_in(content: bytes) -> list[str]:
    """Secrets in a text. A date counts as a whole number only: its digits occur by chance in decimals and digests."""
    return [secret for secret in SECRETS if re.search(_pattern(secret), content)]


def _pattern(secret: str) -> bytes:
    escaped = re.escape(secret.encode())
    return rb"(?<![0-9A-Fa-f.])" + escaped + rb"(?![0-9A-Fa-f])" if secret.isdigit() else escaped


def test_the_search_finds_secrets(dicoms):
    assert {secret for _, secret in _leaks(dicoms)} == set(SECRETS)
    assert _secrets_in(b"born 19480312, scanned_20210716.") == ["19480312", "20210716"]
    assert _secrets_in(b"0.4519480312, 719480312, ab20210716ef") == []


def test_nothing_of_a_header_is_written_or_printed(dicoms, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    manifest = scan(dicoms)
    manifest.save(tmp_path / "manifest.parquet")
    assert manifest.table["subject"].tolist() == [f"{label}/p{n}" for n, label in _subjects()]
    run = train("adni-convnext3d", data=dicoms, out=tmp_path / "run", overrides=TINY)
    predict(run, [dicoms / "AD" / "p0"]).export(tmp_path / "predictions.csv")
    command = CliRunner()
    texts = [privacy_warnings(manifest), manifest.notes]
    for to in ("nifti", "bids", "stack", "parquet"):
        result = command.invoke(app, ["data", "convert", str(dicoms), "--to", to, "--out", str(tmp_path / to)])
        assert result.exit_code == 0, result.output
        texts.append(result.output)
    for arguments in (
        ["data", "scan", str(dicoms), "--out", str(tmp_path / "scan.parquet")],
        ["data", "preview", str(dicoms / "AD" / "p0"), "--out", str(tmp_path / "preview.svg")],
    ):
        result = command.invoke(app, arguments)
        assert result.exit_code == 0, result.output
        texts.append(result.output)
    printed = f"{texts} {capfd.readouterr()} {caplog.text}"
    assert "a name (PatientName)" in printed
    assert _secrets_in(printed.encode()) == []
    assert _leaks(tmp_path) == []


def _subjects() -> list[tuple[int, str]]:
    return [(n, "AD") for n in (0, 10, 2, 4, 6, 8)] + [(n, "NC") for n in (1, 11, 3, 5, 7, 9)]


def test_damaged_headers_are_not_quoted(tmp_path):
    for number, label in enumerate(("AD", "NC", "NC")):
        write_series(_slices(number), tmp_path / label / f"p{number}", **PERSON, PatientID=f"MRN-55{number}")
    victim = tmp_path / "NC" / "p2" / "IM001.dcm"
    content = bytearray(victim.read_bytes())
    place = content.index(b"\x20\x00\x32\x00")  # the position of the slice
    content[place + 8 : place + 14] = b"Zebede"
    victim.write_bytes(bytes(content))
    problems = scan(tmp_path).problems
    assert len(problems) == 1
    assert not any(secret in str(problems) for secret in [*SECRETS, "Zebede"])


def test_nifti_headers_are_not_copied_and_cause_warnings(tmp_path):
    for number, label in enumerate(("AD", "NC")):
        array = array_from_slices(_slices(number))
        path = nifti(
            array, tmp_path / "a" / label / f"sub-{number}_T1w.nii.gz", affine_from_slices((1, 1, 1), (4, 32, 32))
        )
        image = nib.load(path)
        image.header["descrip"] = b"Quirrelwood^Zebedee 1948-03-12"
        image.header["aux_file"] = b"MRN-55"
        nib.save(image, path)
    manifest = scan(tmp_path / "a")
    manifest.save(tmp_path / "b" / "manifest.parquet")
    from gyrus.curation.convert import convert

    convert(manifest, "nifti", tmp_path / "b" / "nifti")
    assert _leaks(tmp_path / "b") == []
    assert privacy_warnings(manifest) == (
        "2 image headers contain what looks like a birth date. " + KEPT,
        "2 image headers contain what looks like a name. " + KEPT,
    )


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("AD/Smith_John.nii.gz", {"name"}),
        ("AD/MARIA GARCIA/series-001", {"name"}),
        ("DOE^JANE/IM1", {"name"}),
        ("NC/19480312_t1.nii", {"birth date"}),
        ("NC/12.03.1948.png", {"birth date"}),
        ("Moderate_Demented/sub-P001_ses-02_T1w.nii.gz", set()),
        ("AD_NC/train/AD/388206_78.jpeg", set()),
        ("006_S_6677_MR_Axial_2D_PASL_Br_20201223_S974352_I1379911_34.jpg", set()),
        ("OAS1_0028_MR1_mpr-1_100.jpg", set()),
        ("images/19991399.png", set()),
        ("john.png", set()),
    ],
)
def test_names_and_birth_dates_are_recognised(text, kinds):
    assert kinds_in_text(text) == {f"what looks like a {kind}" for kind in kinds}
