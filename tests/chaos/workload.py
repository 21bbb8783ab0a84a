"""An endless mix of events, the same for the same seed, in chunks that can be made again one by one.

Predictions by models and people, and feedback on a third of them: early (before its prediction), late, several that
disagree. Also copies (at once, later, three chunks later), conflicts (the same identity with other content), feedback
on predictions that never come, and poison of every kind.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from flyback.content import Actor, human, model
from tests.streams.records import POISON

CHUNK = 2_000
"""Items of a chunk before what they drag along, such as late feedback."""
MODELS = (model("vader", "3.3"), model("triage", "7"), model("triage", "8"))
PEOPLE = (human("zoe"), human("ada"))
REVIEWERS = (human("ann"), human("bob"), model("judge", "1"))
SEGMENTS = ("amazon", "nyt", "tweets", "movies", "default")
PROBABILITIES = (None, None, 1.0, 0.5, 0.25, 0.001)
LATER = (1, 1, 5, 50, 800)
"""How many items later something follows."""
REPEATED_AFTER = 3
"""Chunks after which some items are sent once more."""


@dataclass(frozen=True)
class Item:
    """One thing to send. `number` is its own in its load; a copy has that of its original.

    `call` is a method of `flyback.Client` with `arguments` for it, or "poison" with a kind. `age` is how long before
    its sending (seconds) the event occurred.
    """

    number: int
    call: str
    arguments: dict[str, Any]
    age: float = 0.0
    copy: bool = False


@dataclass(frozen=True)
class Mix:
    """How much of what, as shares of one."""

    poison: float = 0.02
    copies: float = 0.08
    conflicts: float = 0.03
    repeats: float = 0.02
    nowhere: float = 0.02
    """Feedback on predictions that never come."""


WITHOUT_COPIES = Mix(copies=0.0, conflicts=0.0, repeats=0.0)
"""For join windows so short that a copy may come later than one window after the first."""


def chunk(seed: int, load: str, number: int, mix: Mix = Mix()) -> Iterator[Item]:
    """All items of one chunk, in the order of sending. `load` goes into all ids."""
    yield from _with_repeats(_Chunk(seed, load, number, mix).items(), seed, load, number, mix)


def _with_repeats(items: Iterator[Item], seed: int, load: str, number: int, mix: Mix) -> Iterator[Item]:
    if number < REPEATED_AFTER or not mix.repeats:
        yield from items
        return
    chance = random.Random(f"{seed}/{load}/{number}/repeats")
    earlier = (
        replace(item, copy=True)
        for item in _Chunk(seed, load, number - REPEATED_AFTER, mix).items()
        if item.call != "poison" and not item.copy and chance.random() < mix.repeats
    )
    for item in items:
        yield item
        if chance.random() < mix.repeats and (again := next(earlier, None)) is not None:
            yield again


class _Chunk:
    def __init__(self, seed: int, load: str, number: int, mix: Mix) -> None:
        self._chance = random.Random(f"{seed}/{load}/{number}")
        self._load = load
        self._mix = mix
        self._numbers = iter(range(number * 100 * CHUNK, (number + 1) * 100 * CHUNK))
        self._later: list[tuple[int, int, Item]] = []
        self._order = itertools.count()
        self._now = 0
        self._latest = self._task()

    def items(self) -> Iterator[Item]:
        while self._now < CHUNK or self._later:
            if self._later and (self._later[0][0] <= self._now or self._now >= CHUNK):
                item = heapq.heappop(self._later)[2]
            elif self._now < CHUNK:
                item = self._anything()
            self._now += 1
            if not item.copy and item.call != "poison":
                self._spoil(item)
            yield item

    def _anything(self) -> Item:
        if self._chance.random() < self._mix.poison:
            return Item(
                next(self._numbers), "poison", {"kind": self._chance.choice(list(POISON)), "task": self._task()}
            )
        if self._chance.random() < self._mix.nowhere:
            return self._feedback(self._task(), "nowhere")
        return self._episode()

    def _episode(self) -> Item:
        """A prediction, its feedback; what is not sent now follows."""
        chance = self._chance
        task = self._latest if chance.random() < 0.2 else self._task()  # several answers to one task
        self._latest = task
        prediction = self._prediction(task, f"p{next(self._numbers)}")
        found = [prediction]
        if chance.random() < 0.3:
            about = prediction.arguments["prediction_id"]
            found += [self._feedback(task, about) for _ in range(chance.choice((1, 1, 2, 4)))]
        if chance.random() < 0.3:
            chance.shuffle(found)  # early feedback
        for item in found[1:]:
            self._follow(item)
        return found[0]

    def _prediction(self, task: str, prediction_id: str) -> Item:
        chance = self._chance
        actor: Actor = chance.choice(PEOPLE if chance.random() < 0.3 else MODELS)
        return self._item(
            "predict",
            task_id=task,
            prediction_id=prediction_id,
            actor=actor,
            input=f"text {chance.randrange(10**6)} " * chance.choice((1, 5, 20)),
            output={"label": chance.choice(("positive", "negative"))},
            confidence=chance.choice((None, 0.5, 0.99)),
            segment=chance.choice(SEGMENTS),
        )

    def _feedback(self, task: str, prediction_id: str) -> Item:
        chance = self._chance
        given: dict[str, Any] = {
            "task_id": task,
            "prediction_id": prediction_id,
            "author": chance.choice(REVIEWERS),
            "sampling_probability": chance.choice(PROBABILITIES),
        }
        call = chance.choice(("correct", "confirm", "reject", "grade"))
        number = next(self._numbers)
        if call == "grade":
            given |= {
                "grade_id": f"g{number}",
                "rubric": "tone",
                "rubric_version": "2",
                "scores": {"polite": (chance.randrange(6), 5)},
                "passed": chance.choice((None, True, False)),
            }
        else:
            given |= {"correction_id": f"c{number}", "authority": chance.choice((0, 0, 1)), "reason": "seen"}
        if call == "correct":
            given["output"] = {"label": "neutral"}
        return self._item(call, number, **given)

    def _item(self, call: str, number: int | None = None, **arguments: Any) -> Item:
        number = next(self._numbers) if number is None else number
        attributes = {"load": self._load, "number": str(number)}
        return Item(number, call, {**arguments, "attributes": attributes}, self._chance.uniform(0, 120))

    def _spoil(self, item: Item) -> None:
        """Let a copy or a conflict follow."""
        if self._chance.random() < self._mix.copies:
            self._follow(replace(item, copy=True))
        if self._chance.random() < self._mix.conflicts:
            number = next(self._numbers)
            attributes = {"load": self._load, "number": str(number)}  # another content, by its number
            self._follow(replace(item, number=number, arguments={**item.arguments, "attributes": attributes}))

    def _follow(self, item: Item) -> None:
        due = self._now + self._chance.choice(LATER)
        heapq.heappush(self._later, (due, next(self._order), item))

    def _task(self) -> str:
        return f"{self._load}-{next(self._numbers)}"
