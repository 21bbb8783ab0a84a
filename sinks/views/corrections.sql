-- Every correction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.corrections.
SELECT *
FROM raw.corrections
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1
