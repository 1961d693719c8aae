"""Picture of a volume in the viewer of ``gyrus serve``; needs playwright and a Chromium browser.

python docs/scripts/viewer.py docs/images/viewer.png
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import sync_playwright

COMMANDS = """data phantom bids --layout nifti --subjects 24 --slices 32 --size 64
train --recipe small-cnn3d --data bids --out run --quiet --set training.epochs=2
export run --out bundle"""

if __name__ == "__main__":
    out, home = Path(sys.argv[1]).resolve(), Path(tempfile.mkdtemp())
    for command in COMMANDS.splitlines():
        subprocess.run(["gyrus", *command.split()], cwd=home, check=True)
    serve = ["gyrus", "serve", "bundle", "--port", "8765"]
    with subprocess.Popen(serve, cwd=home, stderr=subprocess.PIPE) as server, sync_playwright() as library:
        assert server.stderr is not None
        while b"Serving" not in server.stderr.readline():  # printed when it listens
            pass
        webgl = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        page = library.chromium.launch(executable_path=which("chromium"), args=webgl).new_page()
        page.goto("http://127.0.0.1:8765", wait_until="networkidle")
        page.set_input_files("#files", next(home.glob("bids/sub-*/anat/*.nii.gz")))
        page.locator("#viewer .volume").wait_for()
        page.locator("#viewer").screenshot(path=out)
        server.terminate()
