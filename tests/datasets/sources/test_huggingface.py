from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError, DataError, MissingDependencyError
from gyrus.imaging.decoding import decode
from tests.support import images
from tests.support.hub import Hub, scan_in_new_process

NAME = "hf:owner/brains"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    folder = tmp_path_factory.mktemp("hub")
    (folder / "data").mkdir()
    for subset, seeds in (("train", range(3)), ("test", range(3, 5))):
        contents = [{"bytes": images.gray(seed), "path": f"sub-{seed}_slice-0.png"} for seed in seeds]
        table = pa.table({"image": contents, "label": ["AD" if seed % 2 else "NC" for seed in seeds]})
        pq.write_table(table, folder / "data" / f"{subset}-00000-of-00001.parquet")
    return Hub("owner/brains", folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> dict[str, str]:
    """The result of a first process, with access to the Hub."""
    with hub.serve() as address:
        return scan_in_new_process(address, home, NAME, "hf:owner/missing", f"{NAME}:other")


@pytest.fixture(scope="module")
def offline(online: dict[str, str], home: Path) -> dict[str, str]:
    """The result of a second process, without the Hub."""
    assert online
    return scan_in_new_process("http://127.0.0.1:9", home, NAME, "hf:owner/other", offline=True)


def test_a_data_set_of_the_hub_can_be_read_in_a_later_process(online: dict[str, str], home: Path) -> None:
    manifest = Manifest.load(Path(online[NAME]))

    assert manifest.table["label"].to_list() == ["AD", "NC", "NC", "AD", "NC"]
    assert manifest.table["subset"].to_list() == ["test"] * 2 + ["train"] * 3
    assert manifest.table["subject"].to_list() == ["sub-3", "sub-4", "sub-0", "sub-1", "sub-2"]
    assert manifest.root.is_relative_to(home / "gyrus")
    for position, seed in enumerate((3, 4, 0, 1, 2)):
        np.testing.assert_array_equal(Reader(manifest).read(position), decode(images.gray(seed)))


@pytest.mark.usefixtures("online")
def test_the_cache_holds_only_complete_exports(home: Path) -> None:
    folders = list((home / "gyrus" / "huggingface").iterdir())

    assert [folder.name.startswith("owner--brains-") for folder in folders] == [True]
    assert sorted(file.name for file in folders[0].iterdir()) == ["test.parquet", "train.parquet"]


def test_a_data_set_read_once_is_available_offline(online: dict[str, str], offline: dict[str, str]) -> None:
    assert Manifest.load(Path(offline[NAME])).digest == Manifest.load(Path(online[NAME])).digest


@pytest.mark.parametrize(
    ("process", "name", "words"),
    [
        ("offline", "hf:owner/other", "The data set 'owner/other' cannot be loaded .* Check the name, the connection"),
        ("online", "hf:owner/missing", "The data set 'owner/missing' cannot be loaded .* doesn't exist"),
        ("online", f"{NAME}:other", "The data set 'owner/brains' cannot be loaded .* 'other' not found"),
    ],
)
def test_unavailable_data_sets_are_refused_with_the_reason(
    process: str, name: str, words: str, request: pytest.FixtureRequest
) -> None:
    results: dict[str, str] = request.getfixturevalue(process)

    assert re.match(f"DataError: {words}", results[name]), results[name]


def test_without_the_library_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(MissingDependencyError, match=r"pip install .*\[huggingface\]"):
        scan(NAME)


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:a b", "hf:../x"])
def test_an_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use hf:owner/name"):
        scan(name)


def test_a_folder_of_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "brains").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match="hides the data set"):
        scan(NAME)
