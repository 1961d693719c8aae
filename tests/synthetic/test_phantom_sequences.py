from __future__ import annotations

import numpy as np
import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError
from gyrus.synthetic.phantom_layouts import phantom
from gyrus.synthetic.phantom_sequences import generate_sequences


def test_only_the_second_class_has_lesions_and_only_in_the_second_sequence():
    made = generate_sequences(4, 6, 64, seed=3)
    assert made.t1.class_names == ("Control", "Lesions")
    assert (made.lesions.any(axis=(1, 2, 3)) == [False, True, False, True]).all()
    ventricles = made.t1.structures == 1
    for number in (1, 3):
        lesions, flair, t1 = made.lesions[number], made.flair[number], made.t1.volumes[number]
        around = (t1 > 0) & ~lesions & ~ventricles[number]
        assert flair[lesions].mean() > flair[around].mean() + 40
        assert np.percentile(t1[lesions], 95) < np.percentile(t1[around], 99.5)
    again = generate_sequences(3, 6, 64, seed=3)
    assert np.array_equal(again.flair, made.flair[:3])


def test_the_files_are_sessions_with_two_grids(tmp_path):
    phantom(tmp_path / "data", subjects=4, slices=5, size=32, layout="sequences")
    manifest = scan(tmp_path / "data", channels={"t1": "T1w", "flair": "FLAIR"})
    assert manifest.table["label"].tolist() == ["Control", "Lesions"] * 2
    assert any(note.startswith("4 x a channel was resampled") for note in manifest.notes)


def test_an_odd_size_is_refused():
    with pytest.raises(ConfigError, match="must be even"):
        generate_sequences(2, 2, 33)
