-- The stream's counts: for each key its latest value. failure_rates_exact has the same columns.
SELECT
    "partition", "minute", actor_kind, actor, "version", segment,
    arg_max_null(
        COLUMNS(* EXCLUDE (
            "partition", "minute", actor_kind, actor, "version", segment,
            _topic, _partition, _offset, _arrived_at, _ingested_at
        )),
        _offset
    )
FROM raw.failure_rates
GROUP BY "partition", "minute", actor_kind, actor, "version", segment
