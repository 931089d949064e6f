"""What an operator may set for a whole engine, with the reasons for the defaults."""

from __future__ import annotations

from typing import Any

import attrs


def _count(instance: Settings, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"Settings({attribute.name}={value!r}): must be a whole number of at least 1")


@attrs.frozen(kw_only=True)
class Settings:
    """Limits of one engine that are no business of a graph's author."""

    threads: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count))
    """Sync nodes that run at once; by default 4 more than there are processors, at most 32."""
    processes: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count))
    """Worker processes for `run_in="process"`; by default one per processor."""
    keep_runs: int = attrs.field(default=10_000, validator=_count)
    """Ended runs that `get` and `runs` still find; a handle that you hold stays good."""
    max_depth: int = attrs.field(default=50, validator=_count)
    """How deep runs may be submitted by nodes of runs: deeper is taken for a mistake."""
    close_seconds: float = 10.0
    """How long leaving the engine by an exception waits for cancelled runs to clean up."""
    prune: bool = True
    """Whether a long run's records are dropped from the store, all but the newest `Graph(history=…)`, once a snapshot
    has what they come to. Otherwise the store keeps its whole history, and a fork may start at any activation."""
    recover: bool = True
    """Whether the unfinished runs of a graph go on as soon as it is known. Otherwise only one that is asked for, by
    `get` or `runs`, does: for who wants to drive a single run of a store, as the command line does."""
