-- Every pair of a person's prediction and a feedback once.
SELECT copy.*
FROM raw.coaching AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.coaching
    GROUP BY coaching_id, _partition
) AS first_copy USING (_partition, _offset)
