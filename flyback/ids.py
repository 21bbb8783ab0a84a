"""Ids of events: UUIDv7 (RFC 9562), so that they sort by the time at which they were made."""

from __future__ import annotations

import uuid_utils


def new_id() -> str:
    """A new UUIDv7 as text: larger than every earlier one of this process, whichever thread made it; safe to fork."""
    return str(uuid_utils.uuid7())
