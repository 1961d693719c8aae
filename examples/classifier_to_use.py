# %% [markdown]
# # From classifier to use
#
# A trained classifier becomes a bundle: one folder that predicts without PyTorch, with proof that it gives the same probabilities.

# %%
# !gyrus data phantom slices --layout lesions --subjects 40 --slices 6 --size 32
# !gyrus data phantom new --layout lesions --subjects 4 --slices 6 --size 32 --seed 9

# %%
import gyrus

run = gyrus.train(
    "dementia-dense-dropout",
    data="slices",
    out="run",
    overrides={"preprocessing.steps.1.size": [32, 32], "training.epochs": 4, "training.optimiser.lr": 0.003},
)
run

# %% [markdown]
# ## Where does it look?
#
# Heat maps come with checks: a map that looks the same for a network with random weights shows nothing.

# %%
# !gyrus explain run --quiet

# %% [markdown]
# ## Export, verify, predict

# %%
# !gyrus export run --out bundle --licence CC-BY-4.0
# !gyrus export verify bundle

# %%
# !gyrus predict bundle new --out predictions.csv

# %%
from pathlib import Path

print("\n".join(Path("predictions.csv").read_text().splitlines()[:4]))

# %% [markdown]
# `gyrus serve bundle` opens a page in the browser that predicts one scan. Before others rely on a classifier, test it on the people of
# another hospital: [External validation](../external-validation.md). A bundle is for research, not for decisions about patients.
