"""The same training, two splits.

Split by image, the classifier has seen other slices of each test subject. Split by subject, it has not. See
[Comparison](../comparison.md).
"""

import shutil

shutil.copy("demo/runs/figures/comparison_accuracy.png", "i_comparison.png")  # of the demo above
