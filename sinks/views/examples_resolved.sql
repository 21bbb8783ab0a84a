-- One row for each prediction of a model that has a correction: the example of the winning correction, how many there
-- are, the ids of those that it superseded (best first), and whether reviewers of the highest authority disagree.
-- Few predictions have more than one row: only these are ranked, all others stream by. Disputes have no copies, but it
-- takes the DISTINCT for DuckDB to leave them out of a query that does not ask for `disputed`.
WITH several AS (
    SELECT task_id, prediction_id
    FROM raw.examples
    GROUP BY task_id, prediction_id
    HAVING count(*) > 1
),
first_copies AS (
    SELECT task_id, prediction_id, correction_id, authority, feedback_occurred_at, _offset
    FROM raw.examples
    JOIN several USING (task_id, prediction_id)
    QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1
),
ranked AS (
    SELECT
        task_id,
        prediction_id,
        list(
            {'correction_id': correction_id, 'offset': _offset}
            ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC
        ) AS best_first
    FROM first_copies
    GROUP BY task_id, prediction_id
)
SELECT
    example.*,
    coalesce(len(best_first), 1) AS corrections,
    coalesce([superseded.correction_id FOR superseded IN best_first[2:]], []) AS superseded_ids,
    dispute.prediction_id IS NOT NULL AS disputed
FROM raw.examples AS example
LEFT JOIN ranked
    ON ranked.task_id = example.task_id
    AND ranked.prediction_id = example.prediction_id
LEFT JOIN (SELECT DISTINCT task_id, prediction_id FROM disputes) AS dispute
    ON dispute.task_id = example.task_id
    AND dispute.prediction_id = example.prediction_id
WHERE best_first IS NULL OR example._offset = best_first[1].offset
