"""A graph drawn as Mermaid, as text or as SVG, with a run's progress on it."""

from .formats import draw

__all__ = ["draw"]
