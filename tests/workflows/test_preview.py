from __future__ import annotations

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows.preview import augment_preview


def test_the_random_steps_of_a_recipe_are_drawn_on_the_data(phantom_folder):
    every = augment_preview(phantom_folder, images=2)
    some = augment_preview(phantom_folder, config="neuroflux-cnn", images=2)
    assert 0 < len(some.axes) < len(every.axes)


def test_the_figure_is_saved_or_its_suffix_is_refused(phantom_folder, tmp_path):
    augment_preview(phantom_folder, out=tmp_path / "sheet.png", config="neuroflux-cnn", images=1)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    with pytest.raises(ConfigError, match=r"--out must end in"):
        augment_preview(phantom_folder, out=tmp_path / "sheet.txt")
