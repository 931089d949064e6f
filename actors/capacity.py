"""How much a queue holds and what happens when that is too little. Every queue is bounded, by its creator."""

from __future__ import annotations

from typing import Literal, get_args

Overflow = Literal["block", "fail", "drop_newest", "drop_oldest"]


def checked_capacity(capacity: int) -> int:
    """Return a capacity that is a positive integer, or say what is wrong with it."""
    if type(capacity) is not int:
        raise TypeError(f"a capacity is an integer, got {capacity!r}")
    if capacity < 1:
        raise ValueError(f"a capacity is at least 1, got {capacity!r}")
    return capacity


def checked_overflow(overflow: Overflow) -> Overflow:
    """Return an overflow policy that exists, or name those that do."""
    if overflow not in get_args(Overflow):
        raise ValueError(f"unknown overflow policy {overflow!r}: it is one of {', '.join(get_args(Overflow))}")
    return overflow
