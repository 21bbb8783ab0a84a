-- One row a task: all of its events in time order, feedback without its prediction (orphans) included. `reviewed`,
-- `failed` and `orphan_feedback` count predictions and feedback; `winners` are those of predictions that are there.
WITH tasks AS (
    SELECT task_id FROM predictions
    UNION
    SELECT task_id FROM corrections
    UNION
    SELECT task_id FROM grades
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
    FROM predictions
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
            ORDER BY occurred_at, correction_id
        ) AS corrections
    FROM corrections
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
            ORDER BY occurred_at, grade_id
        ) AS grades
    FROM grades
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
    FROM reviews
    GROUP BY task_id
),
orphans AS (
    SELECT task_id, count(*) AS orphan_feedback
    FROM (
        SELECT task_id, prediction_id FROM corrections
        UNION ALL
        SELECT task_id, prediction_id FROM grades
    ) AS feedback
    ANTI JOIN predictions USING (task_id, prediction_id)
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
LEFT JOIN orphans USING (task_id)
