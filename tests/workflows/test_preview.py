from __future__ import annotations

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows.display import Silent
from gyrus.workflows.preview import augment_preview, preview
from tests.support.heads import nifti, noise


class Lines(Silent):
    """Keeps the lines shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_personal_data_in_the_name_of_a_volume_cause_a_warning(tmp_path):
    path = tmp_path / "Smith_John_T1w.nii"
    nifti(noise(), path)
    display = Lines()
    preview(path, out=tmp_path / "sheet.png", display=display)
    assert any(
        line.startswith("Warning: 1 file or folder names contain what looks like a name") for line in display.lines
    )


def test_the_random_steps_of_a_recipe_are_drawn_on_the_data(phantom_folder):
    every = augment_preview(phantom_folder, images=2)
    some = augment_preview(phantom_folder, config="neuroflux-cnn", images=2)
    assert 0 < len(some.axes) < len(every.axes)


def test_the_figure_is_saved_or_its_suffix_is_refused(phantom_folder, tmp_path):
    augment_preview(phantom_folder, out=tmp_path / "sheet.png", config="neuroflux-cnn", images=1)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    with pytest.raises(ConfigError, match=r"--out must end in"):
        augment_preview(phantom_folder, out=tmp_path / "sheet.txt")
