"""Where runs are kept."""

from .memory import MemoryStore

__all__ = ["MemoryStore"]
