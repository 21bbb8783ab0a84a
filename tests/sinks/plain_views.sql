-- The views in their plainest form, in the schema `plain`: what each one means, whatever it costs. Those in `sinks/views/`
-- are quicker and give the same rows.

CREATE VIEW plain.predictions AS
SELECT *
FROM raw.predictions
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id ORDER BY _offset) = 1;

CREATE VIEW plain.corrections AS
SELECT *
FROM raw.corrections
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1;

CREATE VIEW plain.grades AS
SELECT *
FROM raw.grades
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, grade_id ORDER BY _offset) = 1;

CREATE VIEW plain.examples AS
SELECT *
FROM raw.examples
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, correction_id ORDER BY _offset) = 1;

CREATE VIEW plain.graded_examples AS
SELECT *
FROM raw.graded_examples
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, grade_id ORDER BY _offset) = 1;

CREATE VIEW plain.coaching AS
SELECT *
FROM raw.coaching
QUALIFY row_number() OVER (PARTITION BY task_id, prediction_id, feedback_kind, feedback_id ORDER BY _offset) = 1;

CREATE VIEW plain.failure_rates AS
SELECT * EXCLUDE (_topic, _partition, _offset, _arrived_at, _ingested_at)
FROM raw.failure_rates
QUALIFY row_number() OVER (
    PARTITION BY "partition", "minute", actor_kind, actor, "version", segment
    ORDER BY _offset DESC
) = 1;

CREATE VIEW plain.reviews AS
WITH winning AS (
    SELECT
        task_id,
        prediction_id,
        first(
            {
                'correction_id': correction_id,
                'verdict': verdict,
                'failed': verdict <> 'CONFIRMED',
                'probability': sampling_probability,
                'at': occurred_at
            }
            ORDER BY authority DESC, occurred_at DESC, correction_id DESC
        ) AS correction
    FROM plain.corrections
    GROUP BY task_id, prediction_id
),
deciding AS (
    SELECT
        task_id,
        prediction_id,
        first(
            {'grade_id': grade_id, 'failed': NOT passed, 'probability': sampling_probability, 'at': occurred_at}
            ORDER BY grade_id DESC
        ) AS grade
    FROM plain.grades
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
    CASE WHEN correction.correction_id IS NOT NULL THEN correction.at ELSE grade.at END AS decided_at,
    answer._partition
FROM plain.predictions AS answer
LEFT JOIN winning USING (task_id, prediction_id)
LEFT JOIN deciding USING (task_id, prediction_id);

CREATE VIEW plain.failure_rates_exact AS
WITH counted AS (
    SELECT
        _partition AS "partition",
        date_trunc('minute', occurred_at) AS "minute",
        actor.kind AS actor_kind,
        actor.name AS actor,
        actor.version AS "version",
        segment,
        reviewed,
        failed,
        round_even(1e6 / sampling_probability, 0)::HUGEINT AS w,
        round_even(1e6 / (sampling_probability * sampling_probability), 0)::HUGEINT AS w2
    FROM plain.reviews
)
SELECT
    "partition",
    "minute",
    actor_kind,
    actor,
    "version",
    segment,
    count(*)::BIGINT AS predictions,
    count(*) FILTER (reviewed)::BIGINT AS reviewed,
    count(*) FILTER (failed)::BIGINT AS failures,
    count(w)::BIGINT AS weighted_reviews,
    coalesce(sum(w), 0)::BIGINT AS sum_w,
    coalesce(sum(w) FILTER (failed), 0)::BIGINT AS sum_wy,
    coalesce(sum(w2), 0)::BIGINT AS sum_w2,
    coalesce(sum(w2) FILTER (failed), 0)::BIGINT AS sum_w2y,
    1::INTEGER AS derive_version
FROM counted
GROUP BY "partition", "minute", actor_kind, actor, "version", segment;

CREATE VIEW plain.disputes AS
WITH feedback AS (
    SELECT
        task_id, prediction_id, actor, segment, correction_id, verdict, truth, author, authority, feedback_occurred_at
    FROM plain.examples
    UNION ALL
    SELECT
        task_id, prediction_id, actor, segment, feedback_id, verdict, truth, author, authority, feedback_occurred_at
    FROM plain.coaching
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
HAVING count(DISTINCT truth) + max((truth IS NULL)::INTEGER) > 1;

CREATE VIEW plain.examples_resolved AS
WITH winning AS (
    SELECT *
    FROM plain.examples
    QUALIFY row_number() OVER (
        PARTITION BY task_id, prediction_id
        ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC
    ) = 1
)
SELECT
    example.*,
    (
        SELECT count(*)
        FROM plain.examples AS given
        WHERE given.task_id = example.task_id AND given.prediction_id = example.prediction_id
    ) AS corrections,
    (
        SELECT coalesce(list(correction_id ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC), [])
        FROM plain.examples AS other
        WHERE other.task_id = example.task_id
            AND other.prediction_id = example.prediction_id
            AND other.correction_id <> example.correction_id
    ) AS superseded_ids,
    EXISTS (
        FROM plain.disputes AS dispute
        WHERE dispute.task_id = example.task_id AND dispute.prediction_id = example.prediction_id
    ) AS disputed
FROM winning AS example;

CREATE VIEW plain.episodes AS
WITH tasks AS (
    SELECT task_id FROM plain.predictions
    UNION
    SELECT task_id FROM plain.corrections
    UNION
    SELECT task_id FROM plain.grades
),
answers AS (
    SELECT
        task_id,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at,
        list(
            {
                'prediction_id': prediction_id,
                'actor': actor,
                'input': input,
                'output': output,
                'context': context,
                'confidence': confidence,
                'segment': segment,
                'attributes': attributes,
                'occurred_at': occurred_at
            }
            ORDER BY occurred_at, prediction_id
        ) AS predictions
    FROM plain.predictions
    GROUP BY task_id
),
corrected AS (
    SELECT
        task_id,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at,
        list(
            {
                'correction_id': correction_id,
                'prediction_id': prediction_id,
                'verdict': verdict,
                'output': output,
                'author': author,
                'authority': authority,
                'reason': reason,
                'error_category': error_category,
                'sampling_probability': sampling_probability,
                'attributes': attributes,
                'occurred_at': occurred_at
            }
            ORDER BY occurred_at, correction_id, prediction_id
        ) AS corrections
    FROM plain.corrections
    GROUP BY task_id
),
graded AS (
    SELECT
        task_id,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at,
        list(
            {
                'grade_id': grade_id,
                'prediction_id': prediction_id,
                'rubric': rubric,
                'rubric_version': rubric_version,
                'scores': scores,
                'passed': passed,
                'rationale': rationale,
                'author': author,
                'sampling_probability': sampling_probability,
                'attributes': attributes,
                'occurred_at': occurred_at
            }
            ORDER BY occurred_at, grade_id, prediction_id
        ) AS grades
    FROM plain.grades
    GROUP BY task_id
),
decided AS (
    SELECT
        task_id,
        list(
            {
                'prediction_id': prediction_id,
                'correction_id': winning_correction_id,
                'verdict': verdict
            }
            ORDER BY occurred_at, prediction_id
        ) FILTER (winning_correction_id IS NOT NULL) AS winners,
        count(*) FILTER (reviewed) AS reviewed,
        count(*) FILTER (failed) AS failed
    FROM plain.reviews
    GROUP BY task_id
),
orphans AS (
    SELECT task_id, count(*) AS orphan_feedback
    FROM (
        SELECT task_id, prediction_id FROM plain.corrections
        UNION ALL
        SELECT task_id, prediction_id FROM plain.grades
    ) AS feedback
    ANTI JOIN plain.predictions USING (task_id, prediction_id)
    GROUP BY task_id
)
SELECT
    task_id,
    least(answers.first_at, corrected.first_at, graded.first_at) AS first_at,
    greatest(answers.last_at, corrected.last_at, graded.last_at) AS last_at,
    coalesce(answers.predictions, []) AS predictions,
    coalesce(corrected.corrections, []) AS corrections,
    coalesce(graded.grades, []) AS grades,
    coalesce(decided.winners, []) AS winners,
    coalesce(decided.reviewed, 0) AS reviewed,
    coalesce(decided.failed, 0) AS failed,
    coalesce(orphans.orphan_feedback, 0) AS orphan_feedback
FROM tasks
LEFT JOIN answers USING (task_id)
LEFT JOIN corrected USING (task_id)
LEFT JOIN graded USING (task_id)
LEFT JOIN decided USING (task_id)
LEFT JOIN orphans USING (task_id);
