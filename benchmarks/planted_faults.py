"""Plant faults in the guards of an honest score, one at a time, and count which the tests notice.

Each fault replaces one piece of the source by another in a copy of the package, and runs the tests of the guards on the
copy. A fault that no test notices is printed as SURVIVED, and the exit code is 1.

    python benchmarks/planted_faults.py [--only WORD]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/contracts/test_guards.py", "tests/datasets/test_splits.py")

FAULTS = (
    (
        "datasets/splits.py",
        "an overlap is not refused",
        "    if shared:\n        raise LeakageError",
        "    if False:\n        raise LeakageError",
    ),
    ("datasets/splits.py", "overlap with validation ignored", "combinations(SUBSETS, 2)", '[("train", "test")]'),
    ("datasets/splits.py", "only units by subject checked", 'if split.unit != "image":', 'if split.unit == "subject":'),
    (
        "datasets/copies.py",
        "copies in two subsets not found",
        "            if content in members[earlier]",
        "            if content in members[earlier] and False",
    ),
    (
        "datasets/splits.py",
        "copies dealt to two subsets",
        "groups = group_units(manifest, _units(manifest, config.unit))",
        "groups = _units(manifest, config.unit)",
    ),
    (
        "workflows/data_module.py",
        "scaling fitted on all rows",
        "store.statistics[train]",
        "store.statistics[train | True]",
    ),
    (
        "workflows/data_module.py",
        "validation set augmented",
        'data.dataset("val"),',
        'data.dataset("val", settings.augmentation),',
    ),
    (
        "workflows/data_module.py",
        "predictions of augmented images",
        "                self.dataset(subset),\n                augmented,",
        "                self.dataset(subset, self.settings.augmentation),\n                augmented,",
    ),
    (
        "datasets/splits.py",
        "folds not stratified",
        "for names in _by_label(labels, seed, fine) for name in names]",
        'for names in _by_label(labels.map(lambda _: "all"), seed, fine) for name in names]',
    ),
    (
        "workflows/baselines.py",
        "C of the SVM chosen on test",
        "recall_score(val.targets, scores[0].argmax(axis=1)",
        "recall_score(test.targets, scores[1].argmax(axis=1)",
    ),
    (
        "workflows/baselines.py",
        "metadata baseline trained on all rows",
        "fit(frame[train], rows.targets[train])",
        "fit(frame, rows.targets)",
    ),
    ("datasets/store.py", "key ignores the low percentile", "preprocessing.intensity.low, ", ""),
    ("datasets/store.py", "key ignores the high percentile", ", preprocessing.intensity.high", ""),
    (
        "datasets/store.py",
        "key ignores parameters of volume steps",
        '"volume": [step.model_dump(mode="json") for step in preprocessing.volume]',
        '"volume": [step.step for step in preprocessing.volume]',
    ),
    (
        "datasets/store_shards.py",
        "rows after the first shard are wrong",
        "manifest.table.iloc[rows.start : rows.stop]",
        "manifest.table.iloc[: len(rows)]",
    ),
    ("datasets/manifest.py", "digest without label", '"sample", "label", "subject"', '"sample", "subject"'),
    (
        "audit/leakage.py",
        "duplicates inside a subset counted as across",
        "subsets[pair.first] != subsets[pair.second]",
        "True",
    ),
    (
        "audit/duplicates.py",
        "threshold of other subjects used for the same subject",
        "needed[subjects[aligned.first] != subjects[aligned.second]] =",
        "needed[:] =",
    ),
    (
        "evaluation/comparison.py",
        "permutation p without plus one",
        "(1 + extreme) / (1 + len(permuted))",
        "extreme / len(permuted)",
    ),
    (
        "training/weight_averaging.py",
        "no warm-up of the average",
        "min(config.decay, (1 + number) / (10 + number))",
        "config.decay",
    ),
    (
        "training/weight_averaging.py",
        "count of the average off by one",
        "number = self.count + 1",
        "number = self.count",
    ),
    ("configuration.py", "YAML of a file may run code", "Loader=_LOADER", "Loader=yaml.UnsafeLoader"),
    ("configuration.py", "YAML of --set may run code", "yaml.safe_load(value)", "yaml.unsafe_load(value)"),
)


def stale(package: Path) -> list[str]:
    """The faults that cannot be planted, because the piece of source does not occur exactly once."""
    counts = {
        (file, description): (package / file).read_text(encoding="utf-8").count(original)
        for file, description, original, _ in FAULTS
    }
    return [
        f"{file}: {description}: found {count} times" for (file, description), count in counts.items() if count != 1
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only faults whose file or description contains this word")
    arguments = parser.parse_args()
    if found := stale(ROOT / "src" / "gyrus"):
        sys.exit("\n".join(["Update FAULTS:", *found]))
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for file, description, original, fault in FAULTS:
            if arguments.only not in f"{file} {description}":
                continue
            path = copy / "gyrus" / file
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(original, fault), encoding="utf-8")
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:randomly",
                "-p",
                "no:cacheprovider",
                *TESTS,
            ]
            environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            path.write_text(text, encoding="utf-8")
            if done.returncode not in (0, 1):
                sys.exit(f"{file}: pytest could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            failed = [
                line.split(" ")[1].split("::")[1] for line in done.stdout.splitlines() if line.startswith("FAILED")
            ]
            survived += not failed
            print(f"{'noticed ' if failed else 'SURVIVED'}  {file}: {description}  {', '.join(failed)}", flush=True)
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
