"""Bundles on the Hugging Face Hub: addresses, download with checks, the cache by revision, and errors in words."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.errors import ConfigError, DataError, GyrusError, MissingDependencyError
from gyrus.export.manifest import BUNDLE, CHECKSUMS, HUB_PREFIX, BundleManifest, is_on_hub, require_unchanged
from gyrus.files import FULL, cache_folder, make_folder, new_folder, read_json, require_empty, write_json
from gyrus.redaction import without_secrets
from gyrus.text import first_line, listed

MAIN = "main"
"""The revision that is meant where none is named."""

_ADDRESS = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = r"\w[\w.-]*"
_OWN_FILES = re.compile(
    r"(?:bundle|bundle\.schema|training_subjects|internal_scores)\.json|model_card\.md|reference_table\.csv|SHA256SUMS"
    rf"|networks/{_NAME}\.(?:onnx|xml|bin)|unlike_training/{_NAME}\.npz"
    rf"|reference/(?:{_NAME}/)*{_NAME}\.(?:png|nii\.gz|nii)",
    re.ASCII,
)
"""What a bundle consists of. None of it is code, or is read in a way that could run code."""

_NETWORK_LIBRARIES = ("huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Packages whose errors are of the connection. Which of them the library uses depends on its version."""

FILES_OF_THE_HUB = ("README.md", ".gitattributes")
"""What a repository has beside the bundle. It is not downloaded."""


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub.

    Attributes:
        repository: owner/name.
        revision: Branch, tag or commit; None for the newest of the branch ``main``.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> HubAddress:
        """Read ``hf:owner/name`` or ``hf:owner/name@revision``.

        Raises:
            ConfigError: The text has another form.
        """
        match = _ADDRESS.fullmatch(str(text).removeprefix(HUB_PREFIX)) if is_on_hub(text) else None
        if match is None or ".." in str(text):
            raise ConfigError(f"'{text}' is no address of the Hub. Write hf:owner/name or hf:owner/name@REVISION.")
        return cls(match["repository"], match["revision"])

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repository}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True)
class FetchedBundle:
    """A bundle of the Hub on this machine.

    Attributes:
        folder: The folder.
        repository: owner/name.
        revision: The commit, 40 digits.
        note: What a user must know about it; often empty.
    """

    folder: Path
    repository: str
    revision: str
    note: str = ""

    @property
    def source(self) -> str:
        """The address with the commit."""
        return str(HubAddress(self.repository, self.revision))


def is_own_file(name: str) -> bool:
    """Whether a file may be in a bundle, by its name."""
    return _OWN_FILES.fullmatch(name) is not None


def local_bundle(bundle: str | Path, say: Callable[[str], None] = lambda _text: None) -> tuple[Path, str]:
    """The folder of a bundle, which is fetched if it is on the Hub, and its address with the commit, or "".

    Args:
        bundle: A folder, or the address of a bundle on the Hub.
        say: Told which revision is used.

    Raises:
        GyrusError: The address is wrong, or the bundle cannot be fetched.
    """
    if not is_on_hub(bundle):
        return Path(bundle), ""
    found = fetch_bundle(HubAddress.parse(bundle))
    say(f"Bundle: {found.source}{f' ({found.note})' if found.note else ''}")
    return found.folder, found.source


def fetch_bundle(address: HubAddress) -> FetchedBundle:
    """The bundle in the cache, downloaded if this revision is not there.

    A commit that is in the cache needs no connection. For branches and tags the Hub is asked which commit they name;
    where it cannot be reached, the last known commit is used, with a note.

    Raises:
        GyrusError: The Hub refuses, or cannot be reached and the revision is not in the cache, or the repository holds
            no intact bundle.
    """
    from filelock import FileLock

    place = cache_folder() / "hub" / address.repository.replace("/", "--")
    wanted, known_path = address.revision or MAIN, place / "revisions.json"
    if _COMMIT.fullmatch(wanted) and (place / wanted / CHECKSUMS).is_file():
        return FetchedBundle(place / wanted, address.repository, wanted)
    known = dict(read_json(known_path)) if known_path.is_file() else {}
    try:
        info = repository_info(address)
    except HubUnreachableError as error:
        commit = known.get(wanted)
        if commit is None or not (place / commit / CHECKSUMS).is_file():
            raise
        note = f"from the cache, as last seen, because the Hub cannot be reached: {error.reason}"
        return FetchedBundle(place / commit, address.repository, commit, note)
    folder = place / str(info.sha)
    make_folder(place)
    with FileLock(place / ".lock"):
        if not (folder / CHECKSUMS).is_file():
            download_bundle(address, info, folder)
        write_json(known_path, {**known, wanted: info.sha})
    return FetchedBundle(folder, address.repository, str(info.sha))


def repository_info(address: HubAddress) -> Any:
    """What the Hub knows about a repository: ``sha``, ``private``, and ``siblings`` with the names of its files.

    Raises:
        HubUnreachableError: There is no connection.
        GyrusError: The Hub refuses.
    """
    with hub_errors(f"{address} cannot be read"):
        return hub_api().model_info(address.repository, revision=address.revision)


def download_bundle(address: HubAddress, info: Any, folder: Path) -> None:
    """Download a bundle into a new folder, which appears when every file is there and has the right SHA-256.

    Args:
        address: The repository.
        info: From :func:`repository_info`.
        folder: A new or empty folder.

    Raises:
        DataError: The repository holds no bundle, other files too, or files with other checksums.
        GyrusError: The Hub refuses or cannot be reached, or the folder cannot be written.
    """
    require_empty(folder, "Give a new folder with --out.")
    names = sorted(each.rfilename for each in info.siblings or ())
    own = _require_bundle(str(address), names)
    with new_folder(folder) as partial:
        for name in own:
            with hub_errors(f"{name} of {address} cannot be downloaded, so nothing was written"):
                hub_api().hf_hub_download(address.repository, name, revision=info.sha, local_dir=partial)
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # notes of the library about the download
        try:
            require_unchanged(partial)
            BundleManifest.load(partial / BUNDLE)
        except DataError as error:
            reason = str(error).replace(str(partial), str(address))
            raise DataError(f"{reason} The download of {address} is refused, and nothing was written.") from error


def _require_bundle(where: str, names: list[str]) -> list[str]:
    """The files of a bundle among those of a repository.

    Raises:
        DataError: It holds no bundle, or other files too.
    """
    others = [name for name in names if not is_own_file(name) and name not in FILES_OF_THE_HUB]
    own = [name for name in names if is_own_file(name)]
    missing = [name for name in (BUNDLE, CHECKSUMS) if name not in own]
    if missing:
        has = f"It has {listed(names, most=5)}" if names else "It is empty"
        raise DataError(f"{where} is no bundle of Gyrus: it has no {' and no '.join(missing)}. {has}.")
    if others:
        raise DataError(
            f"{where} holds files that no bundle has: {listed(others, most=5)}. They might run code, so nothing was "
            "downloaded. Ask its owner to push the bundle alone with `gyrus hub push`."
        )
    return own


class HubUnreachableError(GyrusError):
    """There is no connection to the Hub.

    Attributes:
        reason: Why, in few words.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def hub_api() -> Any:
    """The client of the Hub. Address and token are those of the library: HF_ENDPOINT, HF_TOKEN, or its login.

    Raises:
        MissingDependencyError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise MissingDependencyError(
            "Bundles on the Hugging Face Hub require huggingface_hub. Install it with: pip install huggingface_hub"
        ) from error
    disable_progress_bars()
    return HfApi(library_name="gyrus")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Raise what the library raises as an error for the user, which says what to do.

    Args:
        what: What has failed, as the start of a sentence.

    Raises:
        HubUnreachableError: There is no connection.
        GyrusError: Any other failure.
    """
    try:
        yield
    except (GyrusError, MemoryError):
        raise
    except Exception as error:  # of the library, of its HTTP client and of the file system, without a common class
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        causes = list(_causes(error))
        for cause in causes:
            status = getattr(getattr(cause, "response", None), "status_code", None)
            if status is not None:
                raise GyrusError(f"{what}: {_refusal(cause, int(status))}") from error
        if isinstance(error, ValueError):  # a name or metadata that the library refuses
            raise GyrusError(f"{what}: {without_secrets(first_line(error))}") from error
        if not any(isinstance(cause, OSError) or _package(cause) in _NETWORK_LIBRARIES for cause in causes):
            raise
        reason = without_secrets(first_line(causes[-1])).rstrip(".")
        raise HubUnreachableError(
            f"{what}: there is no connection to the Hub, or it was interrupted ({reason}). Check the connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE, and repeat the command.",
            reason,
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error of the library, the one that it was raised for, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _refusal(error: BaseException, status: int) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return f"its owner has to grant access ({status}). Ask for it on its page, and log in with `hf auth login`."
    if kind == "RevisionNotFoundError":
        return f"it has no such revision ({status}). Leave @REVISION out, or name a branch, tag or commit of it."
    if kind == "RepositoryNotFoundError" or status == 404:
        return (
            f"the Hub has no such repository or file, or you may not see it ({status}). Check the name. If it is "
            "private, log in with `hf auth login`, or set HF_TOKEN."
        )
    if status == 401:
        return "the Hub does not know you (401). Log in with `hf auth login`, or set HF_TOKEN to a valid token."
    if status == 403:
        return "your token does not allow this (403). Use a token with the right to read or write this repository."
    if status == 429:
        return "too many requests (429). Wait some minutes, and repeat the command."
    if status >= 500:
        return f"the Hub has a problem ({status}). Repeat the command later."
    return f"the Hub refuses ({status}): {without_secrets(first_line(error))}"
