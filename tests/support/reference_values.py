"""Numbers of other libraries to compare with, and how they were computed.

``reference_values.json`` holds what the libraries printed, with their versions. To compute it again, in an environment
of their own::

    pip install mapie==1.6.0 neuroCombat==0.2.12 neuroHarmonize==2.5.2 statsmodels==0.15.0 coral-pytorch==1.4.0 torch
    python -m tests.support.reference_values

Where a library is installed beside Gyrus, the tests compare with it directly, too.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FILE = Path(__file__).with_suffix(".json")

SOURCES = pytest.mark.parametrize("source", ["stored", "computed"])
"""Compare with the stored values, and with those of the library itself."""

Values = dict[str, list[Any]]


def interval_inputs() -> dict[str, np.ndarray]:
    """True and predicted numbers, and predicted quantiles (N, 3) that are too narrow; "val" and "test"."""
    found = {}
    for seed, (subset, count) in enumerate((("val", 40), ("test", 12))):
        random = np.random.default_rng(seed)
        truth = random.uniform(20, 80, count)
        predicted = truth + truth / 10 * random.normal(size=count)
        width = truth[:, None] / 20 * np.array([-1.0, 0.0, 1.0])
        found |= {f"{subset} truth": truth, f"{subset} predicted": predicted[:, None] + width}
    return found


def site_inputs(seed: int, count: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Features (N, 5), sites and ages; sites shift and scale the features."""
    random = np.random.default_rng(seed)
    code = np.arange(count) % 3
    age = random.uniform(20, 80, count)
    noise = random.normal(size=(count, 5)) * np.array([1.0, 1.7, 0.6])[code][:, None]
    shift = np.array([[0.0] * 5, [2.0, 1.0, 1.5, 2.5, 0.5], [-1.0, -0.5, 0.0, -2.0, -1.0]])[code]
    return 10 + 0.05 * age[:, None] * np.linspace(-1, 1, 5) + noise + shift, ["ABC"[one] for one in code], age


def stage_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Two features and one of four ordered classes (N,), of proportional odds."""
    random = np.random.default_rng(3)
    features = random.normal(size=(150, 2))
    scores = features @ np.array([1.2, -0.7]) + random.logistic(size=150)
    return features, (scores[:, None] > np.array([-1.0, 0.5, 1.8])).sum(axis=1)


def mapie() -> Values:
    """The ends of the intervals of the test rows, of equal width and around quantiles (Romano et al. 2019)."""
    from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor
    from sklearn.base import BaseEstimator, RegressorMixin

    class Column(RegressorMixin, BaseEstimator):
        """Predicts a column of its input."""

        def __init__(self, place: int = 1) -> None:
            self.place = place
            self.fitted_ = True

        def fit(self, features: Any, targets: Any) -> Any:  # noqa: ARG002
            return self

        def predict(self, features: Any) -> Any:
            return np.asarray(features)[:, self.place]

    data = interval_inputs()
    one = SplitConformalRegressor(Column(), confidence_level=0.9, prefit=True)
    one.conformalize(data["val predicted"], data["val truth"])
    _, equal = one.predict_interval(data["test predicted"])
    other = ConformalizedQuantileRegressor([Column(0), Column(2), Column(1)], confidence_level=0.9, prefit=True)
    other.conformalize(data["val predicted"], data["val truth"])
    _, around = other.predict_interval(data["test predicted"], symmetric_correction=True)
    return {"absolute": equal[:, :, 0].tolist(), "quantiles": around[:, :, 0].tolist()}


def neuroCombat() -> Values:  # noqa: N802
    """The harmonised features of the training subjects, whose age is kept; and with no covariate."""
    import pandas as pd
    from neuroCombat import neuroCombat as harmonise  # noqa: N813

    features, sites, age = site_inputs(1, 36)
    covars = pd.DataFrame({"site": sites, "age": age})
    kept = harmonise(features.T, covars, "site", continuous_cols=["age"])["data"].T
    return {"age": kept.tolist(), "none": harmonise(features.T, covars[["site"]], "site")["data"].T.tolist()}


def neuroHarmonize() -> Values:  # noqa: N802
    """The harmonised features of new subjects, by the fit on others."""
    import pandas as pd
    from neuroHarmonize import harmonizationApply, harmonizationLearn

    features, sites, age = site_inputs(1, 36)
    model, _ = harmonizationLearn(features, pd.DataFrame({"SITE": sites, "age": age}))
    new, where, old = site_inputs(2, 9)
    return {"new": harmonizationApply(new, pd.DataFrame({"SITE": where, "age": old}), model).tolist()}


def statsmodels() -> Values:
    """Weights, thresholds and log-probabilities of the proportional odds model by maximum likelihood."""
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    features, targets = stage_inputs()
    model = OrderedModel(targets, features, distr="logit")
    fit = model.fit(method="bfgs", disp=False, gtol=1e-8, maxiter=500)
    thresholds = model.transform_threshold_params(fit.params)[1:-1]
    chances = np.asarray(fit.model.predict(fit.params, exog=features[:10]))
    return {
        "weights": fit.params[:2].tolist(),
        "thresholds": thresholds.tolist(),
        "log_probabilities": np.log(chances).tolist(),
    }


def corn_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Logits of the three binary tasks (N, 3) and one of four ordered classes (N,)."""
    random = np.random.default_rng(4)
    return random.normal(size=(24, 3)).astype(np.float32), np.arange(24) % 4


def coral_pytorch() -> Values:
    """The loss of CORN, and the classes it predicts."""
    import torch
    from coral_pytorch.dataset import corn_label_from_logits
    from coral_pytorch.losses import corn_loss

    logits, targets = (torch.from_numpy(each) for each in corn_inputs())
    return {
        "loss": [float(corn_loss(logits, targets, num_classes=4))],
        "classes": corn_label_from_logits(logits).tolist(),
    }


LIBRARIES: dict[str, Callable[[], Values]] = {
    "mapie": mapie,
    "neuroCombat": neuroCombat,
    "neuroHarmonize": neuroHarmonize,
    "statsmodels": statsmodels,
    "coral_pytorch": coral_pytorch,
}


def reference(library: str, source: str) -> Values:
    """What a library printed ("stored"), or prints now ("computed"); a test is skipped where it is not installed."""
    if source == "stored":
        return dict(json.loads(FILE.read_text(encoding="utf-8"))[library]["values"])
    pytest.importorskip(library, reason=f"{library} is not installed: only its stored values are compared")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the library are not ours to mend
        return LIBRARIES[library]()


if __name__ == "__main__":
    found = {
        name: {"version": version(name.replace("_", "-")), "values": compute()} for name, compute in LIBRARIES.items()
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print("\n".join(f"{name} {each['version']}" for name, each in found.items()))
