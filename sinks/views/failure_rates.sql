-- The stream's counts: for each key its latest value. failure_rates_exact has the same columns.
SELECT * EXCLUDE (_topic, _partition, _offset, _arrived_at, _ingested_at)
FROM raw.failure_rates
QUALIFY row_number() OVER (
    PARTITION BY "partition", "minute", actor_kind, actor, "version", segment
    ORDER BY _offset DESC
) = 1
