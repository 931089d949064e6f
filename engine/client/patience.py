"""How often and after which gaps something is tried again; pure: who tries is told how long to wait, or to give up."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

import attrs

BUSY: Final = (429, 502, 503, 504)
"""Answers that say "not now": the service's own, and those of a proxy before it while it starts anew."""


@attrs.frozen(kw_only=True)
class Patience:
    """For how long to try again what did not succeed, in seconds, and how the gaps between attempts grow."""

    total: float = 60.0
    """Counted from the first failure since something went well; 0 for one attempt only."""
    first_gap: float = 0.1
    longest_gap: float = 5.0

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.total < float("inf") or not 0 < self.first_gap <= self.longest_gap:
            raise ValueError(f"{self} cannot be: total is 0 or more, and first_gap more than 0, at most longest_gap")


class Attempts:
    """The attempts at one thing."""

    def __init__(self, patience: Patience, random: Random) -> None:
        self._patience = patience
        self._random = random
        self._since: float | None = None
        self._failed = 0

    @property
    def failed(self) -> int:
        """How many there were since something went well."""
        return self._failed

    def went_well(self) -> None:
        """Something came through: patience begins anew."""
        self._since, self._failed = None, 0

    def gap(self, now: float, at_least: float = 0.0) -> float | None:
        """How long to wait before the next attempt; None to give up, which is when waiting would outlast patience."""
        since = self._since = now if self._since is None else self._since
        grown = self._patience.first_gap * 2.0 ** min(self._failed, 30)
        self._failed += 1
        # Half of it is chance, so that a thousand clients do not come back in the same instant.
        wait = max(at_least, min(grown, self._patience.longest_gap) * (0.5 + 0.5 * self._random.random()))
        return wait if now + wait - since <= self._patience.total else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait; None if it does not, or names a date, which nobody here sends."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
