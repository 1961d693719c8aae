"""A bundle as MONAI's own loader reads it: the network, the prepared images and the answers are those of Gyrus."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.slice_stacks import StackConfig
from gyrus.errors import ConfigError, GyrusError
from gyrus.export.bundle import LoadedMember
from gyrus.export.manifest import BundleManifest, Reference
from gyrus.export.monai_bundle import CONFIG, METADATA, WEIGHTS, make_network, require_same_logits, write_monai
from gyrus.imaging.volume_formats import write_nifti
from gyrus.inference.decision_rule import softmax
from gyrus.models.classifier import Classifier
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_unlabelled
from gyrus.workflows.predict_bundle import bundle_reading, member_inputs
from tests.support.bundles import CLASSES, VOLUME, as_volume, describe, image, volume

monai = pytest.importorskip("monai.bundle")
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # it warns of every config
VERSIONS = dict.fromkeys(("gyrus-mri", "monai", "torch", "numpy"), "1.0")
SIZES = {"images": (24, 24), "volumes": VOLUME}


@pytest.fixture(params=["images", "volumes"])
def made(request, tmp_path) -> tuple[Path, BundleManifest, Classifier, Path]:
    """A bundle of MONAI of a small network with random weights, what it is, the network, and the file of a scan."""
    size = SIZES[request.param]
    scan = tmp_path / "scans" / ("b.png" if len(size) == 2 else "b.nii.gz")
    scan.parent.mkdir()
    if len(size) == 2:
        Image.fromarray(image(3, side=40)).save(scan)
        steps = {"steps": [{"step": "grayscale"}, {"step": "resize", "size": list(size)}]}
    else:
        write_nifti(as_volume(volume(3)), scan)
        steps = {"steps": []}
    torch.manual_seed(0)
    model = {"name": "baseline-cnn", "options": {"channels": [4, 4]}}
    network = make_network(model, 1, 2, size).eval()
    manifest = describe(size, PreprocessingConfig.model_validate(steps), request.param, model)
    manifest = replace(
        manifest, members=(replace(manifest.members[0], normalisation=Normalisation("dataset", (0.4,), (0.2,))),)
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_monai(folder, network, manifest, VERSIONS)
    return folder, manifest, network, scan


@pytest.fixture
def expected(made, tmp_path) -> np.ndarray:
    """The logits (K,) for the scan by the ordinary way of a bundle."""
    _, manifest, network, scan = made
    member = LoadedMember(manifest.members[0], (0, 1), network, None)
    found = scan_unlabelled(scan.parent, bundle_reading(manifest, DataConfig()), SILENT)
    with torch.inference_mode():
        return network(torch.from_numpy(member_inputs(member, found, tmp_path / "cache"))).numpy()[0]


def test_monai_loads_the_network_and_prepares_scans_as_gyrus_does(made, expected):
    folder, manifest, _, scan = made
    loaded = monai.load(folder.name, bundle_dir=folder.parent, workflow_type="inference", device="cpu").eval()
    parser = monai.ConfigParser()
    parser.read_config(str(folder / CONFIG))
    prepared = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    with torch.inference_mode():
        found = loaded(prepared[None]).numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert prepared.shape == (1, *manifest.members[0].image_size)
    monai.verify_net_in_out("network_def", str(folder / METADATA), str(folder / CONFIG), device="cpu")


def test_the_workflow_of_monai_writes_the_probabilities(made, expected, tmp_path):
    folder, _, _, scan = made
    out = tmp_path / "p.csv"
    workflow = monai.create_workflow(
        config_file=str(folder / CONFIG),
        meta_file=str(folder / METADATA),
        workflow_type="inference",
        bundle_root=str(folder),
        dataset_dir=str(scan.parent),
        output=str(out),
        device="cpu",
    )
    workflow.run()
    (row,) = csv.DictReader(out.read_text().splitlines())
    wanted = softmax(expected[None].astype(float))[0]
    assert row["sample"] == str(scan)
    assert [float(row[f"probability:{name}"]) for name in CLASSES] == pytest.approx(wanted, abs=1e-6)


def test_a_bundle_that_monai_answers_differently_is_refused(made, expected):
    folder, manifest, _, scan = made
    shutil.copytree(scan.parent, folder / "reference")
    right = softmax(expected[None].astype(float))[0].tolist()

    def referring(probabilities: list[float]) -> BundleManifest:
        answer = dict(zip(CLASSES, probabilities, strict=True))
        return replace(manifest, references=(Reference(scan.name, answer, (), ()),))

    require_same_logits(folder, referring(right))
    with pytest.raises(GyrusError, match="does not give the probabilities of the run"):
        require_same_logits(folder, referring(right[::-1]))


def test_what_monai_cannot_hold_is_refused_in_words(made, tmp_path):
    _, manifest, network, _ = made
    (member,) = manifest.members
    patches = replace(member, patches=PatchConfig(size=(4,) * len(member.image_size)))
    for wrong, words in (
        (replace(manifest, members=(member, member)), "several networks"),
        (replace(manifest, members=(patches,)), "patches"),
        (replace(manifest, members=(replace(member, model={"name": "linear-svm"}),)), "fitted without a network"),
        (replace(manifest, stack=StackConfig(slices=2)), "stacks"),
        (replace(manifest, classes=("$print(1)", "b")), "run .* as code"),
    ):
        with pytest.raises(ConfigError, match=words):
            write_monai(tmp_path / "new", network, wrong, VERSIONS)
    assert not (tmp_path / "new").exists()


def test_weights_are_read_without_running_code(made):
    folder, _, _, _ = made
    assert {*torch.load(folder / WEIGHTS, weights_only=True)}
    assert json.loads((folder / METADATA).read_text())["required_packages_version"] == {"gyrus-mri": "1.0"}
