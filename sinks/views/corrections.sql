-- Every correction once: its first copy by offset. Later copies, conflicting ones too, stay in raw.corrections.
SELECT copy.*
FROM raw.corrections AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.corrections
    GROUP BY task_id, prediction_id, correction_id, _partition
) AS first_copy USING (_partition, _offset)
