"""External validation: people in both, class names, and what is written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.evaluation.external_validation import ExternalValidation
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.external_validation import external_validation


@pytest.fixture(scope="module")
def cohort(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten new subjects, and three of the data of the run: two under their own names, one under another name."""
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    write(generate(subjects=10, slices=4, classes=2, size=32, seed=7), folder)
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("sub-P", "sub-X")))
    known = sorted(phantom_folder.rglob("*.png"))
    subjects = list(dict.fromkeys(path.name.split("_")[0] for path in known))[:3]
    for path in known:
        subject = path.name.split("_")[0]
        if subject in subjects:
            name = path.name.replace(subject, "sub-Z001") if subject == subjects[2] else path.name
            shutil.copy(path, folder / path.parent.name / name)
    return folder


def test_people_of_the_run_are_set_aside_and_the_others_evaluated(finished_run, cohort, tmp_path):
    found = external_validation(finished_run, cohort, out=tmp_path / "out", resamples=20)
    assert {each.reason for each in found.set_aside} == {"file"}
    assert len(found.set_aside) == 3
    assert "sub-Z001" in {each.subject for each in found.set_aside}
    assert found.external.scores["subject"].count == 10
    assert found.verdict()[0].startswith("3 subjects of the cohort are also in the data of the run")
    assert found.likeness is not None
    assert found.pixels_compared
    again = ExternalValidation.load(tmp_path / "out" / "external_validation.json")
    assert again.verdict() == found.verdict()
    hostile = replace(found, cohort="new\x1b[31m\nDifference: 0", notes=("a\nb",)).text()
    assert "\x1b" not in hostile
    assert not [line for line in hostile.splitlines() if line in ("Difference: 0", "b")]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "also in the data of the run" in page
    with pytest.raises(GyrusError, match="is not an empty folder"):
        external_validation(finished_run, cohort, out=tmp_path / "out")


def test_other_class_names_are_mapped_or_refused(finished_run, cohort, tmp_path):
    renamed = shutil.copytree(cohort, tmp_path / "renamed")
    (renamed / "Dementia").rename(renamed / "AD")
    with pytest.raises(ConfigError, match=r"classes \['AD'\].*--map 'AD="):
        external_validation(finished_run, renamed, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="--map names 'Dementias'"):
        external_validation(finished_run, renamed, out=tmp_path / "out", class_map={"AD": "Dementias"})


def test_nobody_left_is_an_error(finished_run, phantom_folder, tmp_path):
    with pytest.raises(DataError, match="nobody is left"):
        external_validation(finished_run, phantom_folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
