-- Every change of an alert's state once.
SELECT *
FROM raw.alerts
QUALIFY row_number() OVER (PARTITION BY alert_id, state, occurred_at ORDER BY _offset) = 1
