"""Log lines that can be searched: what is about a run says which, in fields of the record besides its text.

Every line of the engine has the fields `run`, `graph` and `node`, None where there is no such thing, so that one
format fits all. It says little: one line for the end of a run (INFO; WARNING if it failed), none for an activation.
What happens in between is in the run's log and events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

asker: Final[ContextVar[tuple[str, str] | None]] = ContextVar("workflow_engine_asker", default=None)
"""The request that led to what happens now, and who sent it; a run that it submitted has it, too."""


def about(run: str | None = None, graph: str | None = None, node: str | None = None, **more: Any) -> dict[str, Any]:
    """The `extra` of a log line."""
    return {"run": run, "graph": graph, "node": node, **more}


@contextmanager
def handled(logger: logging.Logger, handler: logging.Handler, level: str) -> Iterator[None]:
    """Have a logger's lines from this level on go to a handler, too, and have it as before when this is left."""
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class NodeLogger(logging.LoggerAdapter[logging.Logger]):
    """What a node gets as `ctx.logger`: adds the fields to its own `extra` instead of replacing that."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Called for each line."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}
