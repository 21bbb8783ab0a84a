-- Every pair of a model's prediction and a grade once.
SELECT copy.*
FROM raw.graded_examples AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.graded_examples
    GROUP BY graded_example_id, _partition
) AS first_copy USING (_partition, _offset)
