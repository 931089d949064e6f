"""How a child is made, run and restarted: data, checked when it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final, Literal, get_args

import attrs

from .capacity import Overflow, checked_capacity, checked_overflow

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "dynamic"]

# OTP's usual budget, but for each child: a shared one stops innocent siblings.
MAX_RESTARTS: Final = 3
PERIOD_SECONDS: Final = 5.0


def seconds(*, zero: bool = True, infinite: bool = True) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make a validator of times."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        what = f"{type(instance).__name__}.{attribute.name}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{what} is a number of seconds, got {value!r}")
        if not (value >= 0 if zero else value > 0) or (value == inf and not infinite):
            least = "at least 0" if zero else "more than 0"
            raise ValueError(f"{what} is {least}{'' if infinite else ' and finite'}, got {value!r}")

    return check


def whole_number(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a count, which may be `inf`."""
    what = f"{type(instance).__name__}.{attribute.name}"
    if value == inf:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number or inf, got {value!r}")
    if value < 0:
        raise ValueError(f"{what} is at least 0, got {value!r}")


def _word(options: Any) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in get_args(options):
            what = f"{type(instance).__name__}.{attribute.name}"
            raise ValueError(f"unknown {what} {value!r}: it is one of {', '.join(get_args(options))}")

    return check


def checked_strategy(strategy: Strategy) -> Strategy:
    """Return a strategy that exists, or name those that do."""
    if strategy not in get_args(Strategy):
        raise ValueError(f"unknown strategy {strategy!r}: it is one of {', '.join(get_args(Strategy))}")
    return strategy


@attrs.frozen
class Backoff:
    """Wait `min * 2**n` seconds before the n-th restart in a row, at most `max`, plus up to `jitter` of it.

    A crash-free stretch of `(min + max) / 2` seconds starts the row anew.
    """

    min: float = attrs.field(validator=seconds(zero=False, infinite=False))
    max: float = attrs.field(validator=seconds(zero=False, infinite=False))
    jitter: float = attrs.field(default=0.1, validator=seconds(infinite=False))

    def __attrs_post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"Backoff.max is at least min, got {self.max!r} < {self.min!r}")


def _checked_name(instance: ChildSpec, attribute: attrs.Attribute[str], value: Any) -> None:
    if not isinstance(value, str) or not value or "/" in value:
        raise ValueError(f"a child's name is a text without '/', got {value!r}")


def _checked_factory(instance: ChildSpec, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not callable(value):
        raise TypeError(f"child {instance.name!r}: the factory is called for each incarnation, got {value!r}")


def _as_tuple(args: Any) -> Any:
    # A text would become its letters. What is no tuple after this is refused by name, which a converter cannot do.
    return tuple(args) if isinstance(args, Iterable) and not isinstance(args, str | bytes) else args


def _checked_args(instance: ChildSpec, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple):
        raise TypeError(
            f"child {instance.name!r}: ChildSpec.args are the factory's arguments, got {value!r}: "
            f"write args=({value!r},) for one"
        )


def _of_type(kind: type, what: str) -> Callable[[ChildSpec, attrs.Attribute[Any], Any], None]:
    def check(instance: ChildSpec, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"child {instance.name!r}: ChildSpec.{attribute.name} is {what}, got {value!r}")

    return check


@attrs.frozen
class ChildSpec:
    """How a supervisor makes, runs and restarts one child.

    `factory(*args)` makes a new `Actor` (or `Supervisor`) for each incarnation. `restart`: `permanent` always,
    `transient` after a crash, `temporary` never. `shutdown`: the seconds it gets to end when asked, 0 to cancel
    it at once, `inf` to wait for ever. `significant`: its own end shuts its supervisor down. More than
    `max_restarts` crashes within `period` seconds escalate. `redeliver`: how often a message whose handling
    crashed is tried again. `stop_timeout` bounds `on_stop`; `grace` is the time after a cancellation before the
    child is reported as unkillable.
    """

    name: str = attrs.field(validator=_checked_name)
    factory: Callable[..., Any] = attrs.field(validator=_checked_factory)
    args: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple, validator=_checked_args)
    restart: Restart = attrs.field(default="permanent", kw_only=True, validator=_word(Restart))
    shutdown: float = attrs.field(default=5.0, kw_only=True, validator=seconds())
    significant: bool = attrs.field(default=False, kw_only=True, validator=_of_type(bool, "True or False"))
    max_restarts: float = attrs.field(default=MAX_RESTARTS, kw_only=True, validator=whole_number)
    period: float = attrs.field(default=PERIOD_SECONDS, kw_only=True, validator=seconds(zero=False))
    backoff: Backoff | None = attrs.field(
        default=None,
        kw_only=True,
        validator=attrs.validators.optional(_of_type(Backoff, "a Backoff(min, max) or None")),
    )
    start_timeout: float = attrs.field(default=5.0, kw_only=True, validator=seconds(zero=False))
    stop_timeout: float = attrs.field(default=3.0, kw_only=True, validator=seconds(zero=False))
    grace: float = attrs.field(default=5.0, kw_only=True, validator=seconds(zero=False))
    capacity: int = attrs.field(default=64, kw_only=True, validator=lambda _i, _a, value: checked_capacity(value))
    overflow: Overflow = attrs.field(
        default="block", kw_only=True, validator=lambda _i, _a, value: checked_overflow(value)
    )
    redeliver: int = attrs.field(default=0, kw_only=True, validator=whole_number)

    def __attrs_post_init__(self) -> None:
        if self.significant and self.restart == "permanent":
            raise ValueError(
                f"child {self.name!r}: a permanent child never ends for good, so it cannot be significant; "
                "make it transient or temporary"
            )


def checked_specs(children: Iterable[ChildSpec]) -> list[ChildSpec]:
    """Return the specs of a supervisor's children, if specs they are."""
    if isinstance(children, ChildSpec):
        raise TypeError(f"a supervisor's children are a list of ChildSpecs, got {children!r}")
    specs: list[Any] = list(children)
    for spec in specs:
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"a supervisor's children are ChildSpecs, got {spec!r}: write ChildSpec(name, {spec!r})")
    return specs
