"""Runs one command for as long as the process that started this one lives. Used by `flyback.local.process`.

    python -I -S guard.py GRACE_SECONDS COMMAND [ARGUMENT...]      (stdin: a pipe that nobody writes to)

Why a process of its own: the kernel can signal a child when its parent dies (PR_SET_PDEATHSIG), but what it
means by "parent" is the *thread* that forked, so a broker started from a worker thread would die with that
thread; and the call has to be made between fork and exec, where a program with many threads may run no
Python. Here there is one thread when the command is forked, and the end of the pipe tells of the parent's
death, kill -9 included, on every POSIX system.

It imports the standard library only and must stay quick to start.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

# SIGKILL cannot be caught: SIGUSR1 asks for it. Killing through the guard has the child reaped as well.
FORWARDED = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGINT,
    signal.SIGHUP: signal.SIGHUP,
    signal.SIGUSR1: signal.SIGKILL,
}
PR_SET_PDEATHSIG = 1


def main() -> None:
    grace, command = float(sys.argv[1]), sys.argv[2:]
    before_exec = _ready_to_exec()
    # Held back until there is a child to forward them to; else a SIGTERM in between would orphan it.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=before_exec)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error}")
    for number in FORWARDED:
        signal.signal(number, lambda received, _: child.send_signal(FORWARDED[signal.Signals(received)]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    threading.Thread(target=_end_with_parent, args=(child, grace), daemon=True).start()
    code = child.wait()
    # As a shell does it: 128 + signal; os._exit because the watching thread sits in a read.
    os._exit(code if code >= 0 else 128 - code)


def _ready_to_exec() -> Callable[[], None]:
    """What the forked child does before exec, looked up beforehand: nothing is imported after the fork."""
    prctl = None
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    return before_exec


def _end_with_parent(child: "subprocess.Popen[bytes]", grace: float) -> None:
    while os.read(0, 1024):
        pass
    child.terminate()
    time.sleep(grace)
    child.kill()


if __name__ == "__main__":
    main()
