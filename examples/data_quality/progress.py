"""What a run is doing, on the terminal: a line for each stage that is done, and, on a real terminal, one that moves."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

from engine import Event

ONCE = ("initialise", "report")
"""The stages outside the loop."""
STAGES = 10
"""Those in it, counting each detector."""
BAR = 24


class Progress:
    """Shows the events of one run."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._live and "NO_COLOR" not in os.environ
        self._running: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._round = 0
        self._done = 0

    def show(self, event: Event) -> None:
        """Take notice of an event."""
        node = event.node or ""
        match event.type:
            case "node_started":
                self._running[node] = event.time
                if node == "profile":
                    self._round, self._done = event.activation or 0, 0
            case "node_progress":
                self._said[node] = event.data.get("message", "")
            case "node_succeeded":
                self._done += node not in ONCE
                self._line(node, event.activation or 0, event.time - self._running.pop(node, event.time))
            case "node_retrying":
                self._print(f"  {node} failed and is tried again: {event.data.get('error')}")
            case "run_submitted" | "run_started" | "edge_taken" | "run_succeeded":
                pass
            case other:
                self._print(f"  {other} {node} {event.data.get('error', '')}".rstrip())
        self.tick()

    def tick(self) -> None:
        """Draw the moving line anew."""
        if self._live:
            self._out.write("\r\x1b[K" + (self._moving() if self._running else ""))
            self._out.flush()

    def close(self) -> None:
        """Take the moving line away."""
        self._running.clear()
        self.tick()

    def _moving(self) -> str:
        filled = round(BAR * self._done / STAGES)
        names = ", ".join(self._running)
        seconds = time.time() - min(self._running.values())
        width = shutil.get_terminal_size((100, 24)).columns
        return f"{_when(self._round)} {'█' * filled}{'░' * (BAR - filled)} {seconds:4.1f} s  {names}"[: width - 1]

    def _line(self, node: str, activation: int, seconds: float) -> None:
        when = "" if node in ONCE else _when(activation)
        said = self._said.pop(node, "")
        text = f"{when:8}  {node:<20}  {said:<58} {seconds:6.2f} s"
        self._print(f"\x1b[1m{text}\x1b[0m" if self._colours and node in ("evaluate", *ONCE) else text)

    def _print(self, text: str) -> None:
        self._out.write(("\r\x1b[K" if self._live else "") + text + "\n")
        self._out.flush()


def _when(round: int) -> str:
    return f"round {round}" if round else ""
