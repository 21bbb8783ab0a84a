"""The lake on S3: a real HTTP endpoint, the real clients."""

from __future__ import annotations

from collections.abc import Iterator

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from flyback import lake
from flyback.errors import LakeError, WorkerFenced
from flyback.sinks.lock import exclusive
from flyback.sinks.maintenance import compact
from flyback.sinks.tables import TABLES, TableWriter, landed
from tests.sinks.events import prediction
from tests.sinks.lakes import SOURCES, rows_of

PREDICTIONS = TABLES[0]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for variable, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="lakes")
    yield "s3://lakes/one"
    server.stop()


def test_a_lake_on_s3_is_written_fenced_compacted_and_queried(bucket: str) -> None:
    source = SOURCES[PREDICTIONS.name]
    (topic,) = source
    first, second = TableWriter(bucket, PREDICTIONS, source), TableWriter(bucket, PREDICTIONS, source)
    first.open()
    for i in range(3):
        before = {(topic, 0): i} if i else {}
        first.commit(rows_of(PREDICTIONS, [prediction(f"t{i}")], offset=i), before, {(topic, 0): i + 1})
    second.open()
    first.commit(rows_of(PREDICTIONS, [prediction("t3")], offset=3), {(topic, 0): 3}, {(topic, 0): 4})
    with pytest.raises(WorkerFenced):
        second.commit(rows_of(PREDICTIONS, [prediction("tx")], offset=3), {(topic, 0): 3}, {(topic, 0): 5})
    with exclusive(bucket, PREDICTIONS), pytest.raises(LakeError, match="another process compacts"):
        compact(bucket, PREDICTIONS)
    assert compact(bucket, PREDICTIONS).merged == 4
    assert landed(bucket) == {(topic, 0): 4}
    with lake(bucket) as connection:
        found = connection.sql("SELECT task_id FROM predictions ORDER BY _offset").fetchall()
    assert found == [("t0",), ("t1",), ("t2",), ("t3",)]
