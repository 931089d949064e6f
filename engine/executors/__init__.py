"""Where a node's function can run, other than on the loop."""

from .cluster import RayExecutor
from .places import BaseExecutor
from .processes import ProcessExecutor
from .threads import ThreadExecutor
from .work import Capabilities, Health, Work

__all__ = ["BaseExecutor", "Capabilities", "Health", "ProcessExecutor", "RayExecutor", "ThreadExecutor", "Work"]
