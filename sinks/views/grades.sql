-- Every grade once: its first copy by offset. Later copies, conflicting ones too, stay in raw.grades.
SELECT row.*
FROM raw.grades AS row
LEFT JOIN (
    SELECT task_id, prediction_id, grade_id, min(_offset) AS first_offset
    FROM raw.grades
    GROUP BY task_id, prediction_id, grade_id
    HAVING count(*) > 1
) AS copied USING (task_id, prediction_id, grade_id)
WHERE copied.first_offset IS NULL OR row._offset = copied.first_offset
