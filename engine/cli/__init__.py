"""The command line, `workflow-engine` or `python -m engine`: a face of the engine like any other."""

from .entry import main

__all__ = ["main"]
