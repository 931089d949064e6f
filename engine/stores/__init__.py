"""Where runs are kept."""

from .memory import MemoryStore
from .urls import open_store

__all__ = ["MemoryStore", "open_store"]
