-- Every pair of a model's prediction and a grade once.
SELECT *
FROM raw.graded_examples
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, grade_id ORDER BY _offset) = 1
