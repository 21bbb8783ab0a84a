"""Runs one command and writes down what the kernel counted for it. Used by `benchmarks.contest`.

    python -I -S meter.py FIGURES.json COMMAND [ARGUMENT...]      (stdin: a pipe that nobody writes to)

A small process of its own, since Linux takes for a child's peak memory at least what its parent held when it forked.
The CPU seconds are those of the command and of all its descendants that were waited for. When whoever started this
dies, the whole process group ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def main() -> int:
    """Gives the command's exit code, 128 + N after signal N."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    began = time.perf_counter()
    child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    kilobytes = used.ru_maxrss / 1024 if sys.platform == "darwin" else used.ru_maxrss
    figures = {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "rss_mb": kilobytes * 1024 / 1e6,
    }
    Path(sys.argv[1]).write_text(json.dumps(figures), encoding="utf-8")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    os._exit(main())  # the watching thread sits in a read
