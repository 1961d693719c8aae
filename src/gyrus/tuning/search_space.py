"""Search spaces: fields of a config, each with a range or a list of values, some with a condition on other fields."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic import Field, model_validator

from gyrus.configuration import Section, parse, read_document
from gyrus.errors import ConfigError
from gyrus.models.model_table import find_model
from gyrus.registry import look_up
from gyrus.workflows.experiment_config import ExperimentConfig, load_config

if TYPE_CHECKING:
    from optuna.trial import Trial

Number: TypeAlias = int | float
Values: TypeAlias = Mapping[str, Any]
"""Field to value."""

FIXED = ("about", "data", "split", "evaluation", "seed", "training.monitor", "training.loggers", "training.tracking")
"""Fields that determine the data, the evaluation or the logging. They cannot be tuned: scores must stay comparable."""


class Parameter(Section):
    """A field and its values.

    Two whole numbers define a range of whole numbers; write a decimal point for a range of decimal numbers.
    """

    field: str = Field(description="dotted name of a field of the config, such as training.optimiser.lr")
    values: tuple[Any, ...] | None = Field(None, min_length=1, description="list of values")
    low: Number | None = Field(None, description="or the lowest number of a range")
    high: Number | None = Field(None, description="and the highest number")
    log: bool = Field(False, description="whether to draw on a logarithmic scale")
    when: dict[str, Any] = Field(default_factory=dict, description="condition: other field to its value or values")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        is_range = self.low is not None and self.high is not None
        if is_range == (self.values is not None) or (self.low is None) != (self.high is None):
            raise ValueError(f"{self.field} needs either values, or low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low of {self.field} must be below high, got {self.low} and {self.high}")
        if self.log and not (self.low is not None and self.low > 0):
            raise ValueError(f"log of {self.field} needs a range above 0")
        root = next((name for name in FIXED if f"{self.field}.".startswith(f"{name}.")), None)
        if root:
            raise ValueError(f"{self.field} cannot be tuned: {root} determines the data, the evaluation or the logging")
        return self

    @property
    def is_range(self) -> bool:
        """Whether it is a range of numbers."""
        return self.values is None

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check: all of a list, both ends of a range."""
        return self.values if self.values is not None else (self.low, self.high)

    def draw(self, trial: Trial, name: str) -> Any:
        """The value of a trial, recorded under a name."""
        if self.values is not None:
            choices = {as_choice(value): value for value in self.values}
            return choices[trial.suggest_categorical(name, list(choices))]
        assert self.low is not None
        assert self.high is not None
        if self.is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


def as_choice(value: Any) -> Any:
    """A value that Optuna can store: lists and mappings become JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


class SearchSpace(Section):
    """The parameters that a study may change, in the order in which they are drawn."""

    title: str = Field("", description="description in one line")
    parameters: tuple[Parameter, ...] = Field(min_length=1, description="parameters")

    @cached_property
    def named(self) -> Mapping[str, Parameter]:
        """The parameters by name: the field, followed by the condition if a field has several entries."""
        count = Counter(parameter.field for parameter in self.parameters)
        names = [_name(parameter, alone=count[parameter.field] == 1) for parameter in self.parameters]
        return dict(zip(names, self.parameters, strict=True))

    def draw(self, base: ExperimentConfig, choose: Callable[[str, Parameter], Any]) -> dict[str, Any]:
        """A value for each field whose condition holds.

        Args:
            base: The config with the values of all other fields.
            choose: Returns the value of a parameter, from its name and itself.
        """
        known = complete(base)
        chosen: dict[str, Any] = {}
        for name, parameter in self.named.items():
            if _holds(parameter.when, chosen, known):
                chosen[parameter.field] = choose(name, parameter)
        return chosen

    def grid(self, base: ExperimentConfig) -> Iterator[dict[str, Any]]:
        """All combinations of the lists, by name; parameters whose condition fails are left out.

        Raises:
            ConfigError: A parameter is a range.
        """
        ranges = [name for name, parameter in self.named.items() if parameter.is_range]
        if ranges:
            raise ConfigError(f"A grid needs lists of values, but these parameters are ranges: {', '.join(ranges)}.")
        yield from self._combinations(complete(base), list(self.named.items()), {}, {})

    def _combinations(
        self, known: Values, left: Sequence[tuple[str, Parameter]], chosen: Values, named: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not left:
            yield named
            return
        (name, parameter), rest = left[0], left[1:]
        if not _holds(parameter.when, chosen, known):
            yield from self._combinations(known, rest, chosen, named)
            return
        for value in parameter.values or ():
            further = {**chosen, parameter.field: value}
            yield from self._combinations(known, rest, further, {**named, name: as_choice(value)})

    def check(self, base: ExperimentConfig) -> None:
        """Check both ends of each range and all values of each list, one at a time.

        Raises:
            ConfigError: Lists every parameter that the config does not accept.
        """
        mistakes = []
        known = complete(base)
        for name, parameter in self.named.items():
            for value in parameter.ends:
                try:
                    configure(base, {**self._condition(parameter, known), parameter.field: value})
                except ConfigError as error:
                    reason = str(error).partition("\n")[2].strip(" -") or str(error)
                    mistakes.append(f"  - {name} = {value}: {reason}")
            if parameter.is_whole and isinstance(value_at(known, parameter.field), float):
                mistakes.append(f"  - {name} is a decimal number: write decimal ends, as {parameter.low}.0")
        if mistakes:
            raise ConfigError("The search space does not fit the config:\n" + "\n".join(mistakes))

    def _condition(self, parameter: Parameter, known: Values) -> dict[str, Any]:
        """Values of other fields that fulfil the condition of a parameter."""
        result: dict[str, Any] = {}
        for field, wanted in parameter.when.items():
            owner = next((other for other in self.parameters if other.field == field), None)
            if owner is not None:
                result |= self._condition(owner, known)
            if value_at(known, field) not in _several(wanted):
                result[field] = _several(wanted)[0]
        return result


def configure(base: ExperimentConfig, values: Values) -> ExperimentConfig:
    """A config with new values of some fields.

    A new ``name`` resets its section to the defaults of that name, because the fields of the base belong to another
    one.

    Raises:
        ConfigError: A value is not valid.
    """
    known = complete(base)
    overrides: dict[str, Any] = {}
    for field, value in values.items():
        section, _, last = field.rpartition(".")
        if last == "name" and value_at(known, field) != value:
            overrides[section] = {"name": value}
            known = complete(load_config(base, overrides))
        elif section.startswith("model.head"):
            overrides["model.head"] = known["model"]["head"]
            overrides[field] = value
            known = complete(load_config(base, overrides))
        else:
            overrides[field] = value
    return load_config(base, overrides)


def complete(config: ExperimentConfig) -> dict[str, Any]:
    """A config as plain values, including the default head of its model."""
    document = config.model_dump(mode="json")
    if document["model"]["head"] is None:
        document["model"]["head"] = find_model(config.model.name).head.model_dump(mode="json")
    return document


def value_at(document: Values, field: str) -> Any:
    """The value of a nested document under a dotted name; None if there is none."""
    node: Any = document
    for key in field.split("."):
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def search_spaces() -> dict[str, Path]:
    """The search spaces that come with Gyrus, by name."""
    folder = Path(str(resources.files("gyrus") / "tuning" / "search_spaces"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(name: str | Path | None, ranges: Sequence[str] = ()) -> SearchSpace:
    """A built-in search space or one from a file, extended by ranges from the command line.

    Args:
        name: A name of :func:`search_spaces`, the path of a YAML or JSON file, or None.
        ranges: Each as ``FIELD=LOW:HIGH``, ``FIELD=LOW:HIGH:log`` or ``FIELD=VALUE|VALUE``. A range replaces the
            entries of its field in the space.

    Raises:
        ConfigError: There is no such space, or a range has another form.
    """
    known: tuple[Parameter, ...] = ()
    title = ""
    if name is not None:
        path = Path(name)
        if path.suffix not in (".yaml", ".yml", ".json"):
            path = look_up(str(name), search_spaces(), "search space")
        space = parse(SearchSpace, read_document(path), where=str(path))
        known, title = space.parameters, space.title
    given = tuple(_parse_range(text) for text in ranges)
    replaced = {parameter.field for parameter in given}
    parameters = (*[each for each in known if each.field not in replaced], *given)
    if not parameters:
        raise ConfigError(
            "Nothing to tune: give a search space (--space neuroflux, or a file), or ranges such as "
            "--range training.optimiser.lr=1e-5:1e-2:log."
        )
    return SearchSpace(title=title, parameters=parameters)


def _parse_range(text: str) -> Parameter:
    field, equals, rest = text.partition("=")
    if not (field and equals and rest):
        raise ConfigError(f"--range '{text}' must have the form FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=A|B|C.")
    document: dict[str, Any] = {"field": field.strip()}
    parts = rest.split(":")
    if "|" in rest or len(parts) == 1:
        document["values"] = [_plain(value) for value in rest.split("|")]
    elif len(parts) in (2, 3) and parts[2:] in ([], ["log"]):
        document |= {"low": _plain(parts[0]), "high": _plain(parts[1]), "log": len(parts) == 3}
    else:
        raise ConfigError(f"--range '{text}' must have the form FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=A|B|C.")
    return parse(Parameter, document, where=f"--range {text}")


def _plain(text: str) -> Any:
    """A number, list, true, false or null if the text is JSON; else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _name(parameter: Parameter, *, alone: bool) -> str:
    if alone:
        return parameter.field
    words = [str(value) for wanted in parameter.when.values() for value in _several(wanted)]
    return f"{parameter.field} ({' '.join(words)})"


def _holds(when: Values, chosen: Values, known: Values) -> bool:
    return all(
        (chosen[field] if field in chosen else value_at(known, field)) in _several(wanted)
        for field, wanted in when.items()
    )


def _several(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]
