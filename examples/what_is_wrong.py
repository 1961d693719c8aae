# %% [markdown]
# # Find out what is wrong with a data set
#
# Public copies of data sets have duplicates, wrong labels and traces of their origin. This page plants three faults in a phantom and
# lets the audit find them.

# %%
# !gyrus data phantom slices --layout train-test --subjects 32 --slices 8 --size 64 --classes 2

# %%
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

first = sorted(Path("slices/train/Control").glob("*.png"))
shutil.copy(first[0], "slices/test/Control/sub-X98_slice-00.png")  # 1. a training image in the test set

for path in Path("slices").glob("*/Dementia/*.png"):  # 2. one class comes from a scanner that writes a mark
    pixels = np.array(Image.open(path))
    pixels[:5, :5] = 200
    Image.fromarray(pixels).save(path)

Image.new("L", (64, 64)).save("slices/train/Control/sub-X99_slice-00.png")  # 3. an empty image

# %%
# !gyrus audit slices --out audit --no-maps > log.txt 2>&1 && ls audit

# %%
import gyrus

findings = gyrus.Findings.load("audit/findings.json")
findings

# %% [markdown]
# ## What to do
#
# `audit/findings.csv` names the images. `gyrus data prepare` writes a copy without those that a rule excludes, and a log of every
# decision; the original stays as it is.

# %%
# !gyrus data prepare slices --out clean

# %% [markdown]
# The mark cannot be cleaned away by a rule: crop it, or mask what is outside the head ([Preparation](../preparation.md)). Then audit
# again. [Audit](../audit.md) describes each check and what it cannot find.
