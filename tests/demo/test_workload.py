from __future__ import annotations

import json
import statistics
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from flyback.demo import workload
from flyback.demo.corpus import DOMAINS, Text
from flyback.demo.workload import Planned, PlannedCorrection, PlannedPrediction, Workload
from flyback.errors import ConfigurationError

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)

# Measured: 3-class failure rate and Pearson's r of the compound score with the raters' mean.
FAILURE_RATES = {"tweets": 0.176, "movies": 0.453, "amazon": 0.401, "nyt": 0.442}
CORRELATIONS = {"tweets": 0.872, "movies": 0.427, "amazon": 0.590, "nyt": 0.503}


@pytest.fixture(scope="module")
def sent(texts: list[Text]) -> list[Planned]:
    return list(Workload(texts, seed="a run", now=NOW))


def key(event: Planned) -> tuple[str, str]:
    return (
        ("correction", event.correction_id)
        if isinstance(event, PlannedCorrection)
        else ("prediction", event.prediction_id)
    )


def predictions(events: list[Planned]) -> dict[str, PlannedPrediction]:
    return {event.prediction_id: event for event in events if isinstance(event, PlannedPrediction)}


def corrections(events: list[Planned]) -> dict[str, PlannedCorrection]:
    return {event.correction_id: event for event in events if isinstance(event, PlannedCorrection)}


def pairs(events: list[Planned]) -> Iterator[tuple[PlannedPrediction, PlannedCorrection]]:
    answers = predictions(events)
    return ((answers[review.prediction_id], review) for review in corrections(events).values())


def some_texts() -> list[Text]:
    """A few made-up texts of two domains, for what does not depend on the real ones."""
    return [
        Text(domain, f"{document}_{sentence}", f"text {document} {sentence}", mean, (-3, 0, 1, 4))
        for domain in ("amazon", "nyt")
        for document in range(10)
        for sentence, mean in enumerate((-1.5, 0.2, 0.5, 2.25))
    ]


def test_the_whole_corpus_gives_a_model_and_a_human_prediction_and_a_correction_of_each(
    texts: list[Text], sent: list[Planned]
) -> None:
    assert len(predictions(sent)) == len(corrections(sent)) == 47_406
    kinds = Counter((answer.actor_kind, answer.segment) for answer in predictions(sent).values())
    assert kinds == {(kind, name): domain.texts for kind in ("MODEL", "HUMAN") for name, domain in DOMAINS.items()}
    assert Counter(answer.task_id for answer in predictions(sent).values()).most_common(1)[0][1] == 2
    assert {review.prediction_id for review in corrections(sent).values()} == set(predictions(sent))


def test_failure_rates_of_the_model_are_the_measured_ones(sent: list[Planned]) -> None:
    for domain, rate in FAILURE_RATES.items():
        verdicts = Counter(
            review.verdict
            for answer, review in pairs(sent)
            if answer.actor_kind == "MODEL" and answer.segment == domain
        )
        assert verdicts["CORRECTED"] / verdicts.total() == pytest.approx(rate, abs=0.002)


def test_the_events_alone_give_the_correlation_of_every_score_with_the_raters_mean(
    sent: list[Planned],
) -> None:
    for domain, correlation in CORRELATIONS.items():
        of_domain = [
            (float(answer.output["score"]), float(review.attributes["raters_mean"]))
            for answer, review in pairs(sent)
            if answer.actor_kind == "MODEL" and answer.segment == domain
        ]
        assert len(of_domain) == DOMAINS[domain].texts
        assert statistics.correlation(*zip(*of_domain, strict=True)) == pytest.approx(correlation, abs=0.001)


def test_the_expected_results_are_what_the_events_give(texts: list[Text], sent: list[Planned]) -> None:
    found = workload.expected(texts)
    failures = Counter(
        (answer.segment, answer.actor_kind) for answer, review in pairs(sent) if review.verdict == "CORRECTED"
    )
    for domain in DOMAINS:
        assert found[domain].predictions == DOMAINS[domain].texts
        assert found[domain].failures == failures[domain, "MODEL"]
        assert found[domain].human_failures == failures[domain, "HUMAN"]
        assert found[domain].failure_rate == pytest.approx(FAILURE_RATES[domain], abs=0.002)
        assert found[domain].correlation == pytest.approx(CORRELATIONS[domain], abs=0.001)


def test_the_correlations_are_near_the_ones_that_the_paper_gives() -> None:
    for domain, correlation in CORRELATIONS.items():
        assert correlation == pytest.approx(DOMAINS[domain].paper_correlation, abs=0.03)


def test_a_correction_says_truly_what_was_wrong(sent: list[Planned]) -> None:
    categories: Counter[tuple[str | None, bool, object]] = Counter()
    for answer, review in pairs(sent):
        if review.verdict == "CONFIRMED":
            assert (review.output, review.reason, review.error_category) == (None, None, None)
            continue
        assert review.output is not None
        given, truth = answer.output["label"], review.output["label"]
        assert given != truth
        assert review.output["score"] == float(review.attributes["raters_mean"])
        assert review.reason is not None
        assert f"is {truth}, " in review.reason
        assert review.reason.endswith(f" is {given}")
        assert ("VADER" in review.reason) == (answer.actor_kind == "MODEL")
        categories[review.error_category, given == "neutral", truth] += 1
    assert set(categories) == {
        ("missed_positive", True, "positive"),
        ("missed_negative", True, "negative"),
        ("polarity_flipped", False, "positive"),
        ("polarity_flipped", False, "negative"),
        ("false_alarm", False, "neutral"),
    }


def test_answers_are_json_values_with_a_confidence_between_a_half_and_one_for_the_model(
    sent: list[Planned],
) -> None:
    for answer in predictions(sent).values():
        assert json.loads(json.dumps(answer.output)) == answer.output
        if answer.actor_kind == "MODEL":
            assert (answer.actor_name, answer.actor_version) == ("vader", "3.3.2")
            assert answer.confidence is not None
            assert 0.5 <= answer.confidence <= 1
        else:
            assert answer.actor_name.startswith("rater-")
            assert answer.confidence is None


def test_confidence_is_a_half_at_the_border_of_two_labels_and_one_at_the_ends() -> None:
    assert workload.confidence(0.05) == workload.confidence(-0.05) == 0.5
    assert workload.confidence(1) == workload.confidence(-1) == 1
    assert 0.5 < workload.confidence(0) < workload.confidence(0.3)


def test_the_same_seed_and_time_give_the_same_events_in_the_same_order(texts: list[Text]) -> None:
    some = workload.first(texts, 500)
    plan = Workload(some, seed=7, now=NOW)
    assert list(plan) == list(plan) == list(Workload(some, seed=7, now=NOW))


def test_ids_are_uuids_that_depend_on_the_seed_and_not_on_the_time() -> None:
    def ids(seed: int, now: datetime) -> set[tuple[str, str]]:
        return {key(event) for event in Workload(some_texts(), seed=seed, now=now, score=len_score)}

    assert ids(1, NOW) == ids(1, NOW + timedelta(days=1))
    assert not ids(1, NOW) & ids(2, NOW)
    assert len(ids(1, NOW)) == 4 * len(some_texts())
    assert all(str(uuid.UUID(value)) == value for _, value in ids(1, NOW))


def len_score(text: str) -> float:
    return len(text) % 3 - 1.0


def test_every_event_lies_in_the_span_and_no_correction_before_its_prediction(sent: list[Planned]) -> None:
    assert all(NOW - workload.SPAN <= event.occurred_at <= NOW for event in sent)
    assert all(answer.occurred_at < review.occurred_at for answer, review in pairs(sent))


def test_most_corrections_take_minutes_and_some_take_hours(sent: list[Planned]) -> None:
    minutes = [(review.occurred_at - answer.occurred_at) / timedelta(minutes=1) for answer, review in pairs(sent)]
    assert 2 < statistics.median(minutes) < 8
    late = sum(delay > 60 for delay in minutes) / len(minutes)
    assert 0.03 < late < 0.12


def test_about_one_pair_in_a_hundred_is_sent_with_its_correction_first(sent: list[Planned]) -> None:
    first_sent: dict[tuple[str, str], int] = {}
    for position, event in enumerate(sent):
        first_sent.setdefault(key(event), position)
    feedback_first = [
        (answer, review) for answer, review in pairs(sent) if first_sent[key(review)] < first_sent[key(answer)]
    ]
    assert len(feedback_first) / 47_406 == pytest.approx(workload.FEEDBACK_FIRST, abs=0.0001)


def test_one_event_in_two_hundred_is_sent_a_second_time_later_and_unchanged(
    texts: list[Text], sent: list[Planned]
) -> None:
    by_key: dict[tuple[str, str], list[Planned]] = {}
    for event in sent:
        by_key.setdefault(key(event), []).append(event)
    copied = [copies for copies in by_key.values() if len(copies) > 1]
    assert all(copies[0] == copies[1] and len(copies) == 2 for copies in copied)
    assert len(copied) == len(sent) - 4 * len(texts) == round(4 * len(texts) * workload.SENT_TWICE)
    assert {type(copies[0]) for copies in copied} == {PlannedPrediction, PlannedCorrection}


def test_the_plan_knows_its_size_before_any_text_is_scored() -> None:
    def never(text: str) -> float:
        raise AssertionError("scored")

    plan = Workload(some_texts(), seed=1, now=NOW, score=never)
    assert (plan.predictions, plan.corrections, plan.duplicates) == (160, 160, 2)
    assert len(plan) == 322


def test_each_text_is_scored_once_and_only_when_it_is_sent() -> None:
    scored: list[str] = []

    def score(text: str) -> float:
        scored.append(text)
        return 0.5

    plan = Workload(some_texts(), seed=1, now=NOW, score=score)
    events = iter(plan)
    next(events)
    assert len(scored) <= 1
    assert len(list(events)) == len(plan) - 1
    assert Counter(scored) == {text.text: 2 for text in some_texts()}  # the made-up domains share their texts


@pytest.mark.parametrize("span", [timedelta(hours=6), timedelta(minutes=2)])
def test_a_paced_plan_sends_in_order_of_time_and_nothing_before_it_happened(span: timedelta) -> None:
    start = NOW - span
    moments = list(Workload(some_texts(), seed=1, now=NOW, span=span, score=len_score).paced())
    assert [sent for sent, _ in moments] == sorted(sent for sent, _ in moments)
    assert all(start <= event.occurred_at <= sent <= NOW + span / 50 for sent, event in moments)


def test_a_single_text_shows_a_late_prediction_and_a_duplicate_too() -> None:
    plan = Workload(some_texts()[:1], seed=1, now=NOW, score=len_score)
    assert (len(plan), plan.duplicates) == (5, 1)
    assert len({key(event) for event in plan}) == 4


def test_no_texts_give_no_events() -> None:
    assert list(Workload([], seed=1, now=NOW, score=len_score)) == []
    assert workload.expected([], len_score) == {}


def test_a_limit_takes_the_first_texts_of_the_domains_in_turn(texts: list[Text]) -> None:
    assert [(t.domain, t.text_id) for t in workload.first(texts, 6)] == [
        ("tweets", "1"),
        ("movies", "1"),
        ("amazon", "1_1"),
        ("nyt", "1_1"),
        ("tweets", "2"),
        ("movies", "2"),
    ]
    assert workload.first(texts, 0) == []
    assert len(workload.first(texts, 30_000)) == len(texts)
    assert workload.first(texts, 200) == workload.first(texts, 1_000)[:200]


def test_the_single_rater_of_a_text_is_the_same_in_every_run() -> None:
    def raters(seed: int) -> dict[str, str]:
        events = Workload(some_texts(), seed=seed, now=NOW, score=len_score)
        return {
            answer.task_id: answer.actor_name
            for answer in predictions(list(events)).values()
            if answer.actor_kind == "HUMAN"
        }

    assert raters(1) == raters(2)
    assert len(set(raters(1).values())) > 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.05, "positive"), (0.049, "neutral"), (-0.049, "neutral"), (-0.05, "negative"), (0, "neutral")],
)
def test_a_value_at_the_threshold_has_a_polarity(value: float, expected: str) -> None:
    assert workload.label(value, workload.MODEL_THRESHOLD) == expected


def test_a_correlation_that_is_not_defined_is_none() -> None:
    assert workload.expected(some_texts(), lambda text: 0.0)["amazon"].correlation is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        Workload([], seed=1, now=datetime(2024, 5, 1), score=len_score)
