"""Push bundles to the Hugging Face Hub, and pull them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.number_external import load_internal_scores
from gyrus.export.bundle import read_manifest
from gyrus.export.hub import (
    FILES_OF_THE_HUB,
    FetchedBundle,
    HubAddress,
    download_bundle,
    hub_api,
    hub_errors,
    is_own_file,
    repository_info,
)
from gyrus.export.manifest import MODEL_CARD
from gyrus.reporting.bundle_card import render_hub_card
from gyrus.text import counted, listed, one_per_line
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.verify_bundle import verify_bundle


@dataclass(frozen=True)
class PushedBundle:
    """A bundle that was pushed.

    Attributes:
        repository: owner/name.
        revision: The commit, 40 digits.
        files: Its number of files, with the card.
        private: Whether only its owners can read it.
    """

    repository: str
    revision: str
    files: int
    private: bool

    def text(self) -> str:
        """What was pushed, who can read it, and how to use it."""
        address = HubAddress(self.repository, self.revision)
        who = "private" if self.private else "PUBLIC: everyone can read it"
        return one_per_line(
            [
                f"Pushed {counted(self.files, 'file')} to hf:{self.repository} ({who}), revision {self.revision}",
                f"Use it with: gyrus predict {address} images/ --out predictions.csv",
            ]
        )


def push_bundle(
    bundle: str | Path, address: str, *, public: bool = False, message: str = "", display: Display = SILENT
) -> PushedBundle:
    """Push a bundle to the Hub in one commit, with a card, after it has been verified on this machine.

    The repository is created if there is none, and then holds this bundle alone.

    Args:
        bundle: The folder.
        address: ``hf:owner/name``.
        public: Whether everyone may read it. A repository that exists keeps its visibility; a public one is refused
            unless this is set.
        message: Of the commit.
        display: Where progress is shown.

    Raises:
        ConfigError: The address has another form, or the repository is public and that was not asked for.
        DataError: There is no intact bundle, or the repository holds files of other kinds.
        GyrusError: The bundle fails its verification, or the Hub refuses or cannot be reached.
    """
    where = HubAddress.parse(address)
    if where.revision:
        raise ConfigError(f"A bundle is pushed to the newest state of a repository: leave @{where.revision} out.")
    folder = Path(bundle)
    manifest = read_manifest(folder)
    verify_bundle(folder, display=display).require_passed()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if unknown := [name for name in names if not is_own_file(name)]:
        raise DataError(f"{folder} holds files that no bundle has: {listed(unknown, most=5)}. Export it again.")
    scores = manifest.internal_scores
    evaluation = load_internal_scores(folder / scores, manifest.target).evaluation if scores else None
    card = render_hub_card(manifest, (folder / MODEL_CARD).read_text(encoding="utf-8"), str(where), evaluation)
    api = hub_api()
    with hub_errors(f"{where} cannot be created"):
        api.create_repo(where.repository, private=not public, exist_ok=True)
    before = repository_info(where)
    _require_place(where, before, public=public)
    display.say(f"Pushing {counted(len(names) + 1, 'file')} to {where}")
    with hub_errors(f"The bundle cannot be pushed to {where}, which is as it was"):
        done = api.create_commit(
            where.repository,
            _operations(folder, names, card, [each.rfilename for each in before.siblings or ()]),
            commit_message=message or f"Bundle {manifest.title} of Gyrus",
            parent_commit=before.sha,
        )
    return PushedBundle(where.repository, str(done.oid), len(names) + 1, bool(before.private))


def pull_bundle(address: str, *, out: str | Path, display: Display = SILENT) -> FetchedBundle:
    """Download a bundle from the Hub into a folder, which appears when every file has the right SHA-256.

    Args:
        address: ``hf:owner/name`` or ``hf:owner/name@revision`` (branch, tag or commit).
        out: A new or empty folder.
        display: Where progress is shown.

    Raises:
        ConfigError: The address has another form.
        DataError: The repository holds no intact bundle, or other files too.
        GyrusError: The Hub refuses or cannot be reached, or the folder is not empty.
    """
    where = HubAddress.parse(address)
    info = repository_info(where)
    display.say(f"Downloading {where} at {info.sha}")
    download_bundle(where, info, Path(out))
    return FetchedBundle(Path(out), where.repository, str(info.sha))


def _require_place(where: HubAddress, before: Any, *, public: bool) -> None:
    """Refuse a repository that everyone can read unless that was asked for, or that is not for bundles.

    Raises:
        ConfigError: It is public.
        DataError: It holds other files.
    """
    if not before.private and not public:
        raise ConfigError(
            f"{where} is public. Everyone could read the networks and the digests of the training subjects. Nothing "
            "was pushed. Give --public if that is meant, or make the repository private."
        )
    names = [each.rfilename for each in before.siblings or ()]
    others = [name for name in names if not is_own_file(name) and name not in FILES_OF_THE_HUB]
    if others:
        raise DataError(
            f"{where} holds files that no bundle has: {listed(others, most=5)}. Nothing was pushed. Choose another "
            "name, or remove them first."
        )


def _operations(folder: Path, names: list[str], card: str, present: list[str]) -> list[Any]:
    """The changes of one commit that leave exactly this bundle in the repository."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = [name for name in present if is_own_file(name) and name not in names]
    return [
        *(CommitOperationDelete(path_in_repo=name) for name in gone),
        CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card.encode()),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names),
    ]
