"""Where a node's function can run, other than on the loop."""

from .processes import ProcessExecutor
from .threads import ThreadExecutor

__all__ = ["ProcessExecutor", "ThreadExecutor"]
