"""A volume, step by step.

A volume in three planes after each step of preprocessing. See [Volumes](../volumes.md).
"""

import gyrus

gyrus.phantom("bids", layout="nifti", subjects=2, slices=24, size=96)
volume = "bids/sub-P002/anat/sub-P002_T1w.nii.gz"
gyrus.preview(volume, out="c_volume.png", config="small-cnn3d")
