"""Which processes a test has left behind, or may want to kill."""

from __future__ import annotations

from pathlib import Path


def running_in(folder: Path) -> dict[int, str]:
    """Command lines by process id of the processes whose working directory is this folder (Linux)."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == folder.resolve():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has ended meanwhile
            continue
    return {pid: command for pid, command in found.items() if command}  # a zombie has none
