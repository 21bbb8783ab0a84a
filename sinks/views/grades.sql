-- Every grade once: its first copy by offset. Later copies, conflicting ones too, stay in raw.grades.
SELECT *
FROM raw.grades
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, grade_id ORDER BY _offset) = 1
