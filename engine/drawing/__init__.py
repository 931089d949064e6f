"""A graph drawn as Mermaid, as text, as SVG or as PNG, with a run's progress on it."""

from .formats import draw

__all__ = ["draw"]
