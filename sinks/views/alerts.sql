-- Every change of an alert's state once.
SELECT copy.*
FROM raw.alerts AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.alerts
    GROUP BY alert_id, state, occurred_at, _partition
) AS first_copy USING (_partition, _offset)
