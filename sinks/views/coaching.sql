-- Every pair of a person's prediction and a feedback once.
-- coaching_id is a hash of the other ids: it is here so that a look-up by it reads no other rows.
SELECT row.*
FROM raw.coaching AS row
LEFT JOIN (
    SELECT task_id, prediction_id, feedback_kind, feedback_id, coaching_id, min(_offset) AS first_offset
    FROM raw.coaching
    GROUP BY task_id, prediction_id, feedback_kind, feedback_id, coaching_id
    HAVING count(*) > 1
) AS copied USING (task_id, prediction_id, feedback_kind, feedback_id, coaching_id)
WHERE copied.first_offset IS NULL OR row._offset = copied.first_offset
