-- One row a task: all of its events in time order, feedback without its prediction (orphans) included. `reviewed`,
-- `failed` and `orphan_feedback` count predictions and feedback; `winners` are those of predictions that are there.
-- The raw tables are read here, not their views, so that one task takes one look into each.
WITH answers AS (
    SELECT
        task_id,
        prediction_id,
        arg_min(
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
            },
            _offset
        ) AS prediction
    FROM raw.predictions
    GROUP BY task_id, prediction_id
),
corrected AS (
    SELECT
        task_id,
        prediction_id,
        correction_id,
        arg_min(
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
            },
            _offset
        ) AS correction
    FROM raw.corrections
    GROUP BY task_id, prediction_id, correction_id
),
graded AS (
    SELECT
        task_id,
        prediction_id,
        grade_id,
        arg_min(
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
            },
            _offset
        ) AS grade
    FROM raw.grades
    GROUP BY task_id, prediction_id, grade_id
),
events AS (
    SELECT task_id, prediction_id, prediction, prediction.occurred_at FROM answers
    UNION ALL BY NAME
    SELECT task_id, prediction_id, correction, correction.occurred_at FROM corrected
    UNION ALL BY NAME
    SELECT task_id, prediction_id, grade, grade.occurred_at FROM graded
),
reviewed AS (
    SELECT
        task_id,
        any_value(prediction) AS prediction,
        list({'at': occurred_at, 'event': correction}) FILTER (correction IS NOT NULL) AS corrections,
        list({'at': occurred_at, 'event': grade}) FILTER (grade IS NOT NULL) AS grades,
        max(
            {
                'authority': correction.authority,
                'occurred_at': occurred_at,
                'correction_id': correction.correction_id,
                'verdict': correction.verdict
            }
        ) FILTER (correction IS NOT NULL) AS winning,
        max({'grade_id': grade.grade_id, 'passed': grade.passed}) FILTER (grade.passed IS NOT NULL) AS deciding,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at
    FROM events
    GROUP BY task_id, prediction_id
)
SELECT
    task_id,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    coalesce(
        list(prediction ORDER BY prediction.occurred_at, prediction.prediction_id) FILTER (prediction IS NOT NULL), []
    ) AS predictions,
    coalesce([found.event FOR found IN list_sort(flatten(list(corrections)))], []) AS corrections,
    coalesce([found.event FOR found IN list_sort(flatten(list(grades)))], []) AS grades,
    coalesce(
        list(
            {
                'prediction_id': prediction.prediction_id,
                'correction_id': winning.correction_id,
                'verdict': winning.verdict
            }
            ORDER BY prediction.occurred_at, prediction.prediction_id
        ) FILTER (prediction IS NOT NULL AND winning IS NOT NULL),
        []
    ) AS winners,
    count(*) FILTER (prediction IS NOT NULL AND coalesce(winning.correction_id, deciding.grade_id) IS NOT NULL)
        AS reviewed,
    count(*) FILTER (
        prediction IS NOT NULL
        AND CASE WHEN winning IS NOT NULL THEN winning.verdict <> 'CONFIRMED' ELSE NOT deciding.passed END
    ) AS failed,
    coalesce(
        sum(coalesce(len(corrections), 0) + coalesce(len(grades), 0)) FILTER (prediction IS NULL), 0
    )::BIGINT AS orphan_feedback
FROM reviewed
GROUP BY task_id
