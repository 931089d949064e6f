"""What the scheduler must know of a node beside its place in the plan (`NodeDecl.options`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .call import PLAIN, Call
from .filetyping import Makes, Takes
from .options import Batch, Breaker, Cache, Rate


@attrs.frozen(kw_only=True)
class NodeSpec:
    """How a node's function is called and what holds for it across runs; `call` is unused without one."""

    call: Call = PLAIN
    is_async: bool = False
    is_map: bool = False
    run_in: str = "loop"
    """`loop`, `thread`, `process` or an executor's name; never `thread` or `process` if it is async."""
    concurrency: int | None = None
    rate: Rate | None = None
    batch: Batch | None = None
    breaker: Breaker | None = None
    cache: Cache | None = None
    effect: bool = False
    resources: Mapping[str, float] = {}
    keep_remote: bool = False
    params: Mapping[str, Any] = {}
    description: str = ""
    tool: str | None = None
    """What the function was found by, as its author wrote it: a tool's name, or `name@version`."""
    accepts: frozenset[str] | None = None
    produces: frozenset[str] | None = None
    takes: tuple[Takes, ...] = ()
    """The parameters that get files, and of which media types."""
    makes: tuple[Makes, ...] = ()
    """The media types of the files that it says it makes."""

    @property
    def map_takes_state(self) -> bool:
        """Whether it is called with an item and the state."""
        return "state" in self.call.positional or "state" in self.call.named.values()

    gives: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    """The types of keys that it says it returns, for checking channels."""

    @property
    def gives_files(self) -> bool:
        """Whether it says that it makes files."""
        return bool(self.makes)
