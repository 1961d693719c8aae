"""The command line as a user meets it, on real files."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from gyrus.cli.app import main
from tests.conftest import SMALL
from tests.support.options import set_options

SETTINGS = set_options(SMALL)
"""Options that make the first recipe fit the small phantom."""


def gyrus(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has paid for its imports already."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["gyrus", *words])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def succeeded(*arguments: object) -> str:
    """The output of a command that must end with exit code 0."""
    result = gyrus(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2 and no traceback."""
    result = gyrus(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())
