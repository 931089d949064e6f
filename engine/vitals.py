"""Whether an engine is well: what `/health` and `/ready` tell."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Vitals:
    """A snapshot."""

    alive: bool
    """Whether it does anything: it has been entered, has not been left, and its root supervisor has not given up."""
    draining: bool
    """Whether it takes no new runs any more."""
    store: str | None = None
    """The address of the store that is in use, without any secret."""
    fell_back: bool = False
    """Whether that is memory, since the one that was asked for could not be reached."""
    trouble: str | None = None
    """Why the store takes no writes, once that has lasted."""
