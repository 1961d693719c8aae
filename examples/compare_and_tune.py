# %% [markdown]
# # Compare and tune
#
# Is one network better than another? Only a comparison on the same subjects, with an interval of the difference, can tell.

# %%
# !gyrus data phantom slices --layout lesions --subjects 60 --slices 8 --size 32

# %% [markdown]
# The split depends on the seed and the data alone, so both classifiers are tested on the same subjects.

# %%
import gyrus

quick = {
    "preprocessing.steps.1.size": [32, 32],
    "training.epochs": 4,
    "training.optimiser.lr": 0.003,
    "split.test": 0.35,
    "evaluation.unlike_training": False,
}
for name in ("dementia-baseline", "dementia-dense-dropout"):
    gyrus.train(name, data="slices", out=name, overrides=quick)

# %%
# !gyrus compare dementia-baseline dementia-dense-dropout --out comparison

# %% [markdown]
# If the interval of the difference contains 0, these subjects do not show which is better: quote that.
#
# ## Tune
#
# A study tries settings on the validation set. It never reads the test set.

# %%
# !gyrus tune --recipe dementia-dense-dropout --data slices --out study --trials 3 --range training.optimiser.lr=1e-4:1e-2:log --set training.epochs=2 --set preprocessing.steps.1.size=[32,32] --quiet

# %% [markdown]
# The best score on the validation set is optimistic, because it is the best of several on the same subjects. Train once more with the
# settings found (`study/best.yaml`), and quote the score on the test set. See [Tuning](../tuning.md) and [Comparison](../comparison.md).
