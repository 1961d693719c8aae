"""Explanation.

Heat maps of single images; where the network is wrong, the title is coloured. See [Explanation](../explanation.md).
"""

import shutil

import gyrus

found = gyrus.explain("demo/runs/subject", config=gyrus.ExplainConfig(shown=4, images=8))  # of the demo above
shutil.copy(found.figures / "grid_grad_cam.png", "h_explanation.png")
