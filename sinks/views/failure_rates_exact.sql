-- The counts of failure_rates, recomputed from everything that the lake holds: equal to the stream's while a minute is
-- open, and right for feedback that came after it closed. Sums are in millionths, each weight rounded once, half to even.
WITH counted AS (
    SELECT
        _partition AS "partition",
        date_trunc('minute', occurred_at) AS "minute",
        actor.kind AS actor_kind,
        actor.name AS actor,
        actor.version AS "version",
        segment,
        reviewed,
        failed,
        round_even(1e6 / sampling_probability, 0)::BIGINT AS w,
        round_even(1e6 / (sampling_probability * sampling_probability), 0)::BIGINT AS w2
    FROM reviews
)
SELECT
    "partition",
    "minute",
    actor_kind,
    actor,
    "version",
    segment,
    count(*)::BIGINT AS predictions,
    count(*) FILTER (reviewed)::BIGINT AS reviewed,
    count(*) FILTER (failed)::BIGINT AS failures,
    count(w)::BIGINT AS weighted_reviews,
    coalesce(sum(w), 0)::BIGINT AS sum_w,
    coalesce(sum(w) FILTER (failed), 0)::BIGINT AS sum_wy,
    coalesce(sum(w2), 0)::BIGINT AS sum_w2,
    coalesce(sum(w2) FILTER (failed), 0)::BIGINT AS sum_w2y,
    1::INTEGER AS derive_version
FROM counted
GROUP BY "partition", "minute", actor_kind, actor, "version", segment
