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


WITHOUT_TORCH = """
import sys
sys.argv = ["gyrus", *sys.argv[1:]]
from gyrus.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print()
print(*{name.partition(".")[0] for name in sys.modules})
"""

HEAVY = {"torch", "torchvision", "lightning", "timm", "monai", "captum", "sklearn", "skimage"}
"""What is not in the small environment for bundles."""


def without_torch(*arguments: object) -> set[str]:
    """The packages that a command has loaded in a process of its own, which must not be :data:`HEAVY` ones."""
    words = [str(each) for each in arguments]
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded = {*result.stdout.splitlines()[-1].split()}
    assert not HEAVY & loaded
    return loaded
