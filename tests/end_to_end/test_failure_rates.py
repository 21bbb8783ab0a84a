"""What the stream counts is what the lake counts again, over minutes that are open."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random

from flyback import Client, human, model
from flyback.client import PredictionRef
from flyback.dashboards.feed import Feed
from flyback.dashboards.questions import Question, Row
from flyback.dashboards.rate_store import RateStore
from flyback.schemas.catalog import open_catalog
from flyback.sinks.lake import lake
from flyback.streams.rates import Counts
from tests.end_to_end.site import SECONDS, Site
from tests.waiting import eventually

TASKS = 300
HAND = "by-hand"
# Weights of the reviews that say how likely they were: 4, 2 and 4, the last two of failures; in millionths.
BY_HAND = Counts(5, 4, 3, 3, sum_w=10_000_000, sum_wy=6_000_000, sum_w2=36_000_000, sum_w2y=20_000_000)
AUTHORS = [human("ann"), human("bob"), model("judge", "2")]


def send(client: Client, chance: Random) -> None:
    """Answers over the last hours; corrections and grades of some, which disagree, and of answers that never come."""
    now = datetime.now(UTC)
    for i in range(TASKS):
        about = PredictionRef(f"task-{i}", "p")
        answered = now - timedelta(minutes=chance.randrange(180))
        for _ in range(chance.choice([0, 1, 1, 1, 2])):  # 2: a copy
            client.predict(
                task_id=about.task_id,
                prediction_id=about.prediction_id,
                actor=model("m", "1") if i % 3 else human("zoe"),
                input="x",
                output="a",
                segment=f"s{i % 2}",
                occurred_at=answered,
            )
        for name in range(chance.randrange(4)):
            client.correct(
                about,
                output="b",
                author=chance.choice(AUTHORS),
                correction_id=f"{name}",
                authority=chance.randrange(2),
                sampling_probability=chance.choice([None, 1 / 3, chance.uniform(1e-4, 1)]),
                occurred_at=answered + timedelta(seconds=chance.randrange(2)),
            )
        if chance.randrange(2):
            client.confirm(about, author=chance.choice(AUTHORS), correction_id="confirmed", occurred_at=answered)
        for name in range(chance.randrange(3)):
            client.grade(
                about,
                rubric="tone",
                rubric_version="2",
                scores={"polite": (4, 5)},
                passed=chance.choice([True, False, None]),
                author=chance.choice(AUTHORS),
                grade_id=f"{name}",
                sampling_probability=chance.choice([None, 0.7]),
            )


def send_by_hand(client: Client) -> None:
    """Five answers, four of them reviewed, of which three failed; what BY_HAND adds up."""
    answers = [
        client.predict(task_id=f"hand-{i}", actor=model("m", "2"), input="x", output="a", segment=HAND)
        for i in range(5)
    ]
    ann = human("ann")
    client.confirm(answers[0], author=ann, sampling_probability=0.25)
    client.correct(answers[1], output="b", author=ann, sampling_probability=0.5)
    client.reject(answers[2], author=ann, sampling_probability=0.25)
    scores = {"polite": (1, 5)}
    client.grade(answers[3], rubric="tone", rubric_version="2", scores=scores, passed=False, author=ann)


def test_failure_rates_are_the_exact_ones_over_open_minutes(site: Site) -> None:
    for service in (site.start_worker(FLYBACK_BATCH_EVENTS="100"), site.start_sink()):
        service.wait_ready()
    with Client(site.settings) as client:
        send(client, Random(11))
        send_by_hand(client)
        assert client.flush(SECONDS) == 0
    site.until_landed()
    with lake(site.settings.lake) as tables:
        streamed = tables.sql("FROM failure_rates ORDER BY ALL").fetchall()
        exact = tables.sql("FROM failure_rates_exact ORDER BY ALL").fetchall()
        ((weighted, by_grade),) = tables.sql(
            "SELECT count(*) FILTER (sampling_probability IS NOT NULL AND failed), "
            "count(*) FILTER (failed AND winning_correction_id IS NULL) FROM reviews"
        ).fetchall()
        assert weighted and by_grade
        assert streamed == exact
        until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        hours, days = until - timedelta(hours=4), until - timedelta(days=2)
        questions = [
            Question(hours, until),
            Question(hours, until, by=("segment", "version", "actor", "actor_kind")),
            Question(hours, until, by=("segment",), step=timedelta(minutes=5)),
            Question(hours, until, where={"segment": ["s1"], "actor_kind": ["MODEL", "HUMAN"]}),
            Question(days, until, by=("actor",), step=timedelta(hours=6)).rounded(),
        ]
        store = RateStore()
        with Feed(site.settings, open_catalog(site.settings), store) as feed:
            feed.until_live(SECONDS)
        assert feed.following.skipped == 0
        for question in questions:
            assert store.ask(question) == question.ask(tables) == question.ask(tables, "failure_rates_exact")
        [total] = store.ask(questions[0])
        assert sum(row.counts.predictions for row in store.ask(questions[1])) == total.counts.predictions > TASKS // 2
        range_of = ("--since", hours.isoformat(), "--until", until.isoformat())
        found = site.run("rates", *range_of, "--by", "segment", "--json")
        said = site.run("rates", *range_of, "--by", "segment", "--sql")
        assert json.loads(found.stdout)["rates"] == [
            row.plain() for row in Question(hours, until, by=("segment",)).ask(tables)
        ]
        assert [row[0] for row in tables.sql(said.stdout).fetchall()] == [HAND, "s0", "s1"]

        hand = Question(hours, until, by=("version",), where={"segment": [HAND]})
        by_hand = [Row(None, {"version": "2"}, BY_HAND)]
        assert store.ask(hand) == hand.ask(tables) == hand.ask(tables, "failure_rates_exact") == by_hand
        [said_by_hand] = [row for row in json.loads(found.stdout)["rates"] if row["segment"] == HAND]
        assert (said_by_hand["rate"]["value"], said_by_hand["weighted_rate"]["value"]) == (3 / 4, 6 / 10)
        dashboard = site.start_dashboard()
        dashboard.wait_ready()
        asked = f"since={hours:%Y-%m-%dT%H:%MZ}&until={until:%Y-%m-%dT%H:%MZ}&by=segment"

        def same() -> bool:
            return bool(json.loads(dashboard.get(f"api/v1/rates?{asked}")) == json.loads(found.stdout))

        eventually(same, "the dashboard says what the command line says", SECONDS)
        view = json.loads(dashboard.get(f"api/v1/view?{asked}&segment={HAND}"))
        assert view["headline"]["rate"] == said_by_hand["rate"]
        assert tables.sql(view["headline"]["sql"]).fetchall() == [BY_HAND]
        assert {row["task_id"] for row in view["failures"]["rows"]} == {"hand-1", "hand-2", "hand-3"}
        dashboard.stop()
