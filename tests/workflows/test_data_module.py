"""Training, validation and test sets of a split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gyrus.datasets import splits
from gyrus.datasets.store import open_store
from gyrus.types import SUBSETS
from gyrus.workflows.data_module import DataModule
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.load_data import scan_data
from tests.conftest import SMALL


def test_subsets_are_those_of_the_split_and_scaling_is_fitted_on_the_training_set(phantom_folder):
    settings = load_config("neuroflux-cnn", {**SMALL, "preprocessing.intensity.method": "dataset"}, data=phantom_folder)
    manifest = scan_data(settings.data, SILENT)
    split = splits.split(manifest, settings.split, seed=0)
    store = open_store(manifest, settings.preprocessing)
    data = DataModule.from_split(manifest, split, store, settings)
    for subset in SUBSETS:
        assert set(manifest.table["sample"].iloc[data.rows(subset)]) == set(split.samples[subset])
        assert len(data.dataset(subset)) == len(split.samples[subset])
    assert sorted(np.concatenate([data.rows(subset) for subset in SUBSETS])) == list(range(len(manifest)))
    swapped = {**split.samples, "val": split.samples["test"], "test": split.samples["val"]}
    other = DataModule.from_split(manifest, replace(split, samples=swapped), store, settings)
    assert other.normalisation == data.normalisation
