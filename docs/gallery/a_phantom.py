"""Phantom heads.

Synthetic heads whose ventricles and sulci widen with the class, for demonstrations and tests.
"""

import matplotlib.pyplot as plt

from gyrus.synthetic.phantom import generate

heads = generate(subjects=4, slices=4, classes=4, size=128, seed=3)
figure, panels = plt.subplots(1, 4, figsize=(8, 2.2))
for axes, volume, label in zip(panels, heads.volumes, heads.labels, strict=True):
    axes.imshow(volume[2], cmap="gray")
    axes.set_title(heads.class_names[label], fontsize=7)
    axes.set_axis_off()
figure.savefig("a_phantom.png", dpi=110, bbox_inches="tight")
