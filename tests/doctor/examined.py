"""An examination as the tests look at it."""

from __future__ import annotations

from flyback import doctor
from flyback.doctor.check import Check
from flyback.settings import Settings


def examined(settings: Settings) -> dict[str, Check]:
    """All checks by name, each of them fit to be shown."""
    found = list(doctor.examine(settings))
    names = [check.name for check in found]
    assert len(set(names)) == len(names), "a name is a check"
    assert all(check.found for check in found)
    assert all(check.mend for check in found if check.verdict in ("warning", "failed")), "what is wrong can be mended"
    return {check.name: check for check in found}
