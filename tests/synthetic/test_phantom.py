"""Phantom data: properties of a population, and the layouts of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from gyrus.errors import ConfigError, GyrusError
from gyrus.synthetic.phantom import SULCUS, VENTRICLE, Phantom, draw_subject, generate
from gyrus.synthetic.phantom_layouts import LAYOUTS, write


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))


def test_form(few: Phantom) -> None:
    assert few.volumes.shape == few.structures.shape == (8, 3, 48, 48)
    assert few.volumes.dtype == few.structures.dtype == np.uint8
    assert few.subjects[0] == "P001"
    assert len(set(few.subjects)) == 8
    assert few.spacing == pytest.approx((40 / 3, 192 / 48, 192 / 48))
    assert set(np.unique(few.structures)) == {0, VENTRICLE, SULCUS}
    assert set(few.sex) == {"F", "M"}


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (4, ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")),
        (2, ("Control", "Dementia")),
        (3, ("Stage_0", "Stage_1", "Stage_2")),
    ],
)
def test_class_names(classes: int, names: tuple[str, ...]) -> None:
    phantom = generate(subjects=classes, slices=1, classes=classes, size=32)
    assert phantom.class_names == names
    assert sorted(phantom.labels) == list(range(classes))


def test_same_seed_gives_the_same_bits(few: Phantom) -> None:
    again = generate(subjects=8, slices=3, size=48, seed=1)
    assert np.array_equal(again.volumes, few.volumes)
    assert np.array_equal(again.structures, few.structures)
    assert np.array_equal(again.age, few.age)
    assert again.sex == few.sex


def test_another_seed_gives_other_subjects(few: Phantom) -> None:
    other = generate(subjects=8, slices=3, size=48, seed=2)
    assert not any(np.array_equal(a, b) for a in other.structures for b in few.structures)
    assert not set(other.age) & set(few.age)


def test_subjects_do_not_depend_on_their_number(few: Phantom) -> None:
    fewer = generate(subjects=3, slices=3, size=48, seed=1)
    assert np.array_equal(fewer.volumes, few.volumes[:3])
    assert np.array_equal(fewer.labels, few.labels[:3])
    assert np.array_equal(fewer.age, few.age[:3])


def test_anatomy_does_not_depend_on_the_number_of_slices(few: Phantom) -> None:
    more = generate(subjects=2, slices=9, size=48, seed=1)
    # The middle one of each three slices lies at the height of one of three.
    agreement = more.structures[:, 1::3] == few.structures[:2]
    assert agreement.mean() > 0.999
    assert more.age.tolist() == few.age[:2].tolist()


def test_ventricles_and_sulci_widen_with_the_class(population: Phantom) -> None:
    for kind in (VENTRICLE, SULCUS):
        volumes = (population.structures == kind).mean(axis=(1, 2, 3))
        means = [volumes[population.labels == label].mean() for label in range(4)]
        assert means == sorted(means)
        assert means[-1] > 1.5 * means[0]


def test_classes_overlap(population: Phantom) -> None:
    volumes = (population.structures == VENTRICLE).mean(axis=(1, 2, 3))
    for label in range(3):
        assert volumes[population.labels == label].max() > volumes[population.labels == label + 1].min()


def test_age_rises_mildly_with_atrophy() -> None:
    atrophy = np.linspace(0, 1, 1000)
    subjects = [draw_subject(np.random.default_rng(number), float(value)) for number, value in enumerate(atrophy)]
    age = np.array([subject.age for subject in subjects])
    assert 0.05 < stats.spearmanr(age, atrophy).statistic < 0.35
    assert 55 <= age.min() <= age.max() <= 95


def test_neighbouring_slices_are_more_alike_than_subjects(population: Phantom) -> None:
    images = population.volumes.astype(np.float32)
    neighbours = np.abs(images[:, 1:] - images[:, :-1]).mean(axis=(1, 2, 3))
    close = generate(subjects=8, slices=16, size=64, seed=0).volumes.astype(np.float32)
    near = np.abs(close[:, 1:] - close[:, :-1]).mean(axis=(2, 3))
    strangers = np.array([np.abs(close[a] - close[b]).mean(axis=(1, 2)) for a in range(8) for b in range(a)])
    assert near.max() < strangers.min()
    assert neighbours.mean() < np.abs(images[1:] - images[:-1]).mean()


def test_nearest_image_is_of_the_same_subject() -> None:
    images = generate(subjects=12, slices=16, size=48, seed=3).volumes.reshape(12 * 16, -1).astype(np.float64)
    distances = (images**2).sum(1)[:, None] + (images**2).sum(1) - 2 * images @ images.T
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(1) // 16 == np.arange(12 * 16) // 16).mean() > 0.97


def test_structures_are_dark_and_inside_the_head(population: Phantom) -> None:
    images, structures = population.volumes, population.structures
    white = np.percentile(images[images > 0], 75)
    assert images[structures == VENTRICLE].mean() < 0.45 * white
    assert images[structures == SULCUS].mean() < 0.6 * white
    for image, mask in zip(images[:4].reshape(-1, 64, 64), structures[:4].reshape(-1, 64, 64), strict=True):
        head = ndimage.binary_fill_holes(ndimage.binary_dilation(image > 0))
        assert not (mask.astype(bool) & ~head).any()


def test_heads_lie_within_the_field_of_view_on_black(population: Phantom) -> None:
    border = np.ones((64, 64), dtype=bool)
    border[1:-1, 1:-1] = False
    assert not population.volumes[..., border].any()
    fraction = (population.volumes > 0).mean(axis=(2, 3))
    assert 0.25 < fraction.min() < fraction.max() < 0.75


@settings(max_examples=10, deadline=None)
@given(
    subjects=st.integers(1, 5),
    slices=st.integers(1, 5),
    classes=st.integers(2, 6),
    size=st.integers(32, 65),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_allowed_size(subjects: int, slices: int, classes: int, size: int, seed: int) -> None:
    phantom = generate(subjects, slices, classes, size, seed)
    assert phantom.volumes.shape == (subjects, slices, size, size)
    assert (phantom.volumes.reshape(subjects * slices, -1).max(axis=1) > 100).all()
    assert set(phantom.labels) <= set(range(classes))


def test_balance_sets_the_frequency_of_classes() -> None:
    labels = generate(subjects=60, slices=1, size=32, balance=(6, 3, 1, 0)).labels
    fractions = np.bincount(labels, minlength=4) / 60
    assert fractions == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=0.12)
    assert fractions[3] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"subjects": 0}, "`subjects` must be a whole number from 1 to 100000, got 0"),
        ({"slices": 0}, "`slices` must be a whole number from 1"),
        ({"classes": 1}, "`classes` must be a whole number from 2 to 20"),
        ({"size": 31}, "`size` must be a whole number from 32 to 512"),
        ({"seed": -1}, "`seed` must be a whole number from 0"),
        ({"size": 64.0}, "got 64.0"),
        ({"slices": True}, "got True"),
        ({"balance": (1, 2)}, "`balance` must be 4 numbers"),
        ({"balance": (1, -2, 1, 1)}, "`balance` must be 4 numbers"),
        ({"balance": (0, 0, 0, 0)}, "not all 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        generate(**{"subjects": 1, "slices": 1, "size": 32, **arguments})


def test_all_bad_arguments_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)`slices`.*`size`"):
        generate(slices=0, size=0)


@pytest.mark.parametrize("layout", LAYOUTS)
class TestEveryLayout:
    def test_same_phantom_gives_the_same_bytes(self, few: Phantom, tmp_path: Path, layout: str) -> None:
        first, second = (write(few, tmp_path / name, layout) for name in ("first", "second"))
        assert first == tmp_path / "first"
        assert files(first) == files(second) != {}

    def test_an_empty_folder_is_used_and_a_full_one_refused(self, few: Phantom, tmp_path: Path, layout: str) -> None:
        (tmp_path / "out").mkdir()
        write(few, tmp_path / "out", layout)
        before = files(tmp_path / "out")
        with pytest.raises(GyrusError, match="not an empty folder"):
            write(few, tmp_path / "out", layout)
        assert files(tmp_path / "out") == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_missing_parents_are_made(self, few: Phantom, tmp_path: Path, layout: str) -> None:
        assert files(write(few, tmp_path / "a" / "b", layout))

    def test_relative_path(self, few: Phantom, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert files(write(few, Path("here"), layout)) == files(tmp_path / "here")
