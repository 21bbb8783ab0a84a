-- Every pair of a person's prediction and a feedback once.
SELECT *
FROM raw.coaching
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, feedback_kind, feedback_id ORDER BY _offset) = 1
