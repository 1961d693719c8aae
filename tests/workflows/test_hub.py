"""Bundles on a stand-in for the Hugging Face Hub: pushed, pulled, used by address, and everything that goes wrong."""

from __future__ import annotations

import shutil
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

import gyrus
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.export.bundle import Bundle
from gyrus.export.hub import HubAddress, HubUnreachableError, fetch_bundle, is_own_file
from gyrus.export.manifest import is_bundle
from gyrus.workflows.hub import pull_bundle, push_bundle
from tests.support.bundles import write_image_bundle
from tests.support.command_line import refused, succeeded
from tests.support.model_hub import READ, WRITE, ModelHub, Repository, refusal

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the library, of its HTTP client

NAME, ADDRESS = "ward/dementia", "hf:ward/dementia"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle; not to be written into."""
    return write_image_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the Hub, for which this user has a token that may write."""
    monkeypatch.setenv("HF_TOKEN", WRITE)
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between tries of the library
    stand_in = ModelHub()
    with stand_in.serve() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)  # the library reads HF_ENDPOINT when it is imported
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield stand_in


@pytest.fixture
def published(hub, bundle) -> str:
    """The first revision of the bundle, put there without the library."""
    hub.repositories[NAME] = Repository()
    return hub.repositories[NAME].commit({**content(bundle), "README.md": b"card", ".gitattributes": b""})


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(hub: ModelHub, **changes: bytes | None) -> str:
    """A further commit with other content of some files; None removes them."""
    repository = hub.repositories[NAME]
    files = {**repository.commits[repository.branches["main"]], **changes}
    return repository.commit({name: data for name, data in files.items() if data is not None})


def test_what_is_pushed_is_pulled_byte_by_byte(hub, bundle, tmp_path):
    text = succeeded("hub", "push", bundle, ADDRESS, "-q")
    revision = hub.repositories[NAME].branches["main"]
    assert f"hf:ward/dementia (private), revision {revision}" in text
    assert hub.repositories[NAME].private
    text = succeeded("hub", "pull", ADDRESS, "--out", tmp_path / "pulled")
    assert f"{ADDRESS}@{revision}: {tmp_path / 'pulled'}" in text
    assert content(tmp_path / "pulled") == content(bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pulled"] or not (tmp_path / "cache").exists()
    assert not gyrus.verify_bundle(tmp_path / "pulled").problems
    assert any(request.startswith("PUT /lfs/") for request in hub.requests)
    assert set(hub.tokens) <= {WRITE, None}
    assert WRITE not in text + "".join(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file())


def test_the_card_has_metadata_that_the_hub_reads(hub, bundle):
    push_bundle(bundle, ADDRESS)
    card = hub.repositories[NAME].commits[hub.repositories[NAME].branches["main"]]["README.md"].decode()
    about = yaml.safe_load(card.split("---")[1])
    assert about["license"] == "cc0-1.0"
    assert {"gyrus", "brain-mri", "research-only", "onnx"} <= {*about["tags"]}
    (model,) = about["model-index"]
    metrics = {each["type"]: each["value"] for result in model["results"] for each in result["metrics"]}
    assert metrics == {"sensitivity": 0.8, "specificity": 0.8, "ppv": 0.8, "npv": 0.8}
    assert model["results"][0]["dataset"]["name"] == "Test set (20 subjects)"
    assert "# Known network" in card
    assert f"gyrus predict {ADDRESS} images/" in card


def test_a_second_push_replaces_the_first(hub, bundle, tmp_path):
    first = push_bundle(bundle, ADDRESS)
    damage(hub, **{"reference/old.png": b"", "README.md": b"edited"})
    second = push_bundle(bundle, ADDRESS)
    assert first.revision != second.revision
    newest = hub.repositories[NAME].commits[second.revision]
    assert {*newest} == {*content(bundle), "README.md", ".gitattributes"}
    pull_bundle(f"{ADDRESS}@{first.revision}", out=tmp_path / "first")
    assert content(tmp_path / "first") == content(bundle)


def test_a_public_repository_is_only_used_if_that_is_meant(hub, bundle):
    hub.repositories[NAME] = Repository(private=False)
    before = hub.repositories[NAME].commit({})
    assert "is public" in refused("hub", "push", bundle, ADDRESS, "-q")
    assert hub.repositories[NAME].branches["main"] == before
    assert "PUBLIC" in succeeded("hub", "push", bundle, ADDRESS, "--public", "-q")
    push_bundle(bundle, "hf:ward/open", public=True)
    assert not hub.repositories["ward/open"].private


def test_what_is_not_pushed(hub, bundle, tmp_path, monkeypatch):
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    (changed / "run.py").write_text("print()")
    with pytest.raises(GyrusError, match=r"run\.py is not in SHA256SUMS"):
        push_bundle(changed, ADDRESS)
    assert not hub.requests  # before the Hub is asked
    hub.repositories[NAME] = Repository()
    hub.repositories[NAME].commit({"pytorch_model.bin": b""})
    with pytest.raises(DataError, match=r"files that no bundle has: pytorch_model\.bin.*Nothing was pushed"):
        push_bundle(bundle, ADDRESS)
    with pytest.raises(ConfigError, match="leave @main out"):
        push_bundle(bundle, f"{ADDRESS}@main")
    monkeypatch.setenv("HF_TOKEN", READ)
    with pytest.raises(GyrusError, match=r"\(403\)"):
        push_bundle(bundle, "hf:ward/new")
    assert [*hub.repositories] == [NAME]


def test_predict_verify_and_test_take_an_address(hub, published, bundle, tmp_path):
    image = bundle / "reference" / "sub-P001_slice-00.png"
    assert is_bundle(ADDRESS)
    text = refused("predict", "hf:ward/other", image, "--out", tmp_path / "p.csv")
    assert "(404)" in text
    shown: list[str] = []
    found = gyrus.predict_bundle(ADDRESS, [image], display=Shown(shown))
    assert f"Bundle: {ADDRESS}@{published}" in shown
    assert found.logits.tolist() == gyrus.predict_bundle(bundle, [image]).logits.tolist()
    succeeded("export", "verify", ADDRESS, "-q")
    assert "no scores of its own test set" in refused("test", ADDRESS, image.parent, "--out", tmp_path / "test")
    # The cache is used for this revision, and a new one is noticed.
    downloads = [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert len(downloads) == len(content(bundle))
    newer = damage(hub, **{"README.md": b"newer"})
    assert Bundle.open(ADDRESS).source == f"{ADDRESS}@{newer}"
    assert Bundle.open(f"{ADDRESS}@{published}").source == f"{ADDRESS}@{published}"


class Shown(gyrus.Display):
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_without_a_connection_the_cache_is_used_and_named(published, monkeypatch, tmp_path):
    fetch_bundle(HubAddress.parse(ADDRESS))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    found = fetch_bundle(HubAddress.parse(ADDRESS))
    assert found.revision == published
    assert "from the cache, as last seen" in found.note
    assert not fetch_bundle(HubAddress.parse(f"{ADDRESS}@{published}")).note
    for address in (f"{ADDRESS}@other", "hf:ward/other"):
        with pytest.raises(HubUnreachableError, match="no connection to the Hub"):
            fetch_bundle(HubAddress.parse(address))
    assert "no connection to the Hub" in refused("hub", "pull", ADDRESS, "--out", tmp_path / "out")


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"networks/1.onnx": b"other"}, r"networks/1\.onnx has changed"),
        ({"networks/1.onnx": None}, r"networks/1\.onnx is missing"),
        ({"reference/more.png": b"more"}, r"reference/more\.png is not in SHA256SUMS"),
        (
            {"run.py": b"import os"},
            r"files that no bundle has: run\.py\. They might run code",
        ),
        ({"networks/pytorch_model.pkl": b""}, "files that no bundle has"),
        ({"../up.json": b""}, "files that no bundle has"),
        ({"bundle.json": None}, r"is no bundle of Gyrus: it has no bundle\.json"),
        ({"SHA256SUMS": b"nonsense"}, "SHA256SUMS is damaged"),
    ],
)
def test_repositories_that_hold_no_intact_bundle(hub, tmp_path, changes, reason):
    damage(hub, **changes)
    before = len(hub.requests)
    with pytest.raises(DataError, match=reason) as error:
        pull_bundle(ADDRESS, out=tmp_path / "out")
    assert str(tmp_path) not in str(error.value)
    if "no bundle" in reason:
        assert not [request for request in hub.requests[before:] if "/resolve/" in request]
    with pytest.raises(DataError, match=reason):
        Bundle.open(ADDRESS)
    left = [path for path in tmp_path.rglob("*") if path.suffix in (".onnx", ".png", ".py", ".json")]
    assert not left
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("published")
def test_refusals_of_the_hub_say_what_to_do(hub, tmp_path, monkeypatch):
    def pulled(address: str = ADDRESS) -> str:
        with pytest.raises(GyrusError) as error:
            pull_bundle(address, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "no such revision" in pulled(f"{ADDRESS}@v2")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    text = pulled()
    assert "does not know you (401)" in text
    assert "xxx" not in text
    replies = {
        "its owner has to grant access": refusal(HTTPStatus.FORBIDDEN, "GatedRepo", "gated"),
        "does not allow this (403)": refusal(HTTPStatus.FORBIDDEN, "", "no"),
        "too many requests": refusal(HTTPStatus.TOO_MANY_REQUESTS, "", "slow down"),
        "has a problem (503)": refusal(HTTPStatus.SERVICE_UNAVAILABLE, "", "busy"),
    }
    for reason, reply in replies.items():
        hub.fault = lambda _request, reply=reply: reply
        assert reason in pulled()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    hub.fault = lambda _request: None
    assert "you may not see it (401)" in pulled()


def test_an_interrupted_download_leaves_nothing(hub, published, bundle, tmp_path):
    whole = (bundle / "networks" / "1.onnx").read_bytes()

    def cut(request):
        if request.method == "GET" and request.path.endswith("1.onnx"):
            headers = {"ETag": '"x"', "X-Repo-Commit": published, "Content-Length": str(len(whole))}
            return HTTPStatus.OK, whole[: len(whole) // 2], headers
        return None

    hub.fault = cut
    with pytest.raises(GyrusError, match=r"networks/1\.onnx of .* cannot be downloaded, so nothing was written"):
        pull_bundle(ADDRESS, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(GyrusError):
        Bundle.open(ADDRESS)
    hub.fault = lambda _request: None
    assert Bundle.open(ADDRESS).source == f"{ADDRESS}@{published}"


def test_an_upload_that_fails_leaves_the_repository_as_it_was(hub, published, bundle):
    full = refusal(HTTPStatus.INSUFFICIENT_STORAGE, "", "full")
    for part, reply in (("/lfs/", full), ("/commit/", refusal(HTTPStatus.PRECONDITION_FAILED, "", "a newer commit"))):
        hub.fault = lambda request, part=part, reply=reply: reply if part in request.path else None
        with pytest.raises(GyrusError, match=r"cannot be pushed to hf:ward/dementia, which is as it was: .*(507|412)"):
            push_bundle(bundle, ADDRESS)
    assert hub.repositories[NAME].branches["main"] == published


@pytest.mark.usefixtures("published")
def test_a_folder_that_is_not_empty_is_refused_before_anything_is_downloaded(hub, tmp_path):
    (tmp_path / "file").write_text("")
    assert "not an empty folder" in refused("hub", "pull", ADDRESS, "--out", tmp_path, "-q")
    assert not [request for request in hub.requests if "/resolve/" in request]


def test_addresses():
    assert HubAddress.parse("hf:a-b/c.d@refs/pr/1") == HubAddress("a-b/c.d", "refs/pr/1")
    assert str(HubAddress.parse(Path("hf:a/b@v1"))) == "hf:a/b@v1"
    for text in ("a/b", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b@../c", "hf:a/ü"):
        with pytest.raises(ConfigError, match="no address of the Hub"):
            HubAddress.parse(text)


def test_a_bundle_consists_of_its_own_kinds_of_files(bundle):
    assert all(is_own_file(name) for name in content(bundle))
    others = (
        "networks/1.pt",
        "networks/a/1.onnx",
        "reference/../x.png",
        "reference/.hidden.png",
        "x.json",
        "a/bundle.json",
    )
    assert not [name for name in others if is_own_file(name)]
