-- Every pair of a model's prediction and a correction once.
SELECT *
FROM raw.examples
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1
