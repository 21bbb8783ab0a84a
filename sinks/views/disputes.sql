-- Predictions, of models and of people, on whose truth the reviewers of the highest authority do not agree. Of each
-- author the latest correction counts. A REJECTED one, which gives no truth, is a position of its own.
WITH feedback AS (
    SELECT
        task_id, prediction_id, actor, segment, correction_id, verdict, truth, author, authority, feedback_occurred_at
    FROM examples
    UNION ALL
    SELECT
        task_id, prediction_id, actor, segment, feedback_id, verdict, truth, author, authority, feedback_occurred_at
    FROM coaching
    WHERE feedback_kind = 'CORRECTION'
),
highest AS (
    SELECT *
    FROM feedback
    QUALIFY authority = max(authority) OVER (PARTITION BY task_id, prediction_id)
),
latest AS (
    SELECT *
    FROM highest
    QUALIFY row_number() OVER (
        PARTITION BY task_id, prediction_id, author
        ORDER BY feedback_occurred_at DESC, correction_id DESC
    ) = 1
),
positions AS (
    SELECT
        task_id,
        prediction_id,
        verdict,
        truth,
        any_value(actor) AS actor,
        any_value(segment) AS segment,
        any_value(authority) AS authority,
        list(author ORDER BY feedback_occurred_at, correction_id) AS authors,
        list(correction_id ORDER BY feedback_occurred_at, correction_id) AS correction_ids,
        min(feedback_occurred_at) AS first_at,
        max(feedback_occurred_at) AS last_at
    FROM latest
    GROUP BY task_id, prediction_id, verdict, truth
)
SELECT
    task_id,
    prediction_id,
    any_value(actor) AS actor,
    any_value(segment) AS segment,
    any_value(authority) AS authority,
    list(
        {'verdict': verdict, 'truth': truth, 'authors': authors, 'correction_ids': correction_ids}
        ORDER BY first_at, correction_ids[1]
    ) AS positions,
    first(correction_ids[-1] ORDER BY last_at DESC, correction_ids[-1] DESC) AS winning_correction_id,
    min(first_at) AS first_at,
    max(last_at) AS last_at
FROM positions
GROUP BY task_id, prediction_id
HAVING count(DISTINCT truth) + max((truth IS NULL)::INTEGER) > 1
