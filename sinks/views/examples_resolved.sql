-- One row for each prediction of a model that has a correction: the example of the winning correction, how many there
-- are, the ids of those that it superseded (best first), and whether reviewers of the highest authority disagree.
WITH ranked AS (
    SELECT
        *,
        count(*) OVER pair AS corrections,
        list(correction_id) OVER (best_first ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS correction_ids
    FROM examples
    WINDOW
        pair AS (PARTITION BY task_id, prediction_id),
        best_first AS (pair ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC)
    QUALIFY row_number() OVER best_first = 1
)
SELECT
    example.* EXCLUDE (correction_ids),
    example.correction_ids[2:] AS superseded_ids,
    dispute.prediction_id IS NOT NULL AS disputed
FROM ranked AS example
LEFT JOIN disputes AS dispute
    ON dispute.task_id = example.task_id
    AND dispute.prediction_id = example.prediction_id
