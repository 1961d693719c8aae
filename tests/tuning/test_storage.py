"""Storages of studies."""

from __future__ import annotations

import pytest

from gyrus.errors import ConfigError, GyrusError
from gyrus.tuning.storage import open_storage, without_password


def test_storages_are_opened_by_their_address(tmp_path):
    assert open_storage(None, tmp_path / "new").get_all_studies() == []
    assert (tmp_path / "new" / "study.db").exists()
    with pytest.raises(ConfigError, match="postgresql://user:password@host/database"):
        open_storage("mysql://host/database", tmp_path)
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    with pytest.raises(GyrusError, match=r"broken\.db"):
        open_storage(str(tmp_path / "broken.db"), tmp_path)
    assert without_password("postgresql://ann:secret@host:1/tuning") == "postgresql://ann@host:1/tuning"


def test_errors_do_not_contain_the_password(tmp_path):
    with pytest.raises(GyrusError) as caught:
        open_storage("postgresql://ann:secret@127.0.0.1:9/tuning", tmp_path)
    assert "secret" not in str(caught.value)
    assert "ann@127.0.0.1:9" in str(caught.value)
