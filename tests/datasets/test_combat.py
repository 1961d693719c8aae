"""ComBat against its formulas written out in loops, and on sites of known shift and scale."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from gyrus.datasets.combat import ComBat, site_auc
from gyrus.errors import DataError
from tests.support.reference_values import SOURCES, reference, site_inputs


def three_sites(count=60, features=6, seed=0):
    """Features that depend on age; sites shift and scale them, and site c has older subjects."""
    random = np.random.default_rng(seed)
    site = np.repeat([0, 1, 2], [count // 2, count // 3, count - count // 2 - count // 3])
    age = random.normal(size=count) + 0.8 * (site == 2)
    expected = 10 + np.linspace(-1, 1, features) * age[:, None]
    truth = expected + random.normal(size=(count, features))
    shift = np.array([[0.0], [2.0], [-1.0]]) + 0.3 * random.normal(size=(3, features))
    scale = np.array([[1.0], [1.6], [0.7]]) * np.exp(0.1 * random.normal(size=(3, features)))
    seen = expected + (truth - expected) * scale[site] + shift[site]
    return seen, [["a", "b", "c"][number] for number in site], age, truth


def in_loops(values, sites, age):
    """Johnson et al. 2007 with one covariate, one number at a time; returns the harmonised features."""
    names = sorted(set(sites))
    members = {name: [row for row, site in enumerate(sites) if site == name] for name in names}
    result = np.zeros_like(values)
    total, width = values.shape
    standard = np.zeros_like(values)
    common, sigma = np.zeros_like(values), []
    for feature in range(width):
        # Least squares with one level per site: the slope is that of deviations from the means of the sites.
        above, below = 0.0, 0.0
        for rows in members.values():
            age_mean = sum(age[row] for row in rows) / len(rows)
            mean = sum(values[row, feature] for row in rows) / len(rows)
            above += sum((age[row] - age_mean) * (values[row, feature] - mean) for row in rows)
            below += sum((age[row] - age_mean) ** 2 for row in rows)
        slope = above / below
        levels = {
            name: sum(values[row, feature] - slope * age[row] for row in rows) / len(rows)
            for name, rows in members.items()
        }
        grand = sum(len(members[name]) / total * levels[name] for name in names)
        squares = sum((values[row, feature] - levels[sites[row]] - slope * age[row]) ** 2 for row in range(total))
        sigma.append(math.sqrt(squares / total))
        for row in range(total):
            common[row, feature] = grand + slope * age[row]
            standard[row, feature] = (values[row, feature] - common[row, feature]) / sigma[feature]
    for rows in members.values():
        n = len(rows)
        gamma_hat = [sum(standard[row, feature] for row in rows) / n for feature in range(width)]
        delta_hat = [
            sum((standard[row, feature] - gamma_hat[feature]) ** 2 for row in rows) / (n - 1)
            for feature in range(width)
        ]
        gamma_bar, delta_bar = sum(gamma_hat) / width, sum(delta_hat) / width
        tau2 = sum((each - gamma_bar) ** 2 for each in gamma_hat) / (width - 1)
        s2 = sum((each - delta_bar) ** 2 for each in delta_hat) / (width - 1)
        # The moments of the inverse gamma distribution: mean = theta / (lambda - 1), variance = mean^2 / (lambda - 2).
        lambda_ = delta_bar**2 / s2 + 2
        theta = delta_bar * (lambda_ - 1)
        for feature in range(width):
            gamma, delta = gamma_hat[feature], delta_hat[feature]
            for _ in range(500):
                gamma = (n * tau2 * gamma_hat[feature] + delta * gamma_bar) / (n * tau2 + delta)
                rest = sum((standard[row, feature] - gamma) ** 2 for row in rows)
                delta = (theta + rest / 2) / (n / 2 + lambda_ - 1)
            for row in rows:
                corrected = (standard[row, feature] - gamma) / math.sqrt(delta)
                result[row, feature] = common[row, feature] + sigma[feature] * corrected
    return result


def test_the_features_are_those_of_the_formulas(tmp_path):
    values, sites, age, _ = three_sites(30, features=4)
    combat = ComBat.fit(values, sites, age)
    np.testing.assert_allclose(combat.apply(values, sites, age), in_loops(values, sites, age), rtol=1e-5)
    combat.save(tmp_path / "combat.json")
    assert ComBat.load(tmp_path / "combat.json") == combat


@SOURCES
def test_training_subjects_are_those_of_neurocombat(source):
    features, sites, age = site_inputs(1, 36)
    expected = reference("neuroCombat", source)
    # neuroCombat stops its iterations at a relative change of 1e-4.
    for covariates, name in ((age, "age"), (None, "none")):
        found = ComBat.fit(features, sites, covariates).apply(features, sites, covariates)
        np.testing.assert_allclose(found, expected[name], rtol=1e-4)
        assert np.abs(found - features).max() > 1


@SOURCES
def test_new_subjects_are_those_of_neuroharmonize(source):
    features, sites, age = site_inputs(1, 36)
    new, where, old = site_inputs(2, 9)
    found = ComBat.fit(features, sites, age).apply(new, where, old)
    np.testing.assert_allclose(found, reference("neuroHarmonize", source)["new"], rtol=1e-4)


def test_the_site_cannot_be_read_afterwards_and_age_still_can():
    values, sites, age, truth = three_sites(600)
    train = np.arange(600) % 2 == 0
    chosen = [site for site, use in zip(sites, train, strict=True) if use]
    rest = [site for site, use in zip(sites, train, strict=True) if not use]
    combat = ComBat.fit(values[train], chosen, age[train])
    new = combat.apply(values[~train], rest, age[~train])
    # New subjects of the same sites, whose values played no part in the fit. Ages differ between sites: their effect is
    # kept, so it is taken away before the site is read.
    known = np.linspace(-1, 1, 6) * age[~train][:, None]
    before, after = site_auc(values[~train] - known, rest), site_auc(new - known, rest)
    assert before > 0.9
    assert after < 0.62
    for number in (0, 5):
        assert np.corrcoef(new[:, number], truth[~train][:, number])[0, 1] > 0.97
    slopes = [np.polyfit(age[~train], new[:, number], 1)[0] for number in (0, 5)]
    assert slopes[0] < -0.8
    assert slopes[1] > 0.8


def test_new_subjects_do_not_change_the_fit_and_are_independent_of_each_other():
    values, sites, age, _ = three_sites()
    combat = ComBat.fit(values, sites, age)
    whole = combat.apply(values, sites, age)
    one = combat.apply(values[7:8] * 1.0, [sites[7].upper() + " "], age[7:8])
    np.testing.assert_allclose(one[0], whole[7])


def test_one_feature_is_aligned_without_a_prior():
    values, sites, _, _ = three_sites(features=1)
    out = ComBat.fit(values, sites).apply(values, sites)[:, 0]
    by_site = [out[[site == name for site in sites]] for name in "abc"]
    np.testing.assert_allclose([part.mean() for part in by_site], out.mean())
    np.testing.assert_allclose([part.std(ddof=1) for part in by_site], by_site[0].std(ddof=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": ["a"] * 60}, "at least two sites"),
        ({"sites": ["a"] * 59 + ["b"]}, "b has one"),
        ({"values": np.full((60, 6), np.nan)}, "without missing values"),
        ({"age": np.ones(60)}, "cannot tell the covariates from the sites"),
        ({"sites": ["a", "b"]}, "60 subjects and 2 sites"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    values, sites, age, _ = three_sites()
    given = {"values": values, "sites": sites, "age": age} | change
    with pytest.raises(DataError, match=message):
        ComBat.fit(given["values"], given["sites"], given["age"])


def test_an_unknown_site_and_other_columns_are_refused():
    values, sites, age, _ = three_sites()
    combat = ComBat.fit(values, sites, age)
    with pytest.raises(DataError, match=re.escape("first: 'd'. Its shift and scale are unknown")):
        combat.apply(values[:2], ["a", "d"], age[:2])
    with pytest.raises(DataError, match="fitted on 6 features and 1 covariate"):
        combat.apply(values, sites)
