"""One experiment from files to an honest score. The package to read first, from ``running.py`` on.

Every noun that is made on the way is saved in the run folder, so that :func:`predict` and :func:`evaluate` need
nothing else.
"""

from gyrus.experiment.config import About, DataConfig, EvaluationConfig, ExperimentConfig, load_config, recipes
from gyrus.experiment.crossval import CrossValidation, cross_validate, cross_validate_both
from gyrus.experiment.display import SILENT, Display, Silent
from gyrus.experiment.ensembles import Ensemble, ensemble
from gyrus.experiment.inputs import preview_augmentation
from gyrus.experiment.predicting import predict
from gyrus.experiment.running import evaluate, resume, train
from gyrus.experiment.several import Repeats, SplitComparison, train_both, train_seeds

__all__ = [
    "SILENT",
    "About",
    "CrossValidation",
    "DataConfig",
    "Display",
    "Ensemble",
    "EvaluationConfig",
    "ExperimentConfig",
    "Repeats",
    "Silent",
    "SplitComparison",
    "cross_validate",
    "cross_validate_both",
    "ensemble",
    "evaluate",
    "load_config",
    "predict",
    "preview_augmentation",
    "recipes",
    "resume",
    "train",
    "train_both",
    "train_seeds",
]
