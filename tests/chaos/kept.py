"""The rounds of a long run that are done, in a file: a run that was cut short goes on and does not begin again."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import asdict
from pathlib import Path

from tests.chaos.report import Row


class Kept:
    """Rounds in which nothing was found, with the seed of all of them."""

    def __init__(self, file: Path | None, seed: int | None, plan: str = "") -> None:
        """`seed`: None for the file's, or any. Raises ValueError where the file is of another one, or another plan."""
        self._file = file
        self._plan = plan
        self._lock = threading.Lock()
        known = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
        self.seed: int = known.get("seed", random.SystemRandom().randrange(10**6) if seed is None else seed)
        if seed not in (None, self.seed):
            raise ValueError(f"{file} is of seed {self.seed}")
        if known.get("plan", plan) != plan:
            raise ValueError(f"{file} is of {known['plan']}, not of {plan}")
        self.rows = {row["fault"]: Row(**row) for row in known.get("rounds", ())}

    def add(self, row: Row) -> None:
        """From any thread."""
        if self._file is None or row.failed or row.skipped is not None:
            return
        with self._lock:
            self.rows[row.fault] = row
            content = {"seed": self.seed, "plan": self._plan, "rounds": [asdict(each) for each in self.rows.values()]}
            aside = self._file.with_suffix(".new")
            aside.write_text(json.dumps(content), encoding="utf-8")
            aside.replace(self._file)
