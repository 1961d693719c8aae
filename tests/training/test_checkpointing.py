from __future__ import annotations

import pickle

import pytest
import torch

from gyrus.errors import RunError
from gyrus.training.checkpointing import load_checkpoint, remove_incomplete, save_checkpoint


def test_a_checkpoint_is_read_back_unchanged(tmp_path):
    content = {"weights": {"a": torch.arange(3)}, "rows": [{"epoch": 1, "score": float("nan")}], "name": "x", "n": None}
    save_checkpoint(tmp_path / "last.ckpt", content)
    again = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(again["weights"]["a"], torch.arange(3))
    assert again["rows"][0]["score"] != again["rows"][0]["score"]


class Evil:
    def __reduce__(self):
        return print, ("code from a file was run",)


@pytest.mark.parametrize("kind", ["empty", "text", "half", "code", "missing", "folder"])
def test_damaged_files_are_refused_and_no_code_is_run(tmp_path, kind, capsys):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"a": torch.zeros(1000)})
    half = path.read_bytes()[:2000]
    contents = {"empty": b"", "text": b"hello", "half": half, "code": pickle.dumps(Evil())}
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(contents[kind])
    with pytest.raises(RunError, match=r"last\.ckpt"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_other_formats_are_refused(tmp_path):
    torch.save({"format": 99}, tmp_path / "newer.ckpt")
    with pytest.raises(RunError, match="has format 99, but this version of Gyrus reads format 1"):
        load_checkpoint(tmp_path / "newer.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(RunError, match="has format None"):
        load_checkpoint(tmp_path / "list.ckpt")


def test_only_incomplete_files_are_removed(tmp_path):
    for name in (".last.ckpt-ab12.ckpt", ".best.ckpt-cd34.ckpt", "last.ckpt", "best.ckpt", ".other"):
        (tmp_path / name).touch()
    remove_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other", "best.ckpt", "last.ckpt"]
