"""A user's program is checked by mypy --strict without a word, and mistakes are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
from collections.abc import Mapping
from datetime import datetime, timezone

from flyback import Actor, BufferFull, Client, Content, FlybackError, InvalidEvent, PredictionRef, chat, human, model


def failed(kind: str, ids: Mapping[str, str], error: FlybackError) -> None:
    print(kind, ids["task_id"], error)


def answer(client: Client, question: str) -> PredictionRef:
    who: Actor = model("vader", "3.3.2")
    said: Content = chat([{"role": "user", "content": question}])
    return client.predict(
        task_id="t-1", actor=who, input=said, output={"label": "positive", "scores": [0.1, 0.9]},
        context=["a passage", {"source": 1}], confidence=0.9, occurred_at=datetime.now(timezone.utc),
    )


def main() -> int:
    with Client(on_error=failed, buffer_events=100) as client:
        try:
            p = answer(client, "well?")
        except (BufferFull, InvalidEvent):
            return 1
        correction: str = client.correct(p, output="negative", author=human("ann"))
        client.grade(p, rubric="tone", rubric_version="2", scores={"polite": (4, 5)}, passed=True, author=human("eve"))
        sent: int = client.stats().sent
        return client.flush(timeout=5.0) + len(correction) + sent
"""

MISTAKES = {
    'client.predict(task_id=5, actor=model("m"), input="x", output="y")': "task_id",
    'client.predict(task_id="t", actor="m", input="x", output="y")': "actor",
    'client.correct(PredictionRef("t", "p"), author=human("ann"))': "output",
    'client.confirm("p", author=human("ann"))': "prediction",
}


def check(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "program.py"
    file.write_text(program, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "--follow-imports=silent",
         "--cache-dir", str(folder / "cache"), str(file)],
        env={"MYPYPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_a_users_program_is_accepted_and_mistakes_are_found(tmp_path: Path) -> None:
    accepted = check(PROGRAM, tmp_path)
    assert (accepted.returncode, accepted.stdout) == (0, ""), accepted.stdout + accepted.stderr

    start = PROGRAM + "\n\ndef wrong(client: Client) -> None:\n"
    refused = check(start + "".join(f"    {line}\n" for line in MISTAKES), tmp_path)
    first = start.count("\n") + 1
    found = [line.split(":")[1] for line in refused.stdout.splitlines() if ": error:" in line]
    assert found == [str(first + i) for i in range(len(MISTAKES))], refused.stdout
