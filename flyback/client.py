"""The SDK: what a service, a reviewer's tool or a grader calls to put its events into Kafka.

    with Client() as fb:
        p = fb.predict(task_id="t-1", actor=model("vader", "3.3.2"), input="great phone", output={"label": "positive"})
        fb.correct(p, output={"label": "negative"}, author=human("ann"), reason="sarcasm")

A call checks the event, encodes it and hands it to a background thread; it never waits for Kafka or a registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from flyback import fields
from flyback.content import Actor, ContentLike, as_record, as_records
from flyback.delivery import HEADER_ROOM, Delivery
from flyback.errors import ConfigurationError, InvalidEvent
from flyback.failures import OnError
from flyback.ids import new_id
from flyback.outgoing import Outgoing, Stats
from flyback.schemas import codec, wire
from flyback.schemas.rules import CHECKS

if TYPE_CHECKING:
    from flyback.settings import Settings

_RECORDS = {"prediction": "Prediction", "correction": "Correction", "grade": "Grade"}


@dataclass(frozen=True, slots=True)
class PredictionRef:
    """Which prediction a feedback is about: small, hashable, picklable; keep it until the reviewer has answered."""

    task_id: str
    prediction_id: str

    def to_dict(self) -> dict[str, str]:
        return {"task_id": self.task_id, "prediction_id": self.prediction_id}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PredictionRef:
        """Raises InvalidEvent where an id is missing or not a string; other keys are ignored."""
        if not isinstance(value, Mapping):
            raise fields.wrong_type("prediction", "a mapping with task_id and prediction_id", value)
        return cls(*(fields.text(name, value.get(name)) for name in ("task_id", "prediction_id")))

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, value: str | bytes) -> PredictionRef:
        """Raises InvalidEvent where this is not what `to_json` gives."""
        try:
            found = json.loads(value)
        except ValueError:
            raise InvalidEvent("not_json", "prediction", "is not JSON as PredictionRef.to_json() gives") from None
        return cls.from_dict(found)


class Client:
    """Sends predictions, corrections and grades. Thread-safe, and safe to fork; make one for each process and keep it.

    Settings come from `settings`, or from the environment and the keywords given (the fields of
    `flyback.settings.Settings`). `on_error(kind, ids, error)` is called in a background thread for each event that
    could not be delivered. Raises ConfigurationError; neither Kafka nor a registry needs to be up.

    Every method that sends raises InvalidEvent (a ValueError) naming the field that is wrong, and BufferFull where too
    many events wait for delivery; in both cases nothing was taken.
    """

    def __init__(self, settings: Settings | None = None, *, on_error: OnError | None = None, **given: Any) -> None:
        # here, and not above: pydantic takes longer to import than everything else together
        from flyback.settings import Settings, load
        from flyback.streams.topology import Topology

        if unknown := given.keys() - Settings.model_fields.keys():
            raise ConfigurationError(f"no such setting: {', '.join(sorted(unknown))}; see flyback.settings.Settings")
        if settings is not None and given:
            raise ConfigurationError("give either settings or keywords, not both")
        self._settings = settings if settings is not None else load(**given)
        self._delivery = Delivery(self._settings, Topology(self._settings), tuple(_RECORDS.values()), on_error)

    def predict(
        self,
        *,
        task_id: str,
        actor: Actor,
        input: ContentLike,
        output: ContentLike,
        context: Iterable[ContentLike] = (),
        confidence: float | None = None,
        segment: str = "default",
        attributes: Mapping[str, str] | None = None,
        prediction_id: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> PredictionRef:
        """One answer of a model or a person to one task; feedback names it by what this returns.

        `confidence` is 0 to 1. `segment` is a low-cardinality slice that failure rates are kept for. `occurred_at` is
        an aware datetime, now by default. Your own `prediction_id` makes a retry of yours a duplicate, not a second
        prediction. `traceparent` becomes the message's header of that name.
        """
        prediction = PredictionRef(
            fields.text("task_id", task_id),
            new_id() if prediction_id is None else fields.text("prediction_id", prediction_id),
        )
        ids = prediction.to_dict()
        event = {
            **ids,
            "actor": _actor("actor", actor),
            "input": as_record("input", input),
            "output": as_record("output", output),
            "context": as_records("context", context),
            "confidence": fields.optional_number("confidence", confidence),
            "segment": fields.text("segment", segment),
            "attributes": fields.attributes("attributes", attributes),
            "occurred_at": fields.micros("occurred_at", occurred_at),
        }
        self._send("prediction", event, ids, traceparent)
        return prediction

    def correct(
        self,
        prediction: PredictionRef | None = None,
        *,
        output: ContentLike,
        author: Actor,
        task_id: str | None = None,
        prediction_id: str | None = None,
        reason: str | None = None,
        error_category: str | None = None,
        authority: int = 0,
        sampling_probability: float | None = None,
        attributes: Mapping[str, str] | None = None,
        correction_id: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> str:
        """A reviewer says what would have been right; gives the correction's id.

        The prediction is what `predict` returned, or `task_id=` and `prediction_id=`. Where corrections disagree, the
        higher `authority` wins. `sampling_probability` (1e-4 to 1) says how likely it was that this prediction was
        chosen for review: with it, failure rates can be estimated for all predictions.
        """
        if output is None:
            raise InvalidEvent("missing_output", "output", "CORRECTED needs the true output; without one use reject()")
        return self._judge(
            "CORRECTED", prediction, output=output, author=author, task_id=task_id, prediction_id=prediction_id,
            reason=reason, error_category=error_category, authority=authority,
            sampling_probability=sampling_probability, attributes=attributes, correction_id=correction_id,
            occurred_at=occurred_at, traceparent=traceparent,
        )  # fmt: skip

    def confirm(
        self,
        prediction: PredictionRef | None = None,
        *,
        author: Actor,
        task_id: str | None = None,
        prediction_id: str | None = None,
        reason: str | None = None,
        authority: int = 0,
        sampling_probability: float | None = None,
        attributes: Mapping[str, str] | None = None,
        correction_id: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> str:
        """A reviewer says that the answer is right; gives the correction's id. Arguments as for `correct`."""
        return self._judge(
            "CONFIRMED", prediction, output=None, author=author, task_id=task_id, prediction_id=prediction_id,
            reason=reason, error_category=None, authority=authority,
            sampling_probability=sampling_probability, attributes=attributes, correction_id=correction_id,
            occurred_at=occurred_at, traceparent=traceparent,
        )  # fmt: skip

    def reject(
        self,
        prediction: PredictionRef | None = None,
        *,
        author: Actor,
        task_id: str | None = None,
        prediction_id: str | None = None,
        reason: str | None = None,
        error_category: str | None = None,
        authority: int = 0,
        sampling_probability: float | None = None,
        attributes: Mapping[str, str] | None = None,
        correction_id: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> str:
        """A reviewer says that the answer is wrong, without the right one; gives the correction's id. As `correct`."""
        return self._judge(
            "REJECTED", prediction, output=None, author=author, task_id=task_id, prediction_id=prediction_id,
            reason=reason, error_category=error_category, authority=authority,
            sampling_probability=sampling_probability, attributes=attributes, correction_id=correction_id,
            occurred_at=occurred_at, traceparent=traceparent,
        )  # fmt: skip

    def grade(
        self,
        prediction: PredictionRef | None = None,
        *,
        rubric: str,
        rubric_version: str,
        scores: Mapping[str, tuple[float, float]],
        author: Actor,
        task_id: str | None = None,
        prediction_id: str | None = None,
        passed: bool | None = None,
        rationale: str | None = None,
        sampling_probability: float | None = None,
        attributes: Mapping[str, str] | None = None,
        grade_id: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Scores against a versioned rubric, by a person or a model; gives the grade's id.

        `scores` gives for each criterion the score and the best possible one: `{"polite": (4, 5)}`. `passed` is None
        where the rubric does not decide.
        """
        about = _about(prediction, task_id, prediction_id)
        found = new_id() if grade_id is None else fields.text("grade_id", grade_id)
        event = {
            "grade_id": found,
            **about.to_dict(),
            "rubric": fields.text("rubric", rubric),
            "rubric_version": fields.text("rubric_version", rubric_version),
            "scores": _scores(scores),
            "passed": fields.optional_flag("passed", passed),
            "rationale": fields.optional_text("rationale", rationale),
            "author": _actor("author", author),
            "sampling_probability": fields.optional_number("sampling_probability", sampling_probability),
            "attributes": fields.attributes("attributes", attributes),
            "occurred_at": fields.micros("occurred_at", occurred_at),
        }
        self._send("grade", event, {**about.to_dict(), "grade_id": found}, traceparent)
        return found

    def stats(self) -> Stats:
        """How many events were sent, failed and wait, and the bytes that wait."""
        return self._delivery.stats()

    def flush(self, timeout: float = 10.0) -> int:
        """Wait at most `timeout` seconds until every event is delivered or failed; gives how many are neither."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 10.0) -> int:
        """Flush and stop; gives how many events were left after `timeout` seconds. These fail: `on_error` is told.

        Called at the interpreter's exit by itself. Closing again does nothing.
        """
        return self._delivery.close(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<flyback.Client {self._settings.bootstrap_servers} {self.stats()}>"

    def _judge(
        self,
        verdict: Literal["CONFIRMED", "CORRECTED", "REJECTED"],
        prediction: PredictionRef | None,
        *,
        output: ContentLike | None,
        author: Actor,
        task_id: str | None,
        prediction_id: str | None,
        reason: str | None,
        error_category: str | None,
        authority: int,
        sampling_probability: float | None,
        attributes: Mapping[str, str] | None,
        correction_id: str | None,
        occurred_at: datetime | None,
        traceparent: str | None,
    ) -> str:
        about = _about(prediction, task_id, prediction_id)
        found = new_id() if correction_id is None else fields.text("correction_id", correction_id)
        event = {
            "correction_id": found,
            **about.to_dict(),
            "verdict": verdict,
            "output": None if output is None else as_record("output", output),
            "author": _actor("author", author),
            "authority": fields.integer("authority", authority),
            "reason": fields.optional_text("reason", reason),
            "error_category": fields.optional_text("error_category", error_category),
            "sampling_probability": fields.optional_number("sampling_probability", sampling_probability),
            "attributes": fields.attributes("attributes", attributes),
            "occurred_at": fields.micros("occurred_at", occurred_at),
        }
        self._send("correction", event, {**about.to_dict(), "correction_id": found}, traceparent)
        return found

    def _send(self, kind: str, event: codec.Record, ids: Mapping[str, str], traceparent: str | None) -> None:
        record, trace = _RECORDS[kind], fields.traceparent("traceparent", traceparent)
        CHECKS[record](event)
        key = event["task_id"].encode()
        if len(key) > HEADER_ROOM // 2:
            raise InvalidEvent("oversized", "task_id", f"has {len(key)} bytes, the most is {HEADER_ROOM // 2}")
        headers: list[tuple[str, str | bytes | None]] | None = None if trace is None else [("traceparent", trace)]
        outgoing = Outgoing(kind, record, ids, key, codec.body(record, event), headers)
        if (size := wire.HEADER + len(outgoing.body)) > self._settings.max_event_bytes:
            largest = max(event, key=lambda field: len(json.dumps(event[field], ensure_ascii=False)))
            raise InvalidEvent(
                "oversized",
                largest,
                f"is the largest part of an event of {size} bytes, FLYBACK_MAX_EVENT_BYTES is "
                f"{self._settings.max_event_bytes}: store the content elsewhere and send a reference to it",
            )
        self._delivery.hand_over(outgoing)


def _about(prediction: object, task_id: object, prediction_id: object) -> PredictionRef:
    """The one prediction that a feedback names, whichever way it does."""
    if prediction is None:
        if task_id is None or prediction_id is None:
            missing = "task_id" if task_id is None else "prediction_id"
            raise InvalidEvent(
                "missing_prediction", missing, "give what predict() returned, or both task_id= and prediction_id="
            )
        return PredictionRef(fields.text("task_id", task_id), fields.text("prediction_id", prediction_id))
    if not isinstance(prediction, PredictionRef):
        raise fields.wrong_type("prediction", "what predict() returned", prediction)
    if task_id is not None or prediction_id is not None:
        raise InvalidEvent("two_predictions", "prediction", "give either what predict() returned, or its two ids")
    return PredictionRef(
        fields.text("task_id", prediction.task_id), fields.text("prediction_id", prediction.prediction_id)
    )


def _actor(field: str, value: object) -> dict[str, str]:
    if not isinstance(value, Actor):
        raise fields.wrong_type(field, "model(...) or human(...)", value)
    return value.to_dict()


def _scores(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, Mapping):
        raise fields.wrong_type("scores", "a mapping such as {'polite': (4, 5)}", value)
    found = []
    for criterion, pair in value.items():
        path = f"scores[{criterion!r}]"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidEvent("wrong_type", path, "must be (score, max_score)")
        found.append(
            {
                "criterion": fields.text("scores key", criterion),
                "score": fields.number(f"{path}.score", pair[0]),
                "max_score": fields.number(f"{path}.max_score", pair[1]),
            }
        )
    return found
