-- Every correction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.corrections.
SELECT row.*
FROM raw.corrections AS row
LEFT JOIN (
    SELECT task_id, prediction_id, correction_id, min(_offset) AS first_offset
    FROM raw.corrections
    GROUP BY task_id, prediction_id, correction_id
    HAVING count(*) > 1
) AS copied USING (task_id, prediction_id, correction_id)
WHERE copied.first_offset IS NULL OR row._offset = copied.first_offset
