"""What a command says of its progress where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from flyback.cli.progress import Steps


def test_a_step_is_told_when_it_is_done_and_every_ten_seconds_until_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = [0.0]
    with Steps({"joined": "joined by the stream"}, clock=lambda: times[-1]) as progress:
        for seconds, done in ((1.0, 1), (10.0, 2), (19.0, 3), (21.0, 1_004), (22.0, 2_000), (40.0, 2_000)):
            times.append(seconds)
            progress("joined", done, 2_000)
    assert capsys.readouterr().err.splitlines() == [
        "joined by the stream: 2 of 2,000",
        "joined by the stream: 1,004 of 2,000",
        "joined by the stream: 2,000",
    ]
