-- Every pair of a model's prediction and a correction once.
SELECT copy.*
FROM raw.examples AS copy
SEMI JOIN (
    SELECT _partition, min(_offset) AS _offset
    FROM raw.examples
    GROUP BY example_id, _partition
) AS first_copy USING (_partition, _offset)
