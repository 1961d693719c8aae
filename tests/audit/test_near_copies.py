"""Altered copies among images of unknown subjects: found, remembered, and kept in one subset by every new split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import gyrus
from gyrus.audit import near_copies
from gyrus.audit.near_copies import with_near_copies
from gyrus.auto.trainings import assign_folds
from gyrus.datasets.copies import may_hide_copies
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import Split, SplitConfig, split, split_off
from gyrus.types import SUBSETS
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.prepare import write_split

COPIES = {frozenset({"a/00.png", "b/91.png"}), frozenset({"a/02.png", "a/92.png", "a/93.png"})}
BY_IMAGE = {"split.unit": "image", "data.subject_rule": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Thirty images that differ, a mirrored copy of one and two altered copies of another; two classes."""
    place = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in "ab":
        (place / name).mkdir()
    images = [ndimage.gaussian_filter(random.normal(size=(48, 48)), 3) for _ in range(30)]
    gray = [np.uint8(30 + 170 * (one - one.min()) / np.ptp(one)) for one in images]
    named = {f"{'ab'[number % 2]}/{number:02}.png": image for number, image in enumerate(gray)}
    named |= {
        "b/91.png": gray[0][:, ::-1],
        "a/92.png": np.uint8(gray[2] * 0.8),
        "a/93.png": np.clip(gray[2] + random.normal(size=(48, 48)), 0, 255).astype(np.uint8),
    }
    for name, pixels in named.items():
        Image.fromarray(pixels).save(place / name)
    return place


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))


def subsets_of(found: Split) -> dict[str, str]:
    return {sample: subset for subset in SUBSETS for sample in found.samples[subset]}


def test_altered_copies_are_found_once_and_saved_with_the_manifest(folder, tmp_path, monkeypatch):
    found = with_near_copies(scan(folder, subject_rule="none"))
    assert set(map(frozenset, found.near_copies)) == COPIES
    found.save(tmp_path / "manifest.parquet")
    assert Manifest.load(tmp_path / "manifest.parquet").near_copies == found.near_copies
    monkeypatch.setattr(near_copies, "read_thumbnails", lambda *_, **__: pytest.fail("searched for again"))
    assert with_near_copies(scan(folder, subject_rule="none")).near_copies == found.near_copies


def test_a_damaged_record_is_searched_for_again(folder, tmp_path):
    found = with_near_copies(scan(folder, subject_rule="none"))
    (file,) = (tmp_path / "cache" / "near-copies").iterdir()
    file.write_text("{")
    assert with_near_copies(scan(folder, subject_rule="none")).near_copies == found.near_copies


def test_images_that_all_look_alike_are_no_copies(folder, monkeypatch):
    monkeypatch.setattr(near_copies, "LARGEST_GROUP", 2)
    found = with_near_copies(scan(folder, subject_rule="none"))
    assert set(map(frozenset, found.near_copies)) == {each for each in COPIES if len(each) == 2}


def test_every_new_split_keeps_copies_in_one_subset(folder, tmp_path):
    settings = load_config(None, BY_IMAGE, data=str(folder))
    manifest = scan_to_train(settings, SILENT)
    for seed in range(10):
        of = subsets_of(split(manifest, settings.split, seed=seed))
        assert all(len({of[sample] for sample in group}) == 1 for group in COPIES)
    assert any("5 images are in 2 groups of copies" in note for note in split(manifest, settings.split).notes)
    kfold = settings.split.model_copy(update={"method": "kfold", "folds": 3})
    fold_of = assign_folds(manifest, kfold, seed=0, given=False)
    assert all(len({fold_of[sample] for sample in group}) == 1 for group in COPIES)
    inside = {sample for sample, fold in fold_of.items() if fold == 0}
    assert set(split_off(manifest, kfold, inside).samples["test"]) == inside
    _, written = write_split(
        folder, tmp_path / "split.json", split=settings.split, data=settings.data.model_copy(update={"path": None})
    )
    assert written.samples == split(manifest, settings.split).samples


def test_a_cross_validation_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.workflows.crossval._report", lambda *_: None)
    quick = {
        **BY_IMAGE,
        "data.stack": None,
        "preprocessing.steps.1.size": [16, 16],
        "model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
        "evaluation": {"baselines": False, "report": False, "resamples": 20, "unlike_training": False},
    }
    found = gyrus.crossval("linear-voxels", data=folder, out=tmp_path / "folds", folds=2, overrides=quick)
    assert any("5 images are in 2 groups of copies" in note for note in found.pooled[0].notes)


def test_each_image_alone_on_request(folder):
    settings = load_config(None, {**BY_IMAGE, "split.near_copies": "apart"}, data=str(folder))
    manifest = scan_to_train(settings, SILENT)
    assert not manifest.near_copies
    splits = [subsets_of(split(manifest, settings.split, seed=seed)) for seed in range(10)]
    assert any(len({of[sample] for sample in group}) > 1 for of in splits for group in COPIES)


def test_nothing_is_searched_for_where_a_split_by_subject_keeps_images_together(folder, phantom_folder, monkeypatch):
    unknown = scan(folder, subject_rule="none")
    assert may_hide_copies(unknown)
    named = unknown.table.assign(subject=unknown.table["sample"])
    assert may_hide_copies(Manifest.from_rows(named, root=folder, subject_kind="subject"))
    pairs = unknown.table.assign(subject=[f"s{number // 2}" for number in range(len(unknown))])
    assert not may_hide_copies(Manifest.from_rows(pairs, root=folder, subject_kind="subject"))
    assert not may_hide_copies(scan(phantom_folder))
    monkeypatch.setattr("gyrus.datasets.copies.MOST_IMAGES", 32)
    assert not may_hide_copies(unknown)


def test_subsets_of_the_data_stay_as_they_are(folder):
    settings = load_config(None, {"split": SplitConfig(unit="image", method="given").model_dump()}, data=str(folder))
    assert not scan_to_train(settings, SILENT).near_copies
