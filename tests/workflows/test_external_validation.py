"""External validation: people in both, class names, and what is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.evaluation.external_validation import HELD_OUT, LEARNT, ExternalValidation
from gyrus.export.manifest import write_checksums
from gyrus.inference.predictions import SUBJECT_OF_VISIT
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.display import SILENT
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.validated_bundle import ValidatedBundle
from gyrus.workflows.validated_classifier import ValidatedClassifier
from gyrus.workflows.validated_run import ValidatedRun
from tests.support.command_line import refused, succeeded, without_torch
from tests.support.external_validation import require_same_results


@pytest.fixture(scope="module")
def cohort(finished_run: Path, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten new subjects, and one of each subset of the run, that of the test set under another name."""
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    write(generate(subjects=10, slices=4, classes=2, size=32, seed=7), folder)
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("sub-P", "sub-X")))
    known = sorted(phantom_folder.rglob("*.png"))
    split = Split.load(Run(finished_run).split)
    subjects = [min(split.subjects[subset]) for subset in ("train", "val", "test")]
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
    assert found.verdict()[0].startswith("3 subjects of the cohort are also in the data of the classifier")
    assert found.likeness is not None
    assert found.pixels_compared
    again = ExternalValidation.load(tmp_path / "out" / "external_validation.json")
    assert again.verdict() == found.verdict()
    hostile = replace(found, cohort="new\x1b[31m\nDifference: 0", notes=("a\nb",)).text()
    assert "\x1b" not in hostile
    assert not [line for line in hostile.splitlines() if line in ("Difference: 0", "b")]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "also in the data of the classifier" in page
    with pytest.raises(GyrusError, match="is not an empty folder"):
        external_validation(finished_run, cohort, out=tmp_path / "out")


def test_a_bundle_gives_the_results_of_the_run_without_torch(finished_run, exported, cohort, tmp_path):
    """People of training, validation and test set, under their own or other names; scores, points, unlike scans."""
    text = succeeded("test", finished_run, cohort, "--out", tmp_path / "run", "--resamples", 20, "-q")
    without_torch("test", exported, cohort, "--out", tmp_path / "bundle", "--resamples", 20, "-q")
    run, bundle = (ExternalValidation.load(tmp_path / name / "external_validation.json") for name in ("run", "bundle"))
    require_same_results(run, bundle)
    assert run.points
    assert run.likeness.reference_count == bundle.likeness.reference_count > 0
    assert {each.known_as for each in bundle.set_aside} == {"not named"}
    subsets = {each.subject: each.subset for each in run.set_aside}
    assert {each.subject: each.subset for each in bundle.set_aside} == {
        name: LEARNT if subset in ("train", "val") else HELD_OUT for name, subset in subsets.items()
    }
    assert "pixels were not compared" in (tmp_path / "bundle" / "external_validation.txt").read_text(encoding="utf-8")
    assert "pixels were not compared" not in text
    page = (tmp_path / "bundle" / "report.html").read_text(encoding="utf-8")
    assert "pixels were not compared" in page
    assert "sub-" not in (exported / "internal_scores.json").read_text(encoding="utf-8")


def test_images_that_were_saved_again_are_found_by_their_pixels(finished_run, exported, phantom_folder, tmp_path):
    """A bundle finds copies without loss; a run, which has its images, also those that were changed."""
    subjects = Split.load(Run(finished_run).split).subjects
    train, test = sorted(subjects["train"]), sorted(subjects["test"])
    names = {"sub-Again": train[0], "sub-Held": test[0], "sub-Paler": train[-1]}
    for other, name in names.items():
        for path in sorted(phantom_folder.rglob(f"{name}_*.png")):
            target = tmp_path / "cohort" / path.parent.name / path.name.replace(name, other)
            target.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            changed = image.point(lambda value: value * 0.9) if other == "sub-Paler" else image
            changed.convert("RGB" if other == "sub-Held" else "L").save(target, compress_level=1)
            assert target.read_bytes() != path.read_bytes()
    cohort = scan(tmp_path / "cohort")
    by_run = ValidatedRun(Run.open(finished_run), "cpu").people_in_both(cohort, "set-aside", SILENT)
    assert [(found.subject, found.known_as, found.reason) for found in by_run.found] == [
        (other, names[other], "pixels") for other in sorted(names)
    ]
    by_bundle = ValidatedBundle(exported).people_in_both(cohort, "set-aside", SILENT)
    assert [(found.subject, found.subset, found.reason) for found in by_bundle.found] == [
        ("sub-Again", LEARNT, "pixels"),
        ("sub-Held", HELD_OUT, "pixels"),
    ]
    assert not by_bundle.pixels_compared
    assert "equal after the preprocessing" in by_bundle.not_compared


def test_bundles_without_digests_of_images_do_not_compare_them(exported, phantom_folder, tmp_path):
    """Those of earlier versions, and those whose images were not at hand at export."""
    bundle = Path(shutil.copytree(exported, tmp_path / "bundle"))
    known = json.loads((bundle / "training_subjects.json").read_text())
    assert len(known.pop("pixels")) == len(known["files"])
    assert len(known.pop("held_out_pixels")) == len(known["held_out_files"])
    (bundle / "training_subjects.json").write_text(json.dumps(known))
    write_checksums(bundle)
    found = ValidatedBundle(bundle).people_in_both(scan(phantom_folder), "keep", SILENT)
    assert len(found.found) == 24
    assert {each.reason for each in found.found} == {"file"}
    assert "saved again" in found.not_compared


def test_a_bundle_refuses_what_it_cannot_do(exported, cohort, tmp_path):
    out = tmp_path / "out"
    assert "the device 'cuda'" in refused("test", exported, cohort, "--out", out, "--device", "cuda", "-q")
    assert refused("test", tmp_path, cohort, "--out", out, "-q").startswith("Error: There is no run in")
    damaged = Path(shutil.copytree(exported, tmp_path / "damaged"))
    for name in ("internal_scores.json", "training_subjects.json"):
        (damaged / name).write_text("{}", encoding="utf-8")
        assert f"{name} has changed" in refused("test", damaged, cohort, "--out", out, "-q")
        shutil.copy(exported / name, damaged / name)
    assert not out.exists()


def test_visits_of_a_cohort_keep_their_subjects(tmp_path):
    """Where labels change between visits, visits are scored, and subjects are resampled."""

    class Guessing(ValidatedClassifier):
        classes = ("Control", "Dementia")
        scan = people_in_both = None

        def _outputs(self, cohort, *_arguments):
            return np.zeros((len(cohort), 2)), {}

    Guessing.__abstractmethods__ = frozenset()
    write(generate(subjects=2, slices=1, classes=2, size=32, seed=7), tmp_path / "data")
    manifest = scan(tmp_path / "data")
    table = manifest.table.assign(subject="P1", session=["1", "2"])
    assert table["label"].nunique() == 2
    found = Guessing().predict(replace(manifest, table=table), SILENT)
    assert found.subject_kind == "visit"
    assert found.table[SUBJECT_OF_VISIT].tolist() == ["P1", "P1"]
    assert found.table["subject"].nunique() == 2


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
