"""A site that shows in columns is found, and found to be gone after harmonisation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gyrus.datasets.table_features import Harmonisation, HarmoniseConfig
from gyrus.evaluation.site_check import HarmonisedSubjects, SiteCheck, check_site

COLUMNS = ("cortex", "ventricles", "hippocampus")


def people(count: int, *, shift: float, seed: int = 0) -> pd.DataFrame:
    """Volumes that fall with age; site b shifts and spreads them, and its subjects are older."""
    random = np.random.default_rng(seed)
    site = np.resize(["a", "b"], count)
    age = random.normal(60, 8, count) + 10 * (site == "b")
    table = pd.DataFrame({"site": site, "age": age, "sex": np.resize(["F", "F", "M"], count)})
    for number, name in enumerate(COLUMNS):
        noise = random.normal(size=count) * np.where(site == "b", 1 + shift / 4, 1)
        table[name] = 20 - 0.2 * age + noise + (shift + number / 10) * (site == "b")
    return table


def checked(shift: float, keep: tuple[str, ...]) -> SiteCheck:
    harmonisation = Harmonisation.fit(people(200, shift=shift), HarmoniseConfig(columns=COLUMNS, keep=keep))
    new = HarmonisedSubjects(harmonisation, *harmonisation.features(people(120, shift=shift, seed=1)))
    return check_site([new], subjects="held out", resamples=300)


def test_a_site_that_leaks_is_found_and_harmonised(tmp_path):
    found = checked(2.0, ("age",))
    assert found.before.low > 0.8
    assert found.after.low < 0.5
    text = found.text()
    assert "keeping age" in text
    assert "The site is no longer shown to be readable from these columns, beyond age: ROC AUC" in text
    assert "120 subjects outside the training set" in text
    found.save(tmp_path / "check.json")
    assert SiteCheck.load(tmp_path / "check.json") == found


def test_the_subjects_of_several_folds_are_checked_together():
    table = people(200, shift=2.0)
    parts = []
    for fold in range(4):
        tested = np.arange(len(table)) % 8 // 2 == fold
        config = HarmoniseConfig(columns=COLUMNS, keep=("age",))
        harmonisation = Harmonisation.fit(table[~tested], config)
        parts.append(HarmonisedSubjects(harmonisation, *harmonisation.features(table[tested])))
    found = check_site(parts, subjects="out-of-fold", resamples=300)
    assert found.count == 200
    assert found.before.low > 0.8
    assert found.after.low < 0.5
    assert "200 subjects each outside the training set of its fold" in found.text()


def test_without_an_effect_of_the_site_none_is_claimed():
    assert "It was not shown that the site can be read" in checked(0.0, ("age",)).text()
