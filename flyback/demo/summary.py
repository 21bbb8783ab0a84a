"""What the demo's lake says, asked by DuckDB."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Any

from flyback.demo.corpus import DOMAINS
from flyback.sinks.lake import lake as open_lake
from flyback.streams.rates import wilson
from flyback.verify import Comparison

# Rows of the MODEL only: `examples_resolved` holds no others. The score is in the answer's JSON, what the raters
# said on average in the correction's attributes.
_DOMAINS = """
with answered as (
    select segment, count(*) as predictions
    from predictions
    where actor.kind = 'MODEL'
    group by segment
), judged as (
    select
        segment,
        verdict,
        json_extract(output.body, '$.score')::double as score,
        list_filter(feedback_attributes, lambda a: a.key = 'raters_mean')[1].value::double as raters_mean
    from examples_resolved
)
select
    segment,
    any_value(predictions),
    count(verdict),
    count(*) filter (verdict in ('CORRECTED', 'REJECTED')),
    corr(score, raters_mean)
from answered left join judged using (segment)
group by segment
"""


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain's MODEL predictions. `interval` is Wilson's, 95 %; correlations are Pearson's r with the raters."""

    domain: str
    predictions: int
    reviewed: int
    failures: int
    failure_rate: float | None
    interval: tuple[float, float]
    correlation: float | None
    paper_correlation: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the demo came to. `seconds` is from the first event sent to the last row landed."""

    domains: tuple[Domain, ...]
    examples: int
    coaching: int
    comparison: Comparison
    events: int
    seconds: float
    lake: str
    next_commands: tuple[str, ...]

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "domains": [asdict(domain) for domain in self.domains],
            "predictions": sum(domain.predictions for domain in self.domains),
            "examples": self.examples,
            "coaching": self.coaching,
            "stream_equals_batch": self.comparison.equal,
            "differences": self.comparison.differences,
            "compared": {
                "raw": self.comparison.raw,
                "derived": self.comparison.derived,
                "rates": self.comparison.rates,
            },
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events_per_second, 1),
            "lake": self.lake,
            "next_commands": list(self.next_commands),
        }


def domains(lake: str) -> tuple[Domain, ...]:
    """The domains in the lake, in the paper's order. Raises LakeError."""
    with open_lake(lake) as connection:
        found = {row[0]: row[1:] for row in connection.sql(_DOMAINS).fetchall()}
    results = []
    for name, domain in DOMAINS.items():
        if name in found:
            predictions, reviewed, failures, correlation = found[name]
            results.append(
                Domain(
                    name,
                    predictions,
                    reviewed,
                    failures,
                    failures / reviewed if reviewed else None,
                    wilson(failures, reviewed),
                    correlation,
                    domain.paper_correlation,
                )
            )
    return tuple(results)


def count(lake: str, view: str) -> int:
    """How many rows a view of the lake has. Raises LakeError."""
    with open_lake(lake) as connection:
        return int(connection.sql(f"select count(*) from {view}").fetchall()[0][0])


def next_commands(program: str, lake: str) -> tuple[str, ...]:
    """Three questions to ask the lake, as a shell takes them."""
    where = f"{program} sql --lake {shlex.quote(lake)}"
    return (
        f'{where} "select segment, count(*) as reviewed, '
        "round(avg((verdict <> 'CONFIRMED')::int), 3) as failure_rate "
        'from examples_resolved group by all order by all"',
        f'{where} "select input.body as text, output.body as said, truth.body as truth from examples_resolved '
        "where error_category = 'polarity_flipped' order by confidence desc limit 5\"",
        f'{where} "select actor.name as rater, count(*) as answers, '
        "round(avg((verdict <> 'CONFIRMED')::int), 3) as not_with_the_panel "
        'from coaching group by all order by answers desc limit 5"',
    )
