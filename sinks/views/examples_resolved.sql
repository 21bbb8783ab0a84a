-- One row for each prediction of a model that has a correction: the example of the winning correction, and how many there
-- are, the ids of those that it superseded (best first), and whether reviewers of the highest authority disagree.
WITH ranked AS (
    SELECT
        task_id,
        prediction_id,
        list(
            correction_id
            ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC
        ) AS correction_ids
    FROM examples
    GROUP BY task_id, prediction_id
)
SELECT
    example.*,
    len(ranked.correction_ids) AS corrections,
    ranked.correction_ids[2:] AS superseded_ids,
    dispute.prediction_id IS NOT NULL AS disputed
FROM examples AS example
JOIN ranked
    ON ranked.task_id = example.task_id
    AND ranked.prediction_id = example.prediction_id
    AND ranked.correction_ids[1] = example.correction_id
LEFT JOIN disputes AS dispute
    ON dispute.task_id = example.task_id
    AND dispute.prediction_id = example.prediction_id
