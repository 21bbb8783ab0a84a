-- Every pair of a model's prediction and a grade once.
-- graded_example_id is a hash of the other ids: it is here so that a look-up by it reads no other rows.
SELECT row.*
FROM raw.graded_examples AS row
LEFT JOIN (
    SELECT task_id, prediction_id, grade_id, graded_example_id, min(_offset) AS first_offset
    FROM raw.graded_examples
    GROUP BY task_id, prediction_id, grade_id, graded_example_id
    HAVING count(*) > 1
) AS copied USING (task_id, prediction_id, grade_id, graded_example_id)
WHERE copied.first_offset IS NULL OR row._offset = copied.first_offset
