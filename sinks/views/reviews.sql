-- Every prediction with what decides about it: its winning correction, else its deciding grade.
-- `failed` is NULL where neither is there. `sampling_probability` is that of the one that decides.
WITH winning AS (
    SELECT
        task_id,
        prediction_id,
        first(
            {
                'correction_id': correction_id,
                'verdict': verdict,
                'failed': verdict <> 'CONFIRMED',
                'probability': sampling_probability
            }
            ORDER BY authority DESC, occurred_at DESC, correction_id DESC
        ) AS correction
    FROM corrections
    GROUP BY task_id, prediction_id
),
deciding AS (
    SELECT
        task_id,
        prediction_id,
        first(
            {'grade_id': grade_id, 'failed': NOT passed, 'probability': sampling_probability}
            ORDER BY grade_id DESC
        ) AS grade
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
    CASE WHEN correction.correction_id IS NOT NULL THEN correction.failed ELSE grade.failed END AS failed,
    CASE WHEN correction.correction_id IS NOT NULL THEN correction.probability ELSE grade.probability END
        AS sampling_probability,
    answer._partition
FROM predictions AS answer
LEFT JOIN winning USING (task_id, prediction_id)
LEFT JOIN deciding USING (task_id, prediction_id)
