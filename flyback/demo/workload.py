"""What the demo's services and reviewers write, decided by the texts, a seed and the time `now` alone.

Each text is one task with two answers: VADER's (a MODEL prediction) and one rater's (a HUMAN prediction). The
panel of all its raters then confirms or corrects both. So every text gives two predictions and two
corrections.
"""

from __future__ import annotations

import random
import statistics
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice, zip_longest
from typing import Literal

from flyback.demo import sdist
from flyback.demo.corpus import DOMAINS, Text
from flyback.errors import ConfigurationError

Label = Literal["positive", "neutral", "negative"]
Answer = Mapping[str, str | float]
Score = Callable[[str], float]
"""Sentiment of a text, from -1 (most negative) to 1 (most positive)."""

MODEL_NAME = "vader"
MODEL_VERSION = sdist.VERSION
PANEL = "panel"
MODEL_THRESHOLD = 0.05  # on the compound score: the one that VADER's documentation gives
HUMAN_THRESHOLD = 0.5  # on the raters' scale of -4 to 4

SPAN = timedelta(hours=6)
FEEDBACK_FIRST = 0.01  # share of pairs whose correction is sent before its prediction
SENT_TWICE = 0.005  # share of all events that are sent a second time

# The slots of a text's four events.
_MODEL, _MODEL_REVIEW, _HUMAN, _HUMAN_REVIEW = range(4)
_EVENTS_A_TEXT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPrediction:
    """One answer to one task. `output` is a JSON value, `{"label": …, "score": …}`."""

    prediction_id: str
    task_id: str
    actor_kind: Literal["MODEL", "HUMAN"]
    actor_name: str
    actor_version: str
    input: str
    output: Answer
    confidence: float | None
    segment: str
    occurred_at: datetime
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCorrection:
    """The panel's verdict on one prediction. `output` is the truth as a JSON value, None for CONFIRMED.

    The raters' mean is in `attributes` of every correction (`raters_mean`, with `raters`, how many they
    were), so that the confirmed ones too can be compared with the model's score.
    """

    correction_id: str
    task_id: str
    prediction_id: str
    verdict: Literal["CONFIRMED", "CORRECTED"]
    output: Answer | None
    author_name: str
    reason: str | None
    error_category: str | None
    occurred_at: datetime
    attributes: Mapping[str, str]


Planned = PlannedPrediction | PlannedCorrection


def vader() -> Score:
    """VADER's compound score. Raises ConfigurationError where the package is not installed."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise ConfigurationError("the demo's model is not installed: type `pip install 'flyback[demo]'`") from error
    analyzer = SentimentIntensityAnalyzer()

    def compound(text: str) -> float:
        return float(analyzer.polarity_scores(text)["compound"])

    return compound


def label(value: float, threshold: float) -> Label:
    """The three classes; a value exactly at the threshold has a polarity."""
    if value >= threshold:
        return "positive"
    return "negative" if value <= -threshold else "neutral"


def confidence(compound: float) -> float:
    """Distance of VADER's score from the nearest border between two labels: 0.5 at the border, 1.0 at ±1.

    VADER gives no probability. A neutral text is never far from a border (at most 0.53): a score of 0 mostly
    says that no word of it is in the lexicon.
    """
    return 0.5 + 0.5 * abs(abs(compound) - MODEL_THRESHOLD) / (1 - MODEL_THRESHOLD)


def error_category(given: Label, truth: Label) -> str | None:
    """What kind of failure `given` is; None where it is none."""
    if given == truth:
        return None
    if truth == "neutral":
        return "false_alarm"
    return f"missed_{truth}" if given == "neutral" else "polarity_flipped"


def rater_of(text: Text) -> int:
    """Which of a text's ratings (from 0) is the single rater's answer: always the same one for the same text.

    The corpora do not say who gave a rating, so `rater-07` is "the seventh of this text", not one person
    throughout.
    """
    return zlib.crc32(task_id_of(text).encode()) % len(text.ratings)


def task_id_of(text: Text) -> str:
    return f"{text.domain}-{text.text_id}"


def first(texts: Sequence[Text], limit: int) -> list[Text]:
    """The first `limit` texts, taken from the domains in turn (all of them where there are no more)."""
    by_domain = [[text for text in texts if text.domain == domain] for domain in DOMAINS]
    in_turn = (text for text in chain.from_iterable(zip_longest(*by_domain)) if text is not None)
    return list(islice(in_turn, limit))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the flywheel must find for one domain; `correlation` is None where it is not defined."""

    predictions: int
    failures: int
    human_failures: int
    correlation: float | None

    @property
    def failure_rate(self) -> float:
        return self.failures / self.predictions


def expected(texts: Sequence[Text], score: Score | None = None) -> dict[str, Expected]:
    """The demo's results by domain, computed directly from the texts: what the lake is compared with."""
    score = score or vader()
    results = {}
    for domain in DOMAINS:
        of_domain = [text for text in texts if text.domain == domain]
        if not of_domain:
            continue
        scores = [score(text.text) for text in of_domain]
        means = [text.mean for text in of_domain]
        truths = [label(mean, HUMAN_THRESHOLD) for mean in means]
        singles = [label(text.ratings[rater_of(text)], HUMAN_THRESHOLD) for text in of_domain]
        results[domain] = Expected(
            predictions=len(of_domain),
            failures=sum(label(s, MODEL_THRESHOLD) != truth for s, truth in zip(scores, truths, strict=True)),
            human_failures=sum(single != truth for single, truth in zip(singles, truths, strict=True)),
            correlation=_pearson(scores, means),
        )
    return results


def _pearson(xs: list[float], ys: list[float]) -> float | None:
    try:
        return statistics.correlation(xs, ys)
    except statistics.StatisticsError:
        return None


class Workload:
    """All events of the demo in the order in which they are sent, the same each time it is iterated.

    Events happen within `span` before `now`, never later; the delays shrink with `span`. Each event is sent
    when it happens, except that of 1 % of the pairs the prediction is sent after its correction (its service
    was offline), and that 0.5 % of all events are sent again some minutes later. Texts are scored while
    iterating, so that sending need not wait for the model. Ids depend on the seed alone: use a new seed for a
    new run against the same topics.
    """

    def __init__(
        self,
        texts: Sequence[Text],
        *,
        seed: int | str,
        now: datetime,
        span: timedelta = SPAN,
        score: Score | None = None,
    ) -> None:
        if now.tzinfo is None:
            raise ConfigurationError("the demo's `now` needs a time zone: pass datetime.now(timezone.utc)")
        rng = random.Random(seed)
        self._texts = texts
        self._score = score or vader()
        self._start = now - span
        self._ids = [rng.getrandbits(128) for _ in range(_EVENTS_A_TEXT * len(texts))]
        self._occurred = _event_times(rng, len(texts), span)
        self._order, self.duplicates = _send_order(rng, self._occurred, span)

    def __len__(self) -> int:
        """How many events are sent, second copies included."""
        return len(self._order)

    @property
    def predictions(self) -> int:
        """How many predictions there are, copies not counted; as many as corrections."""
        return 2 * len(self._texts)

    @property
    def corrections(self) -> int:
        """How many corrections there are, copies not counted."""
        return 2 * len(self._texts)

    def __iter__(self) -> Iterator[Planned]:
        return (event for _, event in self.paced())

    def paced(self) -> Iterator[tuple[datetime, Planned]]:
        """Every event with the moment at which it is sent (up to some minutes after `now`), in that order.

        For a demo in real time, let `now` be the moment at which it shall end and `span` how long it shall
        last.
        """
        compounds: dict[int, float] = {}
        for sent, slot in self._order:
            index, event = divmod(slot, _EVENTS_A_TEXT)
            text = self._texts[index]
            if event in (_HUMAN, _HUMAN_REVIEW):
                yield self._at(sent), self._human(text, slot)
                continue
            if index not in compounds:
                compounds[index] = self._score(text.text)
            yield self._at(sent), self._model(text, slot, compounds[index])

    def _model(self, text: Text, slot: int, compound: float) -> Planned:
        given = label(compound, MODEL_THRESHOLD)
        if slot % _EVENTS_A_TEXT == _MODEL_REVIEW:
            return self._review(text, slot, given, f"VADER's compound {compound:.4g}")
        return PlannedPrediction(
            prediction_id=self._id(slot),
            task_id=task_id_of(text),
            actor_kind="MODEL",
            actor_name=MODEL_NAME,
            actor_version=MODEL_VERSION,
            input=text.text,
            output={"label": given, "score": compound},
            confidence=confidence(compound),
            segment=text.domain,
            occurred_at=self._at(self._occurred[slot]),
            attributes={"document": text.document},
        )

    def _human(self, text: Text, slot: int) -> Planned:
        number = rater_of(text)
        name = f"rater-{number + 1:02d}"
        rating = text.ratings[number]
        given = label(rating, HUMAN_THRESHOLD)
        if slot % _EVENTS_A_TEXT == _HUMAN_REVIEW:
            return self._review(text, slot, given, f"{name}'s own {rating}")
        return PlannedPrediction(
            prediction_id=self._id(slot),
            task_id=task_id_of(text),
            actor_kind="HUMAN",
            actor_name=name,
            actor_version="",
            input=text.text,
            output={"label": given, "score": rating},
            confidence=None,
            segment=text.domain,
            occurred_at=self._at(self._occurred[slot]),
            attributes={"document": text.document},
        )

    def _review(self, text: Text, slot: int, given: Label, answer: str) -> PlannedCorrection:
        truth = label(text.mean, HUMAN_THRESHOLD)
        right = given == truth
        return PlannedCorrection(
            correction_id=self._id(slot),
            task_id=task_id_of(text),
            prediction_id=self._id(slot - 1),
            verdict="CONFIRMED" if right else "CORRECTED",
            output=None if right else {"label": truth, "score": text.mean},
            author_name=PANEL,
            reason=None if right else f"the raters' mean {text.mean:.4g} is {truth}, {answer} is {given}",
            error_category=error_category(given, truth),
            occurred_at=self._at(self._occurred[slot]),
            attributes={"raters_mean": str(text.mean), "raters": str(len(text.ratings))},
        )

    def _id(self, slot: int) -> str:
        return str(uuid.UUID(int=self._ids[slot], version=4))

    def _at(self, offset: int) -> datetime:
        return self._start + timedelta(microseconds=offset)


def _event_times(rng: random.Random, texts: int, span: timedelta) -> list[int]:
    """When each slot's event happens, in microseconds after the start: reviews after what they review."""
    end = span // timedelta(microseconds=1)
    minute = end / (SPAN / timedelta(minutes=1))  # a minute of a six-hour day, shrunk with it
    times = []
    for _ in range(texts):
        answered = rng.uniform(0, end - 6 * minute)
        rated = answered + rng.uniform(0.3, 5) * minute
        for moment in (answered, rated):
            occurred = int(moment)
            times += [occurred, min(end, occurred + 1 + int(_review_delay(rng, minute, end - occurred)))]
    return times


def _review_delay(rng: random.Random, minute: float, left: float) -> float:
    """Most reviews take minutes, one in ten hours; one that would lie in the future is moved before `now`."""
    promptly = rng.lognormvariate(1.4, 0.8) * minute  # median four minutes
    late = rng.uniform(60, 300) * minute
    within_the_rest = rng.random() * left
    delay = late if rng.random() < 0.1 else promptly
    return delay if delay < left else within_the_rest


def _send_order(rng: random.Random, occurred: list[int], span: timedelta) -> tuple[list[tuple[int, int]], int]:
    """(microseconds after the start, slot) of all that is sent, in order, and how many are second copies."""
    minute = max(1, span // timedelta(microseconds=1) // (SPAN // timedelta(minutes=1)))
    sent = list(occurred)
    pairs = len(occurred) // 2
    for pair in rng.sample(range(pairs), _at_least_one(FEEDBACK_FIRST, pairs)):
        prediction, review = 2 * pair, 2 * pair + 1
        sent[prediction] = sent[review] + rng.randint(1, minute)
    again = rng.sample(range(len(sent)), _at_least_one(SENT_TWICE, len(sent)))
    copies = [(sent[slot] + rng.randint(1, 3 * minute), slot) for slot in again]
    originals = [(moment, slot) for slot, moment in enumerate(sent)]
    return sorted(originals + copies), len(copies)


def _at_least_one(share: float, of: int) -> int:
    return min(of, max(1, round(share * of)))
