"""Python's search for cyclic garbage, kept away from batches."""

from __future__ import annotations

import gc

_THRESHOLDS = 50_000, 20, 50
"""Objects made more than freed before the newest are searched; how many searches before the older ones are, the oldest.

By default it is 700, and a batch has thousands of objects, none of them in a cycle: the search took a tenth of the CPU.
"""


def collect_rarely() -> None:
    """For a process that does nothing but batches: what there is now is left out for good, the rest searched rarely."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
