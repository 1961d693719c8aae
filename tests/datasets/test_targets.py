"""Numbers as targets: columns with numbers, the manifest, and the split by quantiles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, kfold, split
from gyrus.datasets.targets import CLASSES, Target, TargetScaling, number_texts, refuse_number
from gyrus.errors import ConfigError, DataError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(generate(6, 2, 2, 32), tmp_path_factory.mktemp("numbers") / "data", "csv")


def test_number_texts_give_each_number_one_spelling_and_refuse_words() -> None:
    assert number_texts(["62", "62.0", 62, " 61.50 ", None, "", np.nan, pd.NA], "age") == [
        *["62"] * 3,
        "61.5",
        *[None] * 4,
    ]
    with pytest.raises(DataError, match=r"'age' has 2 values that are no number: 'old', 'inf'.*--column label=age"):
        number_texts(["60", "old", "inf"], "age")


def test_a_column_of_numbers_becomes_the_target(tables: Path, tmp_path: Path) -> None:
    manifest = scan(tables, target="age")
    assert manifest.classes == ()
    assert manifest.target == Target("number", "age")
    expected = pd.read_csv(tables / "labels.csv").set_index("path")["age"]
    assert manifest.targets.tolist() == pytest.approx(expected.loc[manifest.table["sample"]].tolist())
    manifest.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    assert (loaded.target, loaded.digest) == (manifest.target, manifest.digest)
    classes = scan(tables)
    assert classes.target == CLASSES
    assert classes.digest != manifest.digest


def test_what_is_no_number_is_refused_in_words(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'sex' has .* no number"):
        scan(tables, target="sex")
    with pytest.raises(ConfigError, match="There is no column 'weight'"):
        scan(tables, target="weight")
    with pytest.raises(ConfigError, match="leave out class names"):
        scan(tables, target="age", classes=["a", "b"])
    folders = write(generate(4, 1, 2, 32), tmp_path / "folders")
    with pytest.raises(DataError, match="no table that belongs to its files, so the column 'age'"):
        scan(folders, target="age")
    with pytest.raises(ConfigError, match="Operating points need classes, but this predicts the number 'age'"):
        refuse_number(Target("number", "age"), "Operating points")


def test_missing_numbers_are_problems_and_numbers_may_differ_between_visits(tables: Path, tmp_path: Path) -> None:
    table = pd.read_csv(tables / "labels.csv")
    table["path"] = [str(tables / path) for path in table["path"]]
    table["session"] = table["slice"].map({0: "1", 1: "2"})
    table.loc[table["slice"] == 1, "age"] += 2
    table.loc[0, "age"] = None
    table.to_csv(tmp_path / "visits.csv", index=False)
    manifest = scan(tmp_path / "visits.csv", target="age")
    assert [str(problem).split(": ", 1)[1] for problem in manifest.problems] == [
        "label missing: add its age, or remove the sample"
    ]
    assert manifest.scored_units[1] == "visit"
    assert len(manifest) == len(table) - 1


def test_the_split_is_stratified_by_quantiles_of_the_number() -> None:
    ages = np.random.default_rng(0).uniform(20, 90, 100)
    rows = pd.DataFrame({"sample": [f"s{n:03d}" for n in range(100)], "label": [f"{age:.1f}" for age in ages]})
    rows = rows.assign(path=rows["sample"], subject=rows["sample"], digest=rows["sample"])
    manifest = Manifest.from_rows(rows, root=Path(), subject_kind="subject", target=Target("number", "age"))
    numbers = manifest.targets.set_axis(manifest.table["sample"])
    found = split(manifest, SplitConfig())
    assert {subset: len(samples) for subset, samples in found.samples.items()} == {"train": 65, "val": 15, "test": 20}
    quintiles = np.quantile(numbers, [0.2, 0.4, 0.6, 0.8])
    for subset, each in (("val", 3), ("test", 4)):
        inside = np.searchsorted(quintiles, numbers.loc[list(found.samples[subset])])
        assert np.bincount(inside).tolist() == [each] * 5
    for fold in kfold(manifest, SplitConfig(folds=5)):
        means = [numbers.loc[list(fold.samples[subset])].mean() for subset in ("train", "test")]
        assert abs(means[0] - means[1]) < 4
    assert split(manifest, SplitConfig()) == found


def test_the_scale_of_the_training_set() -> None:
    assert TargetScaling.fit([1.0, 3.0]) == TargetScaling(2.0, 1.0)
    with pytest.raises(DataError, match="all 3 images have 5"):
        TargetScaling.fit([5, 5, 5])
