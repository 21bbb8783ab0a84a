"""An engine as a process of its own, with nothing around it: settings from the environment, SIGTERM stops it."""

from __future__ import annotations

import signal
import sys

from flyback import settings
from flyback.errors import FlybackError
from flyback.schemas.catalog import BundledCatalog
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.topology import Topology


def main() -> int:
    found = settings.load()
    engine = Engine(found, Topology(found), BundledCatalog(), KafkaClients(found))
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    try:
        engine.run()
    except FlybackError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
