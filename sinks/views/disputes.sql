-- Predictions, of models and of people, on whose truth the reviewers of the highest authority do not agree. Of each
-- author the latest correction counts. A REJECTED one, which gives no truth, is a position of its own.
-- Only what has more than one row can be disputed: the ids of those are looked for first.
WITH contested AS (
    SELECT task_id, prediction_id
    FROM (SELECT task_id, prediction_id FROM raw.examples UNION ALL SELECT task_id, prediction_id FROM raw.coaching WHERE feedback_kind = 'CORRECTION')
    GROUP BY task_id, prediction_id
    HAVING count(*) > 1
),
feedback AS (
    SELECT
        task_id, prediction_id, actor, segment, correction_id, verdict, truth, author, authority, feedback_occurred_at
    FROM raw.examples
    JOIN contested USING (task_id, prediction_id)
    QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1
    UNION ALL
    SELECT
        task_id, prediction_id, actor, segment, feedback_id, verdict, truth, author, authority, feedback_occurred_at
    FROM raw.coaching
    JOIN contested USING (task_id, prediction_id)
    WHERE feedback_kind = 'CORRECTION'
    QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, feedback_id ORDER BY _offset) = 1
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
HAVING min(truth) <> max(truth) OR count(truth) NOT IN (0, count(*))
