"""What every kind of features promises, for slices, stacks of slices and volumes; and the numbers of each kind."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.store import Store
from gyrus.errors import ConfigError, DataError
from gyrus.inference.features.base import FitSettings, Samples
from gyrus.inference.features.grid import Grid
from gyrus.inference.features.random_convolutions import RAMP
from gyrus.inference.features.subject_features import BLOCK_VARIANCE, FEATURE_MAKERS, SubjectFeatures
from gyrus.inference.measures import measure_images
from gyrus.models.feature_layers import FeatureBackbone, Numbers
from gyrus.models.options import ClassicalOptions
from gyrus.transforms.normalisation import IntensityScaling, Normalisation, image_statistics

SUBJECTS, IMAGES = 6, 3
SIZES = {2: (24, 20), 3: (6, 16, 20)}
OPTIONS = {"cells": 60, "kernels": 20, "regions": 2}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a small network of timm, random, as a file."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return str(path)


def samples_of(folder, dims, *, channels=1, seed=0, background=False) -> Samples:
    """Three images of each of six subjects, in a store of their own; half of an image may be background."""
    random = np.random.default_rng(seed)
    count = SUBJECTS * IMAGES
    pixels = random.integers(0, 256, (count, channels, *SIZES[dims])).astype(np.uint8)
    if background:
        pixels[..., SIZES[dims][-1] // 2 :] = 0
    intensity = IntensityScaling()
    folder.mkdir()
    np.save(folder / "pixels.npy", pixels)
    np.save(folder / "statistics.npy", np.stack([image_statistics(image, intensity) for image in pixels]))
    subjects = [f"s{number // IMAGES}" for number in range(count)]
    rows = pd.DataFrame(
        {
            "sample": [f"{number:03}.png" for number in range(count)],
            "path": [f"{number:03}.png" for number in range(count)],
            "label": [str(number // IMAGES % 2) for number in range(count)],
            "subject": subjects,
            "age": [60.0 + number // IMAGES for number in range(count)],
            "volume": random.normal(size=count),
        }
    )
    manifest = Manifest.from_rows(rows, root=folder, subject_kind="subject")
    return Samples(manifest, Store(folder), np.arange(count), np.array(subjects))


def settings_of(kind, samples, weights="", **options) -> FitSettings:
    assert samples.store is not None
    normalisation = Normalisation.fit(IntensityScaling(), samples.store.statistics[samples.rows])
    return FitSettings(
        ClassicalOptions(features=(kind,), backbone="test_resnet", **{**OPTIONS, **options}),
        {"age": "number"},
        normalisation,
        weights,
        seed=3,
    )


CASES = [(kind, dims, channels) for kind in FEATURE_MAKERS for dims in (2, 3) for channels in (1, 2)]


@pytest.mark.parametrize(("kind", "dims", "channels"), CASES)
def test_every_kind_of_features_is_fitted_on_the_training_set_saved_and_repeated(
    kind, dims, channels, weights, tmp_path
):
    whole = samples_of(tmp_path / "store", dims, channels=channels)
    train, test = whole.take(np.arange(12)), whole.take(np.arange(12, 18))
    settings = settings_of(kind, train, weights)
    fitted, of_train = SubjectFeatures.fit(train, settings)
    assert of_train.shape == (4, len(fitted.names))
    assert np.isfinite(of_train).all()
    assert len(set(fitted.names)) == len(fitted.names)
    if not FEATURE_MAKERS[kind].standardised:
        np.testing.assert_allclose(of_train.mean(axis=0), 0, atol=1e-6)
        assert of_train.var(axis=0).sum() == pytest.approx(BLOCK_VARIANCE)

    # The same seed gives the same, and nothing but the training set matters.
    others = samples_of(tmp_path / "others", dims, channels=channels, seed=1)
    mixed = replace(others, store=_mixed(whole, others, tmp_path / "mixed"), manifest=whole.manifest)
    again, same = SubjectFeatures.fit(mixed.take(np.arange(12)), settings)
    np.testing.assert_array_equal(same, of_train)

    # Saved as JSON and plain arrays, loaded, it gives the same for other subjects.
    documents = json.loads(json.dumps(again.document()))
    loaded = SubjectFeatures.from_saved(documents, again.arrays())
    names, expected = fitted.of_units(test)
    assert names.tolist() == ["s4", "s5"]
    np.testing.assert_array_equal(loaded.of_units(test)[1], expected)
    assert not np.allclose(expected[0], expected[1])

    # A subject is the same alone and among others, and in whatever order its images come.
    alone = replace(test, rows=test.rows[3:][::-1], units=test.units[3:][::-1])
    np.testing.assert_allclose(loaded.of_units(alone)[1][0], expected[1], atol=1e-4)


LAYERS = [case for case in CASES if case[0] != "table"]


@pytest.mark.parametrize(("kind", "dims", "channels"), LAYERS)
def test_as_a_layer_of_a_network_the_features_are_the_same(kind, dims, channels, weights, tmp_path):
    samples = samples_of(tmp_path / "store", dims, channels=channels)
    alone = replace(samples, units=samples.table["sample"].to_numpy(str))  # each image is its own unit
    fitted, of_images = SubjectFeatures.fit(alone, settings_of(kind, alone, weights))
    (maker,) = fitted.makers
    prepared = maker.network_input()
    if kind == "tissue-maps" and channels > 1:
        assert prepared is None
        return
    assert prepared is not None
    pixels = np.stack([apply_all(prepared.steps, image) for image in samples.pixels])
    statistics = np.stack([image_statistics(image, IntensityScaling()) for image in pixels])
    images = torch.from_numpy(prepared.normalisation.apply(pixels, statistics))
    layer = maker.layer(samples.shape) if prepared.measure is None else Numbers(range(len(maker.names)))
    if prepared.measure is not None:
        measured = torch.from_numpy(measure_images(prepared.measure, images.numpy()))
        images = measured.reshape(*measured.shape, *[1] * dims)
    backbone = FeatureBackbone([layer], fitted.mean, fitted.scale, images.shape[2:])
    with torch.inference_mode():
        found = backbone.pool(backbone(images)).numpy()
    np.testing.assert_allclose(found, of_images, atol=2e-3)


def apply_all(steps, image):
    for step in steps:
        image = step(image)
    return image


def _mixed(first: Samples, second: Samples, folder) -> Store:
    """The first twelve images of one store, the rest of another."""
    assert first.store is not None
    assert second.store is not None
    folder.mkdir()
    for name in ("pixels", "statistics"):
        arrays = [np.load(each.store.folder / f"{name}.npy") for each in (first, second)]
        np.save(folder / f"{name}.npy", np.concatenate([arrays[0][:12], arrays[1][12:]]))
    return Store(folder)


def test_the_cells_of_voxels_are_means_over_blocks(tmp_path):
    samples = samples_of(tmp_path / "store", 2)
    maker = FEATURE_MAKERS["voxels"].fit(samples, settings_of("voxels", samples, cells=30))
    pixels, scaling = samples.pixels[:, 0] / 255.0, settings_of("voxels", samples).scaling
    blocks = pixels.reshape(18, 6, 4, 5, 4).mean(axis=(2, 4)).reshape(18, -1)
    expected = (blocks - scaling.mean[0]) / scaling.std[0]
    np.testing.assert_allclose(maker.features(samples), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "most"), [((100, 80), 700), ((32, 128, 128), 5000), ((3, 200, 7), 50), ((9,) * 3, 1)]
)
def test_a_grid_has_at_most_so_many_cells_and_uses_them(image, most):
    cells = Grid.for_images(image, most).cells
    assert 0.4 * most <= np.prod(cells) <= most
    assert all(1 <= count <= length for count, length in zip(cells, image, strict=True))


def test_tissue_maps_are_those_of_the_step_and_their_totals_the_fractions_of_the_head(tmp_path):
    from gyrus.transforms.tissue_maps import Tissue

    samples = samples_of(tmp_path / "store", 3)
    maker = FEATURE_MAKERS["tissue-maps"].fit(samples, settings_of("tissue-maps", samples, cells=3))
    found, maps = maker.features(samples), [Tissue(of=tissue) for tissue in ("fluid", "gray", "white")]
    for place, image in enumerate(samples.pixels):
        inside = np.array([(step(image) > 0).sum() for step in maps])
        np.testing.assert_allclose(found[place, :3], inside / image.size, atol=1e-6)
        np.testing.assert_allclose(found[place, 3:], inside / inside.sum(), atol=1e-6)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_random_convolutions_are_the_maximum_and_the_proportion_above_the_threshold(dims, background, tmp_path):
    """The same in double precision, also with a background whose responses are equal up to rounding."""
    from scipy.ndimage import correlate

    samples = samples_of(tmp_path / "store", dims, background=background)
    settings = settings_of("random-convolutions", samples, regions=1, kernels=60 if background else 20)
    maker = FEATURE_MAKERS["random-convolutions"].fit(samples, settings)
    image = samples.scaled(maker.normalisation)[5, 0].astype(float)
    found = maker.features(samples)[5].reshape(2, -1)
    for number, (kernel, dilation) in enumerate(zip(maker.kernels, maker.dilations, strict=True)):
        spread = np.zeros([1 + 2 * dilation] * dims)
        spread[(slice(None, None, dilation),) * dims] = kernel[0]
        response = correlate(image, spread, mode="constant")
        assert found[0, number] == pytest.approx(response.max(), rel=1e-4)
        width = RAMP * np.sqrt((kernel**2).sum())
        above = np.clip((response - maker.thresholds[number]) / width + 0.5, 0, 1).mean()
        assert found[1, number] == pytest.approx(above, abs=1e-4)
    assert len(set(maker.dilations)) > 1 or min(SIZES[dims]) < 10
    assert 0.2 < found[1].mean() < 0.8

    saved = {**maker.document(), **maker.arrays()}
    del saved["ramp"]  # as in runs of earlier versions
    hard = FEATURE_MAKERS["random-convolutions"].from_saved(saved).features(samples)[5].reshape(2, -1)
    np.testing.assert_allclose(hard[1] * image.size, np.rint(hard[1] * image.size), atol=1e-3)


def test_pretrained_features_of_a_stack_are_those_of_its_slices_pooled(weights, tmp_path):
    stacks = samples_of(tmp_path / "store", 3)
    maker = FEATURE_MAKERS["pretrained"].fit(stacks, settings_of("pretrained", stacks, weights))
    slices = np.moveaxis(stacks.pixels[2], 1, 0)
    expected = maker._of_slices(slices)
    np.testing.assert_allclose(
        maker.features(stacks)[2], np.concatenate([expected.mean(axis=0), expected.max(axis=0)]), atol=1e-4
    )
    assert expected.std(axis=0).max() > 0


def test_blocks_of_features_weigh_the_same_and_constant_features_stay_out(tmp_path):
    samples = samples_of(tmp_path / "store", 2)
    pixels = np.load(samples.store.folder / "pixels.npy")
    pixels[:12, :, :8] = 7
    np.save(samples.store.folder / "pixels.npy", pixels)
    samples = replace(samples, store=Store(samples.store.folder))
    train, test = samples.take(np.arange(12)), samples.take(np.arange(12, 18))
    settings = settings_of("voxels", train)
    settings = replace(settings, options=ClassicalOptions(features=("voxels", "random-convolutions"), **OPTIONS))
    fitted, of_train = SubjectFeatures.fit(train, settings)
    cells = len(fitted.makers[0].names)
    parts = of_train[:, :cells], of_train[:, cells:]
    assert [part.var(axis=0).sum() for part in parts] == pytest.approx([BLOCK_VARIANCE] * 2)
    constant = of_train[:, :cells].std(axis=0) == 0
    assert constant.sum() >= cells / 4
    assert (fitted.of_units(test)[1][:, :cells][:, constant] == 0).all()


def test_volumes_of_stacks_are_fractions_of_tissues_also_in_runs_of_earlier_versions(tmp_path):
    samples = samples_of(tmp_path / "store", 3)
    fractions, expected = SubjectFeatures.fit(samples, settings_of("tissue-fractions", samples))
    np.testing.assert_array_equal(SubjectFeatures.fit(samples, settings_of("volumes", samples))[1], expected)
    saved = {"kind": "volumes", "registered": False, "columns": list(fractions.names), "failed": []}
    earlier = SubjectFeatures.from_saved([saved], fractions.arrays())
    np.testing.assert_array_equal(earlier.of_units(samples)[1], expected)


def test_what_does_not_fit_is_refused_in_words(tmp_path):
    samples = samples_of(tmp_path / "store", 2)
    with pytest.raises(ConfigError, match=r"need the weights of a network: model\.pretrained=PATH"):
        SubjectFeatures.fit(samples, settings_of("pretrained", samples, weights=""))
    fitted, _ = SubjectFeatures.fit(samples, settings_of("voxels", samples))
    with pytest.raises(DataError, match=r"have 6 x 16 x 20 voxels after the preprocessing, .* fitted on 24 x 20"):
        fitted.of_units(samples_of(tmp_path / "volumes", 3))
    arrays = {**fitted.arrays(), "mean": fitted.mean[1:]}
    with pytest.raises(ValueError, match="means"):
        SubjectFeatures.from_saved(fitted.document(), arrays)
