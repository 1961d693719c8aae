# %% [markdown]
# # Your first honest score
#
# From a folder of images to a score on people whom the classifier has never seen. The data are phantoms, so the page runs
# everywhere; replace `slices` by your own folder with one folder per class.

# %%
# !gyrus data phantom slices --layout lesions --subjects 140 --slices 16 --size 32

# %% [markdown]
# ## What is in the folder
#
# `gyrus data scan slices` prints the same as this table. Look at the number of subjects, and at how they were recognised: a
# subject with images in both the training and the test set is a leak.

# %%
import gyrus

manifest = gyrus.scan("slices")
manifest

# %%
gyrus.split(manifest, gyrus.SplitConfig(test=0.35))

# %% [markdown]
# ## Train
#
# The recipe is a small network; the settings suit small images and keep this page fast.

# %%
# !gyrus train --recipe dementia-dense-dropout --data slices --out run --quiet --set training.epochs=8 --set split.test=0.35 --set preprocessing.steps.1.size=[32,32] --set training.optimiser.lr=0.003 --set evaluation.unlike_training=false | head -n 6

# %% [markdown]
# The first line answers the first question: is the classifier better than guessing, and better than simple classifiers on the same
# subjects? The brackets are 95 % confidence intervals. `run/report.html` shows the same with all figures; `run/metrics.json` holds the
# numbers.

# %%
gyrus.Evaluation.load(gyrus.Run.open("run").metrics)

# %% [markdown]
# ![Confusion matrix of the test set, by subject](run/figures/confusion_subject.png)
#
# ## What to quote
#
# Quote the score *by subject* with its interval and the number of subjects. If the interval is wide, use
# [cross-validation](../crossval.md): it tests every subject once.
#
# Next: [find out what is wrong with a data set](what_is_wrong.md), [compare and tune](compare_and_tune.md).
