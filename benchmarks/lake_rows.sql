-- A generated lake: every row follows from its number `k` alone, so any part of it can be made by itself, and again.
-- Prediction `k` of `getvariable('total')` in one day. Every third one is corrected, every 300th a second time and with
-- more authority; every 100th was sent twice. Texts are those of the table `texts` (i, body), but none is twice there.
--
-- The macros `<table>_of(first, past)` give the rows that come of the predictions from `first` to before `past`: the
-- columns of the record, and besides `k`, `part` (the partition), `arrived`, `copies` (how often the lake
-- has it) and `lasting` (whether a compact table has it: of the counts, only the last of each key).

CREATE MACRO chance(k, what, n) AS (hash(k, what) % n)::BIGINT;

CREATE MACRO moment(k) AS
    TIMESTAMPTZ '2026-11-01 00:00:00+00' + to_microseconds(k * 86_400_000_000 // getvariable('total'));

-- Between one second and ten minutes later.
CREATE MACRO reviewed_at(k, turn) AS moment(k) + to_microseconds(1_000_000 + turn + chance(k, 'delay', 600_000_000));

-- As the SDK makes them: the time first.
CREATE MACRO uuid7(made, k, what) AS format(
    '{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}',
    epoch_ms(made) >> 16, epoch_ms(made) & 65_535, chance(k, what, 4_096), 32_768 + chance(what, k, 16_384),
    chance(k, what || 'node', 281_474_976_710_656)
);

CREATE MACRO task_id(k) AS 'task-' || md5(k::VARCHAR);
CREATE MACRO prediction_id(k) AS uuid7(moment(k), k, 'prediction');
CREATE MACRO correction_id(k, turn) AS uuid7(reviewed_at(k, turn), k, 'correction' || turn);
CREATE MACRO example_id(k, turn) AS md5('example' || k || '/' || turn);
CREATE MACRO part(k) AS chance(k, 'partition', 4)::INTEGER;
CREATE MACRO model(k) AS {'kind': 'MODEL', 'name': 'model-' || chance(k, 'model', 3), 'version': '2026-11'};
CREATE MACRO reviewer(k) AS {'kind': 'HUMAN', 'name': 'reviewer-' || chance(k, 'reviewer', 20), 'version': ''};
CREATE MACRO segment(k) AS 'customer-' || chance(k, 'segment', 10);
CREATE MACRO plain(k, body) AS {'content_type': 'text/plain', 'body': 'case ' || k || ': ' || body};
CREATE MACRO text_of(k, what) AS chance(k, what, getvariable('texts'));

CREATE MACRO verdict(k, turn) AS CASE
    WHEN turn = 1 THEN 'CORRECTED'
    WHEN chance(k, 'verdict', 10) < 5 THEN 'CONFIRMED'
    WHEN chance(k, 'verdict', 10) < 8 THEN 'CORRECTED'
    ELSE 'REJECTED'
END;

CREATE MACRO predictions_of(first, past) AS TABLE
SELECT
    k, part(k) AS part, moment(k) AS arrived, CASE WHEN k % 100 = 0 THEN 2 ELSE 1 END AS copies, true AS lasting,
    prediction_id(k) AS prediction_id,
    task_id(k) AS task_id,
    model(k) AS actor,
    plain(k, asked.body) AS input,
    plain(k, answered.body[:330]) AS output,
    []::STRUCT(content_type VARCHAR, body VARCHAR)[] AS context,
    chance(k, 'confidence', 1_000) / 1_000 AS confidence,
    segment(k) AS segment,
    [{'key': 'language', 'value': 'en'}, {'key': 'tenant', 'value': 't1'}] AS attributes,
    moment(k) AS occurred_at
FROM range(first, past) AS numbers(k)
JOIN texts AS asked ON asked.i = text_of(k, 'input')
JOIN texts AS answered ON answered.i = text_of(k, 'output');

CREATE MACRO corrections_of(first, past) AS TABLE
SELECT
    k, part(k) AS part, reviewed_at(k, turn) AS arrived, 1 AS copies, true AS lasting, turn,
    correction_id(k, turn) AS correction_id,
    task_id(k) AS task_id,
    prediction_id(k) AS prediction_id,
    verdict(k, turn) AS verdict,
    CASE verdict(k, turn) WHEN 'CORRECTED' THEN plain(k, truth.body[:330]) END AS output,
    reviewer(k) AS author,
    turn::INTEGER AS authority,
    NULL::VARCHAR AS reason,
    NULL::VARCHAR AS error_category,
    0.25::DOUBLE AS sampling_probability,
    [{'key': 'tool', 'value': 'web'}] AS attributes,
    reviewed_at(k, turn) AS occurred_at
FROM (
    SELECT k, unnest(range(CASE WHEN k % 300 = 0 THEN 2 WHEN k % 3 = 0 THEN 1 ELSE 0 END)) AS turn
    FROM range(first, past) AS numbers(k)
)
JOIN texts AS truth ON truth.i = text_of(k, 'truth' || turn);

CREATE MACRO examples_of(first, past) AS TABLE
SELECT
    c.k, c.part, c.arrived, 1 AS copies, true AS lasting,
    example_id(c.k, c.turn) AS example_id,
    p.task_id, p.prediction_id, c.correction_id, p.actor, p.input, p.context, p.output, p.confidence, p.segment,
    p.attributes, p.occurred_at, c.verdict,
    CASE c.verdict WHEN 'CONFIRMED' THEN p.output ELSE c.output END AS truth,
    c.authority, c.reason, c.error_category, c.author, c.sampling_probability,
    c.attributes AS feedback_attributes,
    c.occurred_at AS feedback_occurred_at,
    {'topic': 'predictions.v1', 'partition': p.part, 'offset': p.k, 'arrived_at': p.arrived} AS prediction_source,
    {'topic': 'corrections.v1', 'partition': c.part, 'offset': c.k, 'arrived_at': c.arrived} AS feedback_source,
    1 AS derive_version
FROM corrections_of(first, past) AS c
JOIN predictions_of(first, past) AS p ON p.k = c.k;

-- One row for each key that a transaction of 100 ms changed, as the worker writes them. Needs whole minutes.
CREATE MACRO failure_rates_of(first, past) AS TABLE
WITH changes AS (
    SELECT k, moment(k) AS arrived, 1 AS predictions, 0 AS reviewed, 0 AS failures
    FROM range(first, past) AS numbers(k)
    UNION ALL
    SELECT
        k, arrived, 0, (turn = 0)::INTEGER,
        (verdict <> 'CONFIRMED')::INTEGER - (turn = 1 AND verdict(k, 0) <> 'CONFIRMED')::INTEGER
    FROM corrections_of(first, past)
),
counts AS (
    SELECT
        k, arrived, part(k) AS "partition", date_trunc('minute', moment(k)) AS "minute", model(k).name AS actor,
        segment(k) AS segment,
        sum(predictions) OVER change AS predictions,
        sum(reviewed) OVER change AS reviewed,
        sum(failures) OVER change AS failures,
        lead(arrived) OVER change AS next_arrival
    FROM changes
    WINDOW change AS (
        PARTITION BY part(k), date_trunc('minute', moment(k)), model(k).name, segment(k)
        ORDER BY arrived, k, reviewed
    )
)
SELECT
    k, "partition" AS part, arrived, 1 AS copies, next_arrival IS NULL AS lasting,
    "partition", "minute", 'MODEL' AS actor_kind, actor, '2026-11' AS "version", segment,
    predictions, reviewed, failures,
    reviewed AS weighted_reviews,
    4_000_000 * reviewed AS sum_w,
    4_000_000 * failures AS sum_wy,
    16_000_000 * reviewed AS sum_w2,
    16_000_000 * failures AS sum_w2y,
    1 AS derive_version
FROM counts
WHERE next_arrival IS NULL OR epoch_ms(next_arrival) // 100 <> epoch_ms(arrived) // 100;
