"""The events that are sent: predictions with realistic text, and one in ten a correction of an earlier one."""

from __future__ import annotations

import random
import time
from typing import Any

from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Record

LEAST_BYTES = 300
"""Of an event: ids, names and times take most of it."""
CORRECTED = 9
"""Event number N is a correction of event N - 9 where N ends with 9."""
_TEMPLATE_BYTES = 2_000_000
_TASK = b"task-0000000000"  # stands for a task's id of the same length in an encoded event


def texts(chance: random.Random, characters: int, count: int = 10_000) -> list[str]:
    """Sentences over a vocabulary in which, as in a language, few words are frequent.

    So many that a batch of messages hardly repeats one: it would compress too well.
    """
    syllables = [a + b + c for a in "bdfglmnprstv" for b in "aeiou" for c in ("", "n", "r", "s", "st")]
    words = ["".join(chance.choices(syllables, k=chance.choice((1, 1, 2, 2, 3)))) for _ in range(4_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    return [" ".join(chance.choices(words, weights, k=characters // 5))[:characters] for _ in range(count)]


class Events:
    """Events of `event_bytes` each, give or take a few; made from templates, as encoding each would take a core."""

    def __init__(self, event_bytes: int) -> None:
        count = max(20, min(4_000, _TEMPLATE_BYTES // event_bytes))
        ids = {record: BundledCatalog().id_for(record, "") for record in ("Prediction", "Correction")}

        def encoded(record: str, event: Record) -> bytes:
            return codec.encode(record, event, ids[record])

        def room(record: str, event: Record) -> int:
            return event_bytes - len(encoded(record, event)) - 4  # each text's length takes two more

        free = room("Prediction", _prediction("", ""))
        chance = random.Random(1)
        asked = texts(chance, free * 3 // 5, count)
        answered = texts(chance, free - free * 3 // 5, count)
        true = texts(chance, room("Correction", correction("c", _TASK.decode(), "")), count)
        self._texts = list(zip(asked, answered, strict=True))
        self._predictions = [encoded("Prediction", _prediction(*pair)) for pair in self._texts]
        self._corrections = [encoded("Correction", correction("c", _TASK.decode(), text)) for text in true]

    def prediction(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of the prediction of task `number`."""
        return _of_task(number, self._predictions)

    def correction(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of a correction of it."""
        return _of_task(number, self._corrections)

    def answer(self, number: int) -> dict[str, Any]:
        """The same prediction as `Client.predict` takes it, but for the actor."""
        asked, answered = self._texts[number % len(self._texts)]
        return {
            "task_id": key(number).decode(),
            "input": asked,
            "output": answered,
            "segment": f"customer-{number % 10}",
        }


def key(number: int) -> bytes:
    """A task's id."""
    return b"task-%010d" % number


def _of_task(number: int, templates: list[bytes]) -> tuple[bytes, bytes]:
    return key(number), templates[number % len(templates)].replace(_TASK, key(number))


def _text(body: str) -> Record:
    return {"content_type": "text/plain", "body": body}


def _prediction(asked: str, answered: str) -> Record:
    return {
        "prediction_id": "p",
        "task_id": _TASK.decode(),
        "actor": {"kind": "MODEL", "name": "model-1", "version": "1"},
        "input": _text(asked),
        "output": _text(answered),
        "context": [],
        "confidence": 0.5,
        "segment": f"customer-{len(asked) % 10}",
        "attributes": {},
        "occurred_at": time.time_ns() // 1000,
    }


def correction(correction_id: str, task_id: str, true: str) -> Record:
    """A correction, made now, of the task's prediction `p`."""
    return {
        "correction_id": correction_id,
        "task_id": task_id,
        "prediction_id": "p",
        "verdict": "CORRECTED",
        "output": _text(true),
        "author": {"kind": "HUMAN", "name": "ann", "version": ""},
        "authority": 0,
        "reason": None,
        "error_category": None,
        "sampling_probability": None,
        "attributes": {},
        "occurred_at": time.time_ns() // 1000,
    }
