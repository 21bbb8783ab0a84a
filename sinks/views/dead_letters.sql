-- Every refused message once, by where it stood. Dead letters without such headers are not ours: each is kept.
SELECT *
FROM raw.dead_letters
QUALIFY row_number() OVER (
    PARTITION BY
        source_topic,
        source_partition,
        source_offset,
        CASE WHEN source_partition IS NULL OR source_offset IS NULL THEN (_topic, _partition, _offset) END
    ORDER BY _topic, _partition, _offset
) = 1
