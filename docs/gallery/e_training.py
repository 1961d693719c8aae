"""Training curves.

Loss and score on the training and the validation set, and the epoch whose weights are kept. See
[Training](../training.md).
"""

import shutil

import gyrus

both = gyrus.demo("demo")
shutil.copy(both.subject.figures / "training_curves.png", "e_training.png")
