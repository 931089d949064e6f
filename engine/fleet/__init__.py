"""Engines that share a store, as one of them sees the others."""

from .fleet import Fleet

__all__ = ["Fleet"]
