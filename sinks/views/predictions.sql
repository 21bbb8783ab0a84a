-- Every prediction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.predictions.
SELECT row.*
FROM raw.predictions AS row
LEFT JOIN (
    SELECT task_id, prediction_id, min(_offset) AS first_offset
    FROM raw.predictions
    GROUP BY task_id, prediction_id
    HAVING count(*) > 1
) AS copied USING (task_id, prediction_id)
WHERE copied.first_offset IS NULL OR row._offset = copied.first_offset
