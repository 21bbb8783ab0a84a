"""The console script. It starts without any extra, to say which one is missing."""

from __future__ import annotations

import importlib.util
import sys

_EXTRA_OF = {
    "worker": "worker",
    "sink": "sink",
    "sql": "sink",
    "reconcile": "worker,sink",
    "doctor": "worker,sink",
    "bench": "worker,sink",
    "status": "sink",
    "rates": "sink",
    "dashboard": "dashboard",
    "alerts": "worker,sink",
    "schemas": "registry",
    "up": "local",
    "demo": "demo",
}


def main() -> None:
    """Run the command line; exits 2 with the command to type where typer or rich are not installed."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        wanted = next((_EXTRA_OF[word] for word in sys.argv[1:] if word in _EXTRA_OF), "cli")
        sys.stderr.write(
            f"flyback: the command line needs {' and '.join(missing)}, which come with an extra: "
            f"pip install 'flyback[{wanted}]'\n"
        )
        raise SystemExit(2)
    from flyback.cli.app import app

    app(prog_name="flyback")
