"""Whether, when and with whom a child is restarted. Pure: times and jitter come in as arguments."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .lifecycle import StopReason
from .spec import Backoff, ChildSpec, Restart, Strategy, seconds, whole_number


def restarts(restart: Restart, reason: StopReason) -> bool:
    """Tell whether a child that ended by itself comes back: permanent always, transient after a crash.

    One that was killed from inside the tree without an order counts as crashed.
    """
    if restart == "permanent":
        return True
    return restart == "transient" and is_abnormal(reason)


def is_abnormal(reason: StopReason) -> bool:
    """Tell whether an end is no normal one."""
    return reason.kind in ("crashed", "killed")


def affected(strategy: Strategy, names: Sequence[str], failed: str) -> list[str]:
    """Name the children that are restarted when one has failed, in start order."""
    if strategy == "one_for_all":
        return list(names)
    if strategy == "rest_for_one":
        return list(names[names.index(failed) :])
    return [failed]


@attrs.define
class Budget:
    """How many crashes are allowed within a period; one more is too many."""

    max_restarts: float = attrs.field(validator=whole_number)
    period: float = attrs.field(validator=seconds(zero=False))
    _crashes: list[float] = attrs.field(factory=list)

    @classmethod
    def of(cls, spec: ChildSpec) -> Budget:
        """Return the unspent budget of one child."""
        return cls(spec.max_restarts, spec.period)

    def charge(self, now: float) -> bool:
        """Count a crash; tells whether the budget still holds."""
        self._crashes.append(now)
        while now - self._crashes[0] > self.period:
            del self._crashes[0]
        return len(self._crashes) <= self.max_restarts

    @property
    def crashes(self) -> int:
        """The crashes counted within the last period."""
        return len(self._crashes)


@attrs.define
class Delays:
    """How long each restart in a row waits."""

    backoff: Backoff | None
    _in_a_row: int = 0
    _last: float | None = None

    def next(self, now: float, jitter: float) -> float:
        """Return the seconds to wait before a restart due now; `jitter` is a number from 0 to 1."""
        if self.backoff is None:
            return 0.0
        quiet = (self.backoff.min + self.backoff.max) / 2
        if self._last is not None and now - self._last >= quiet:
            self._in_a_row = 0
        # The exponent is capped too: 2.0 ** 1024 does not exist.
        delay: float = min(self.backoff.max, self.backoff.min * 2.0 ** min(self._in_a_row, 64))
        self._in_a_row += 1
        delay += delay * self.backoff.jitter * jitter
        self._last = now + delay  # the child is not running before then, so it is not crash-free before then
        return delay
