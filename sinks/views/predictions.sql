-- Every prediction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.predictions.
SELECT copy.*
FROM raw.predictions AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.predictions
    GROUP BY task_id, prediction_id, _partition
) AS first_copy USING (_partition, _offset)
