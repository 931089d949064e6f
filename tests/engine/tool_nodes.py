"""Tools at the top level of a module, where worker processes find them."""

import os
from typing import Any

from engine import Context, ToolRegistry

registry = ToolRegistry()


@registry.tool
def where(state: dict[str, Any], by: int = 2) -> dict[str, Any]:
    """Tells the process that it ran in."""
    return {"pid": os.getpid(), "x": state["x"] * by}


@registry.tool
def calls(state: dict[str, Any], ctx: Context) -> None:
    """Calls another tool, which cannot be done in a worker process."""
    ctx.tools.call_sync("where", state)
