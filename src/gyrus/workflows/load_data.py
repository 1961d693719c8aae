"""Read the data of an experiment: labelled for training, without labels for prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gyrus.datasets.class_order import FEWEST
from gyrus.datasets.copies import may_hide_copies
from gyrus.datasets.manifest import VOLUME_FILES, Manifest, Problem
from gyrus.datasets.scan import scan
from gyrus.datasets.sources.table import TABLE_EXTENSIONS, has_paths
from gyrus.datasets.splits import SplitConfig
from gyrus.datasets.store import without_unusable
from gyrus.datasets.table_features import TableEncoder, additional_columns, find_column
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.decoding import is_image
from gyrus.imaging.volume_formats import is_volume
from gyrus.text import counted, listed
from gyrus.types import MissingChannel
from gyrus.workflows.display import Display, show_notes
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig

Input = str | Path | tuple[Path, ...]
"""What is predicted: a path, or the files of sessions with several channels."""


def scan_data(config: DataConfig, display: Display) -> Manifest:
    """The manifest of the labelled data that a config names.

    Raises:
        ConfigError: The config names no data.
        DataError: The data cannot be read, or contain unusable files.
    """
    path = data_path(config)
    with display.progress("Reading files") as progress:
        manifest = _scan(path, config, progress)
    if config.merge:
        manifest = _merged(manifest, config)
    if config.subjects == "inferred":
        from gyrus.audit.subjects_from_pixels import with_inferred_subjects

        with display.progress("Finding subjects") as progress:
            manifest = with_inferred_subjects(manifest, progress=progress)
    return _as_samples(manifest, config, display)


def data_path(config: DataConfig) -> str:
    """The data that a config names.

    Raises:
        ConfigError: It names none.
    """
    if config.path is None:
        raise ConfigError("No data: name a folder, a table or hf:owner/name with --data, or as data.path.")
    return config.path


def scan_to_train(settings: ExperimentConfig, display: Display, *, cache: Path | None = None) -> Manifest:
    """As :func:`scan_data`, with near copies; with ``on_bad_file: skip`` without samples that cannot be prepared.

    Args:
        settings: The config.
        display: Where progress and notes are shown.
        cache: Where prepared images are kept; by default in the cache.

    Raises:
        ConfigError: The config names no data.
        DataError: The data cannot be read, or contain unusable files.
    """
    manifest = scan_data(_reading(settings), display)
    _require_inputs(manifest, settings)
    return with_copies_together(without_unprepared(manifest, settings, display, cache=cache), settings.split, display)


def with_copies_together(manifest: Manifest, split: SplitConfig, display: Display) -> Manifest:
    """The manifest with the near copies that a new split keeps in one subset.

    Nothing is searched for where subjects are known and have several images, of volumes and their slices, and where the
    data define the test set.

    Raises:
        DataError: An image can no longer be read.
    """
    given = split.method in ("given", "leave-one-group-out") or (manifest.table["subset"] == "test").any()
    if given or split.near_copies == "apart" or not may_hide_copies(manifest):
        return manifest
    from gyrus.audit.near_copies import with_near_copies

    with display.progress("Finding copies") as progress:
        return with_near_copies(manifest, progress=progress)


def without_unprepared(
    manifest: Manifest, settings: ExperimentConfig, display: Display, *, cache: Path | None = None
) -> Manifest:
    """With ``on_bad_file: skip``, the manifest without samples that cannot be prepared, which are shown."""
    if settings.data.on_bad_file == "fail" or not manifest.has_images:
        return manifest
    with display.progress("Preparing images") as progress:
        usable = without_unusable(manifest, settings.preprocessing, cache=cache, progress=progress)
    _show_skipped([problem for problem in usable.problems if problem not in manifest.problems], display)
    return usable


def _reading(settings: ExperimentConfig) -> DataConfig:
    """How the data of a config are read: a table without paths has no images, if the model needs none."""
    return settings.data if settings.model.needs_images else without_images(settings.data.path, settings.data)


def is_people_table(path: str | Path, columns: Mapping[str, str]) -> bool:
    """Whether a path is a table that names no images."""
    file = Path(path)
    return file.suffix.lower() in TABLE_EXTENSIONS and file.is_file() and not has_paths(file, columns)


def without_images(path: Input | None, config: DataConfig) -> DataConfig:
    """How a classifier that needs no images reads a path: a table that names none holds subjects."""
    if isinstance(path, str | Path) and config.source is None and is_people_table(path, config.columns):
        return config.model_copy(update={"source": "people"})
    return config


def _require_inputs(manifest: Manifest, settings: ExperimentConfig) -> None:
    """Refuse data that lack what the model classifies by.

    Raises:
        ConfigError: The columns are not named, or do not exist.
        DataError: The model needs images, and there are none.
    """
    model, columns = settings.model, settings.data.table_columns
    if model.needs_images and not manifest.has_images:
        raise DataError(
            f"{settings.data.path} has no images, and the model {model.name} needs them. For a classifier on the "
            "columns of a table: --set model.name=logistic-regression --table-columns age,sex."
        )
    takes_table = model.classical is not None and "table" in model.classical.features
    if takes_table and not columns:
        known = [name for name in additional_columns(manifest.table) if manifest.table[name].notna().any()]
        raise ConfigError(
            f"The model {model.name} classifies by the columns of a table; name them with --table-columns, such as "
            f"age,sex. The data have: {listed(known, 20) or 'none'}."
        )
    if model.classical is not None:
        _require_settings_without_network(manifest, settings)
    if columns:
        _require_classes(manifest, settings)
    for name in settings.data.columns_of_the_table:
        find_column(manifest.table, name)


def _require_settings_without_network(manifest: Manifest, settings: ExperimentConfig) -> None:
    """Refuse what only a network has.

    Raises:
        ConfigError: A setting needs a network.
    """
    name, classical = settings.model.name, settings.model.classical
    assert classical is not None
    if manifest.target.is_number and name != "ridge":
        raise ConfigError(
            f"The model {name} predicts classes, and data.target asks for the number '{manifest.target.name}'. Use "
            "model.name=ridge (ridge regression), or a network."
        )
    if manifest.target.is_number and getattr(classical, "class_weight", "none") != "none":
        raise ConfigError("model.options.class_weight is for classes, and data.target is a number. Leave it out.")
    if settings.data.patches:
        raise ConfigError(f"The model {name} classifies whole images, and data.patches is set. Leave it out.")
    if settings.data.table_columns and "table" not in classical.features:
        raise ConfigError(
            f"data.table_columns names columns, and the model {name} does not use them: add 'table' to "
            "model.options.features, or leave the columns out."
        )


def _require_classes(manifest: Manifest, settings: ExperimentConfig) -> None:
    if settings.data.patches and settings.model.classical is None and settings.model.fusion != "late":
        raise ConfigError(
            f"model.fusion={settings.model.fusion} needs whole images, and data.patches is set. Use model.fusion=late."
        )
    if manifest.target.is_number and settings.model.classical is None:
        raise ConfigError(
            f"A network takes data.table_columns for classes only, and data.target asks for the number "
            f"'{manifest.target.name}'. Leave one of them out, or use ridge regression: model.name=ridge, with "
            "model.options.features [table] or [table, voxels]."
        )


def scan_path(
    path: str | Path, config: DataConfig | None, display: Display, *, on_bad_file: Literal["fail", "skip"] | None = None
) -> Manifest:
    """The manifest of the labelled data at a path, read as the config describes.

    Args:
        path: The data.
        config: How to read them.
        display: Where progress and notes are shown.
        on_bad_file: Instead of that of the config.

    Raises:
        DataError: As :func:`scan_data`.
    """
    changes = {"path": str(path)} | ({"on_bad_file": on_bad_file} if on_bad_file else {})
    return scan_data((config or DataConfig()).model_copy(update=changes), display)


def scan_unlabelled(path: Input, config: DataConfig, display: Display) -> Manifest:
    """The manifest of new images; labels are ignored.

    Raises:
        DataError: The images cannot be read, or contain unusable files.
    """
    with display.progress(f"Reading {input_text(path)}") as progress:
        manifest = _scan(path, config, progress, labelled=False)
    return _as_samples(manifest, config, display)


def require_table_columns(encoder: TableEncoder, manifest: Manifest, display: Display) -> None:
    """Refuse data without the columns of a classifier, before anything is decoded; missing cells are noted.

    Raises:
        DataError: A column is missing, or a cell is not what its column holds.
    """
    try:
        encoder.encode(manifest.table)
    except DataError as error:
        raise DataError(f"{error} Give the table of the subjects with --table.") from error
    show_missing_cells(encoder, manifest, display)


def show_missing_cells(encoder: TableEncoder, manifest: Manifest, display: Display) -> None:
    """Show in how many samples a column is missing."""
    whole = counted(len(manifest), "image" if manifest.has_images else "row")
    for name, count in encoder.missing(manifest.table).items():
        display.say(f"Note: '{name}' is missing in {count} of {whole}: the mean of the training set is used.")


def measure_and_show_heads(manifest: Manifest, display: Display) -> None:
    """Measure the volumes of whole heads, which are kept in the cache, and show which could not be measured."""
    from gyrus.inference.head_volumes import measure_heads, unmeasured_text

    with display.progress("Measuring heads") as progress:
        sentence = unmeasured_text(measure_heads(manifest, progress))
    if sentence:
        display.say(sentence)


def channel_patterns(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The pattern of each channel of a classifier, in its order: the one that is given for new data, else its own.

    Raises:
        ConfigError: A given name is no channel of the classifier.
    """
    strangers = [name for name in given if name not in own]
    if strangers:
        has = f"the channels {', '.join(own)}" if own else "no channels: each file is a sample"
        raise ConfigError(f"--channel {strangers[0]}: this classifier has {has}.")
    return {name: given.get(name, pattern) for name, pattern in own.items()}


def missing_channel_of(own: MissingChannel, given: MissingChannel) -> MissingChannel:
    """What happens to new sessions without a file of a channel.

    Args:
        own: As in training.
        given: What is asked for; "refuse" for what was done in training.

    Raises:
        ConfigError: They are to be predicted, and the network has not learned to do without.
    """
    if given == "learn" and own != "learn":
        raise ConfigError(
            "This network was trained on sessions with all channels, so its predictions for others would be arbitrary. "
            "Use --missing-channel leave-out, or train with --missing-channel learn."
        )
    return own if given == "refuse" else given


def view_of(config: DataConfig) -> dict[str, Any]:
    """The fields of a data config that determine which files and slices of a scan make up a sample."""
    return {"stack": config.stack, "slices": config.slices, "channels": tuple(config.channels)}


def read_as_trained(own: DataConfig, given: DataConfig) -> DataConfig:
    """How a classifier reads new data: its slices, stacks and channels, and its window and patterns unless given.

    Args:
        own: How its training data were read.
        given: What is asked for.

    Raises:
        ConfigError: Patterns of other channels are given.
    """
    return given.model_copy(
        update={
            "stack": own.stack,
            "slices": own.slices,
            "window": given.window or own.window,
            "channels": channel_patterns(own.channels, given.channels),
        }
    )


def sessions_of(inputs: Sequence[str | Path], config: DataConfig) -> list[Input]:
    """Inputs of a prediction: with channels, the files among them belong together, whatever their order."""
    files = [Path(one) for one in inputs if Path(one).is_file() and (is_image(str(one)) or is_volume(str(one)))]
    if not config.channels or not files:
        return list(inputs)
    return [tuple(files), *(one for one in inputs if Path(one) not in files)]


def input_text(path: Input) -> str:
    """The name of an input in messages."""
    return str(path) if isinstance(path, str | Path) else counted(len(path), "file")


def _scan(path: Input, config: DataConfig, progress: Callable[[int, int], None], *, labelled: bool = True) -> Manifest:
    return scan(
        path,
        source=config.source,
        subject_rule=config.subject_rule,
        subject_pattern=config.subject_pattern,
        classes=config.classes if labelled else None,
        columns=config.columns,
        bids=config.bids,
        orientation=config.orientation,
        spacing=config.spacing,
        hdf5_dataset=config.hdf5_dataset,
        files=config.files,
        # With merged classes, the order is that of the classes after the merge.
        ordered=False if config.merge else config.ordered,
        label_changes=config.label_changes,
        window=config.window,
        channels=config.channels,
        missing_channel=config.missing_channel,
        visits=config.visits if labelled else None,
        conversion=config.conversion if labelled else None,
        labelled=labelled,
        target=config.target,
        people=config.table,
        progress=progress,
    )


def _merged(manifest: Manifest, config: DataConfig) -> Manifest:
    """The manifest with merged classes, in the order of their stages where they have one.

    Where neighbouring stages of a known order are merged, at least three remain in that order.
    """
    given = config.classes is not None
    merged = manifest.merge(config.merge, if_missing=config.merge_missing)
    if config.ordered is not None:
        return merged.with_order(config.ordered, given=given)
    stages = manifest.with_order(given=given).merge(config.merge, if_missing=config.merge_missing)
    if stages.target.is_ordered and len(stages.classes) >= FEWEST:
        return stages
    return merged.with_order(given=given)


def _as_samples(manifest: Manifest, config: DataConfig, display: Display) -> Manifest:
    """Stack or slice as the config asks, and raise an error for unusable samples or leave them out."""
    if config.stack:
        from gyrus.datasets.slice_stacks import stack_slices

        manifest = stack_slices(manifest, config.stack)
    if config.slices:
        from gyrus.datasets.slices import slice_volumes, with_neighbours

        in_files = VOLUME_FILES not in manifest.table
        manifest = (with_neighbours if in_files else slice_volumes)(manifest, config.slices)
    show_notes(display, manifest.notes)
    if manifest.files:
        show_notes(display, [manifest.files.left_aside_note])
    if config.on_bad_file == "fail":
        manifest.require_clean()
    _show_skipped(manifest.problems, display)
    return manifest


def _show_skipped(problems: Sequence[Problem], display: Display) -> None:
    for problem in problems:
        display.say(f"Skipped: {problem}")
