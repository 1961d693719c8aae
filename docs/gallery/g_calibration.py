"""Calibration.

Predicted probability against observed frequency, before and after the calibration that was chosen on the validation
set. See [Evaluation](../evaluation.md).
"""

import shutil

shutil.copy("demo/runs/subject/figures/reliability.png", "g_calibration.png")  # of the demo above
