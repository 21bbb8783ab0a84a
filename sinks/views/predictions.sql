-- Every prediction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.predictions.
SELECT *
FROM raw.predictions
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id ORDER BY _offset) = 1
