from __future__ import annotations

import numpy as np
import pytest

from gyrus.audit import nearest_neighbours as module
from gyrus.audit.nearest_neighbours import find_neighbours, standardise
from gyrus.synthetic.phantom import generate


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return generate(subjects=20, slices=32, classes=2, size=64, seed=3).volumes.reshape(-1, 64, 64)


def test_small_sets_are_searched_by_correlation(pictures: np.ndarray) -> None:
    few = pictures[::8]
    found = find_neighbours(few, count=3)
    correlation = np.corrcoef(few.reshape(len(few), -1).astype(float))
    mirrored = np.corrcoef(few.reshape(len(few), -1), few[:, :, ::-1].reshape(len(few), -1).astype(float))
    best = np.maximum(correlation, mirrored[: len(few), len(few) :].T)
    np.fill_diagonal(best, -2)
    np.testing.assert_allclose(found.correlation[:, 0], best.max(axis=1), atol=1e-4)
    np.testing.assert_allclose(found.similarity, found.correlation, atol=1e-4)


def test_neighbours_are_distinct_others_in_falling_order(pictures: np.ndarray) -> None:
    found = find_neighbours(pictures)
    assert (found.index != np.arange(len(pictures))[:, None]).all()
    assert all(len(set(row)) == len(row) for row in found.index.tolist())
    assert (np.diff(found.similarity, axis=1) <= 1e-6).all()


def test_mirrored_copies_are_found_as_such(pictures: np.ndarray) -> None:
    both = np.concatenate([pictures, pictures[:40, :, ::-1]])
    found = find_neighbours(both)
    rows = np.arange(len(pictures), len(both))
    np.testing.assert_array_equal(found.index[rows, 0], rows - len(pictures))
    assert found.mirrored[rows, 0].all()
    np.testing.assert_allclose(found.correlation[rows, 0], 1.0, atol=1e-4)


def test_cells_find_nearly_what_all_comparisons_find(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = find_neighbours(pictures)
    monkeypatch.setattr(module, "EXACT_LIMIT", 100)
    monkeypatch.setattr(module, "CELL", 32)
    celled = find_neighbours(pictures)
    assert (celled.index[:, 0] == exact.index[:, 0]).mean() > 0.97


def test_standardised_rows_have_correlations_as_products() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (5, 8, 8), dtype=np.uint8)
    rows = standardise(pictures)
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(pictures.reshape(5, -1)), atol=1e-5)
