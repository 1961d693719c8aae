# %% [markdown]
# # Whole heads from BIDS
#
# Volumes instead of slices: NIfTI files in the layout of [BIDS](https://bids.neuroimaging.io), with the diagnosis in
# `participants.tsv`.

# %%
# !gyrus data phantom bids --layout nifti --classes 2 --subjects 48 --slices 16 --size 48 --seed 1

# %%
from pathlib import Path

print(Path("bids/participants.tsv").read_text()[:150])

# %% [markdown]
# Gyrus finds the volumes and the table by itself. Each row is one session of one subject.

# %%
import gyrus

gyrus.scan("bids")

# %% [markdown]
# ## Look at one volume after each step
#
# Orientation, spacing and cropping change what the network gets. Look before training.

# %%
# !gyrus data preview bids/sub-P002/anat/sub-P002_T1w.nii.gz --recipe small-cnn3d --out steps.png

# %% [markdown]
# ![One volume after each step of preprocessing, in three planes](steps.png)
#
# ## Train in 3D

# %%
# !gyrus train --recipe small-cnn3d --data bids --out run3d --quiet --set training.epochs=4 --set evaluation.unlike_training=false

# %%
gyrus.Run.open("run3d")

# %% [markdown]
# With few subjects the intervals are wide, and the page says so. [Volumes](../volumes.md) describes every step,
# [several sequences](../sequences.md) how T1 and FLAIR become channels.
