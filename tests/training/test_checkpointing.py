from __future__ import annotations

import pickle
import resource
import signal

import pytest
import torch

from gyrus.errors import GyrusError, RunError
from gyrus.training.checkpointing import load_checkpoint, save_checkpoint


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


def test_a_full_disk_is_reported_and_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(GyrusError, match=r"Cannot write .*last\.ckpt: No space left on device"):
            save_checkpoint(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path)["epoch"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
