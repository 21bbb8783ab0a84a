-- Every prediction with what decides about it: its winning correction, else its deciding grade.
-- `failed` is NULL where neither is there. `sampling_probability` and `decided_at` are those of the one that decides.
-- Few predictions have more than one correction, or one more than once: only of these the winner is looked for.
WITH several AS (
    SELECT task_id, prediction_id
    FROM raw.corrections
    GROUP BY task_id, prediction_id
    HAVING count(*) > 1
),
first_copies AS (
    SELECT task_id, prediction_id, correction_id, authority, occurred_at, _offset
    FROM raw.corrections
    JOIN several USING (task_id, prediction_id)
    QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1
),
best AS (
    SELECT task_id, prediction_id, first(_offset ORDER BY authority DESC, occurred_at DESC, correction_id DESC) AS "offset"
    FROM first_copies
    GROUP BY task_id, prediction_id
),
winning AS (
    SELECT correction.*
    FROM raw.corrections AS correction
    LEFT JOIN best USING (task_id, prediction_id)
    WHERE best.offset IS NULL OR correction._offset = best.offset
),
deciding AS (
    SELECT
        task_id,
        prediction_id,
        max(grade_id) AS grade_id,
        arg_max(NOT passed, grade_id) AS failed,
        arg_max_null(sampling_probability, grade_id) AS sampling_probability,
        arg_max(occurred_at, grade_id) AS occurred_at
    FROM grades
    WHERE passed IS NOT NULL
    GROUP BY task_id, prediction_id
)
SELECT
    answer.task_id,
    answer.prediction_id,
    answer.actor,
    answer.segment,
    answer.occurred_at,
    correction.correction_id AS winning_correction_id,
    correction.verdict AS verdict,
    grade.grade_id AS deciding_grade_id,
    correction.correction_id IS NOT NULL OR grade.grade_id IS NOT NULL AS reviewed,
    CASE WHEN correction.correction_id IS NOT NULL THEN correction.verdict <> 'CONFIRMED' ELSE grade.failed END
        AS failed,
    CASE
        WHEN correction.correction_id IS NOT NULL THEN correction.sampling_probability
        ELSE grade.sampling_probability
    END AS sampling_probability,
    coalesce(correction.occurred_at, grade.occurred_at) AS decided_at,
    answer._partition
FROM predictions AS answer
LEFT JOIN winning AS correction USING (task_id, prediction_id)
LEFT JOIN deciding AS grade USING (task_id, prediction_id)
