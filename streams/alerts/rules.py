"""Alert rules, as people write them in TOML. docs/alerts.md has every kind and field."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from flyback.errors import ConfigurationError

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _exact_seconds(value: object) -> Fraction:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd])", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("no duration")
    return Fraction(match[1]) * _SECONDS[match[2]]


def _seconds(value: object) -> float:
    return float(_exact_seconds(value))


def _minutes(value: object) -> int:
    minutes, rest = divmod(_exact_seconds(value), 60)
    if rest:
        raise ValueError("no whole minutes")
    return minutes


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Minutes = Annotated[int, BeforeValidator(_minutes)]
_Seconds = Annotated[float, BeforeValidator(_seconds)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]

Label = Literal["actor", "version", "segment"]
LABELS: tuple[Label, ...] = get_args(Label)


class Where(BaseModel):
    """Which predictions are looked at: those whose labels are all among these; an empty one lets every label pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor_kind: Annotated[tuple[Literal["MODEL", "HUMAN"], ...], BeforeValidator(_several)] = ()
    actor: _Texts = ()
    version: _Texts = ()
    segment: _Texts = ()


class Rule(BaseModel):
    """What every rule has. Times are whole minutes, unless a field says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,99}$",
        description='a name of small letters, digits, - and _ that begins with a letter, such as "rate-high"',
    )
    kind: str
    severity: Literal["info", "warning", "critical"] = Field("warning", description='"info", "warning" or "critical"')
    summary: str = Field("", max_length=500, description='a short text in quotes, such as "Many failures"')
    hold: _Minutes = Field(
        0, ge=0, alias="for", description='how long it must hold, in whole minutes, such as "5m", "0m" for at once'
    )

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change where what the rule asks for changes; not with severity and summary."""
        asked = self.model_dump(mode="json", exclude={"severity", "summary"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def horizon(self) -> int:
        """How many minutes back the counts must reach."""
        return 0

    @property
    def shown_window(self) -> int:
        """The minutes that an alert gives as its window."""
        return self.horizon


class Counted(Rule):
    """A rule on the counts by minute: one alert for each combination of the labels in `by`."""

    window: _Minutes = Field(ge=1, description='whole minutes, such as "5m", "1h" or "7d"')
    by: Annotated[tuple[Label, ...], BeforeValidator(_several)] = Field(
        (), description='a list of "segment", "actor" and "version", such as ["segment"]'
    )
    where: Where = Field(
        Where(),
        description='a table of actor_kind, actor, version and segment, such as { actor_kind = "MODEL" }, '
        "each with a text or a list of texts, actor_kind with MODEL or HUMAN",
    )

    @property
    def horizon(self) -> int:
        return self.window

    @property
    def shown_window(self) -> int:
        return self.window

    @property
    def minutes_kept(self) -> int:
        """How many minutes back single minutes are looked at; before them, whole hours."""
        return self.window + 60


class Rate(Counted):
    """`rate > above` over `window`: by default the lower end of the 95 % interval is compared."""

    kind: Literal["rate"]
    above: float = Field(ge=0, lt=1, strict=True, description="a rate from 0 to below 1, such as 0.2 for 20 %")
    rate: Literal["plain", "weighted"] = Field("plain", description='"plain" or "weighted"')
    bound: Literal["lower", "rate"] = Field(
        "lower", description='"lower" for the lower end of the 95 % interval, or "rate" for the rate itself'
    )
    at_least: int = Field(20, ge=1, strict=True, description="how many must be reviewed, such as 20")


class Rise(Counted):
    """The rate of the last `window` is above that of the `baseline` before it, by a sequential test."""

    kind: Literal["rise"]
    window: _Minutes = Field(1_440, ge=1, description='whole minutes, such as "1d"')
    baseline: _Minutes = Field(10_080, ge=60, multiple_of=60, description='whole hours, such as "7d"')
    false_alarm_every: _Minutes = Field(43_200, ge=1, description='whole minutes, such as "30d"')
    settle: _Minutes = Field(0, ge=0, description='whole minutes, less than the window, such as "2h"')
    at_least: int = Field(50, ge=1, strict=True, description="how many of the baseline must be reviewed, such as 50")

    @model_validator(mode="after")
    def _settles(self) -> Rise:
        if self.settle >= self.window:
            raise ValueError("settle must be shorter than window, or nothing is left to look at")
        return self

    @property
    def horizon(self) -> int:
        return self.window + self.baseline + 60


class _Silence(Counted):
    within: _Minutes = Field(10_080, ge=1, description='whole minutes, longer than the window, such as "7d"')

    @model_validator(mode="after")
    def _reaches_back(self) -> _Silence:
        if self.within <= self.window:
            raise ValueError("within must be longer than window, or nobody is missed")
        return self

    @property
    def horizon(self) -> int:
        return self.within


class NoPredictions(_Silence):
    """None in `window`, from somebody who made some `within` that time."""

    kind: Literal["no-predictions"]


class NoReviews(_Silence):
    """None of the predictions of `window` is reviewed, though there are `at_least` so many."""

    kind: Literal["no-reviews"]
    at_least: int = Field(1, ge=1, strict=True, description="how many predictions must be there, such as 100")


class DeadLetters(Rule):
    """More than `above` of them in `window`, in these topics (without the prefix), or in all."""

    kind: Literal["dead-letters"]
    above: int = Field(ge=0, strict=True, description="a whole number, such as 10")
    window: _Minutes = Field(ge=1, description='whole minutes, such as "10m"')
    topics: _Texts = Field((), description='a list of topics, such as ["predictions.v1"]')

    @property
    def horizon(self) -> int:
        return self.window


class Lag(Rule):
    """A reader is more than `above` seconds behind: this one, or any."""

    kind: Literal["lag"]
    above: _Seconds = Field(ge=0, description='a duration in quotes, such as "60s" or "5m"')
    reader: Literal["worker", "sink"] | None = Field(
        None, description='"worker" or "sink", or leave it out for the slowest'
    )


KINDS: Mapping[str, type[Rule]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in (Rate, Rise, NoPredictions, NoReviews, DeadLetters, Lag)
}


def parse(text: str, file: str) -> tuple[Rule, ...]:
    """The rules of a TOML text; `file` is what it is called in errors.

    Raises ConfigurationError that names file, rule and field of everything that is wrong, and what to write instead.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is no TOML: {error}; docs/alerts.md has examples") from None
    found = tables.pop("rule", [])
    wrong = [f"{name}: there is no such table; write [[rule]] before each rule" for name in tables]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        wrong, found = [*wrong, "rule: write [[rule]], in double brackets, before each rule"], []
    rules, places = [], dict[str, int]()
    for number, table in enumerate(found, 1):
        try:
            rule = _rule(table)
        except _Wrong as error:
            title = f'rule "{table["name"]}"' if isinstance(table.get("name"), str) else f"rule {number}"
            wrong += [f"{title}, {each}" for each in error.args]
            continue
        if (first := places.setdefault(rule.name, number)) != number:
            wrong.append(f'rule "{rule.name}", name: rule {first} has it too; write another one')
        rules.append(rule)
    if wrong:
        raise ConfigurationError("\n".join(f"{file}: {each}" for each in wrong))
    return tuple(rules)


def defaults() -> tuple[Rule, ...]:
    """The rules that hold where no others are given."""
    name = "default.toml"
    return parse(files("flyback.streams.alerts").joinpath(name).read_text(encoding="utf-8"), name)


def horizon(rules: Iterable[Rule]) -> int:
    """How many minutes back the counts must reach for all of these rules."""
    return max((rule.horizon for rule in rules), default=0)


class _Wrong(Exception):
    """One argument for each field that is wrong."""


def _rule(table: Mapping[str, Any]) -> Rule:
    given = table.get("kind")
    kind = KINDS.get(given) if isinstance(given, str) else None
    if kind is None:
        is_now = "is missing" if given is None else f"there is no {json.dumps(given)}"
        raise _Wrong(f"kind: {is_now}; write {_either(KINDS)}")
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _Wrong(*(_reason(kind, table, each) for each in error.errors(include_url=False))) from None


@cache
def _fields(kind: type[BaseModel]) -> Mapping[str, str]:
    """By the name that a field is written with, what may be written there."""
    return {field.alias or name: field.description or "" for name, field in kind.model_fields.items()}


def _reason(kind: type[Rule], table: Mapping[str, Any], error: ErrorDetails) -> str:
    path, fields = [str(part) for part in error["loc"]], _fields(kind)
    if not path:
        return error["msg"].removeprefix("Value error, ")
    name = path[0]
    if error["type"] == "extra_forbidden":
        known = fields if len(path) == 1 else _fields(Where)
        near = difflib.get_close_matches(path[-1], known, 1)
        instead = f"write {near[0]}" if near else f"write {_either(known)}, or take it out"
        return f"{'.'.join(path)}: there is no such field here; {instead}"
    value = table.get(name) if len(path) == 1 else error["input"]
    is_now = "is missing" if error["type"] == "missing" else f"is {json.dumps(value, default=str)}"
    return f"{'.'.join(path)}: {is_now}; write {fields[name]}"


def _either(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} or {last}"
