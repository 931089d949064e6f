"""When to try again: policies and the one decision made from them. No clock, no randomness of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from .faults import Fault, errors_fault, positive_fault

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]


Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _sound(fault_of: Callable[[Any], Fault]) -> Validator:
    """Refuses a value where it is given: at the first failure, when it would be used, nobody looks."""

    def check(policy: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if fault := fault_of(value):
            raise ValueError(f"{type(policy).__name__}({attribute.name}={value!r}): {fault}")

    return check


_not_negative = _sound(partial(positive_fault, zero=True))


@attrs.frozen
class Retry:
    """Try a failed activation again, up to `attempts` in all, waiting longer each time.

    The n-th wait is `delay * factor ** (n - 1)`, at most `max_delay` seconds, shifted
    at random by up to the share `jitter` of it, either way.
    """

    attempts: int = attrs.field(default=3, validator=_sound(partial(positive_fault, whole=True)))
    delay: float = attrs.field(default=0.1, validator=_not_negative)
    factor: float = attrs.field(default=2.0, validator=_sound(positive_fault))
    max_delay: float = attrs.field(default=30.0, validator=_not_negative)
    jitter: float = attrs.field(default=0.1, validator=_not_negative)
    on: ErrorTypes = attrs.field(default=Exception, validator=_sound(errors_fault))

    def wait_seconds(self, attempts_so_far: int, random: float) -> float:
        """How long to wait after this many attempts; `random` is drawn from [0, 1)."""
        try:
            wait = min(self.delay * self.factor ** (attempts_so_far - 1), self.max_delay)
        except OverflowError:
            wait = self.max_delay
        return max(0.0, wait * (1.0 + self.jitter * (2.0 * random - 1.0)))


def matches(error: BaseException, types: ErrorTypes) -> bool:
    """Is the error one of these types? A cancellation a node raised by itself counts as an `Exception`."""
    if isinstance(error, types):
        return True
    if isinstance(error, Exception):
        return False
    return any(kind in (Exception, BaseException) for kind in (types if isinstance(types, tuple) else (types,)))


def names(error: BaseException, types: ErrorTypes) -> bool:
    """Is the error one of these types, and not merely as any `Exception` is?

    What was lost on its way may have been done: it is not done twice unless somebody says that it may be.
    """
    kinds = types if isinstance(types, tuple) else (types,)
    return any(getattr(kind, "named_only", False) and isinstance(error, kind) for kind in kinds)


def retry_delay(policies: Sequence[Retry], error: BaseException, attempts_so_far: int, random: float) -> float | None:
    """Seconds to wait before the next attempt, or None if there shall be none.

    Of several policies the first that matches the error counts, with all attempts
    so far, whichever errors ended those.
    """
    for policy in policies:
        if matches(error, policy.on) and (not getattr(error, "named_only", False) or names(error, policy.on)):
            if attempts_so_far >= policy.attempts:
                return None
            return policy.wait_seconds(attempts_so_far, random)
    return None
