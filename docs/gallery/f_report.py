"""Confusion matrix of a report.

By subject: the probabilities of the images of a subject are averaged. See [Evaluation](../evaluation.md).
"""

import shutil

shutil.copy("demo/runs/subject/figures/confusion_subject.png", "f_report.png")  # of the demo above
