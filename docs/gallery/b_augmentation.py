"""Augmentation.

One slice after each step of a chain of MRI artefacts. See [Augmentation](../augmentation.md).
"""

import gyrus

gyrus.phantom("augmented", subjects=4, slices=4, size=96)
steps = ["rotation", "shear", "bias-field", "noise", "ghosting", "spikes"]
chain = {"augmentation": {"steps": [{"step": step, "probability": 1.0} for step in steps]}}
gyrus.augment_preview("augmented", out="b_augmentation.png", overrides=chain)
