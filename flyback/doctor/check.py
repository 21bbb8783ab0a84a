"""What one check came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was `found`, and how to `mend` it (a setting or a command, None where nothing is to be done).

    failed: a worker or sink would refuse to start, stop, or lose or misplace events. warning: it works, until something
    happens. skipped: it could not be looked at; `found` says why.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str | None = None


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warning(name: str, found: str, mend: str) -> Check:
    return Check(name, "warning", found, mend)


def failed(name: str, found: str, mend: str) -> Check:
    return Check(name, "failed", found, mend)


def skipped(name: str, why: str) -> Check:
    return Check(name, "skipped", why)


def worst(name: str, wrong: list[Check], otherwise: str) -> Check:
    """Several of one name as one: the worst verdict, all that was found; `ok` with `otherwise` where nothing is."""
    if not wrong:
        return ok(name, otherwise)
    verdict: Verdict = "failed" if any(check.verdict == "failed" for check in wrong) else "warning"
    found = dict.fromkeys(check.found for check in wrong)
    mends = dict.fromkeys(check.mend for check in wrong if check.mend)
    return Check(name, verdict, "\n".join(found), "\n".join(mends))
