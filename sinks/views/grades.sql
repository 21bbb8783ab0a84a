-- Every grade once: its first copy by offset. Later copies, conflicting ones too, stay in raw.grades.
SELECT copy.*
FROM raw.grades AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.grades
    GROUP BY task_id, prediction_id, grade_id, _partition
) AS first_copy USING (_partition, _offset)
