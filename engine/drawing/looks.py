"""Colours, lines and sizes.

Nothing is told by colour alone. A node's progress has a mark and a kind of border besides, an edge that leads back
enters at the side, conditions are dashed, errors dotted. The colours are told apart with any kind of colour
blindness, and all text stands out from what is under it by 4.5 to 1 or more.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .lettering import MOST_TOLD
from .picture import Style
from .progress import Status

NAME, NOTE, LABEL, SMALL, TITLE = 13.0, 10.5, 11.0, 11.0, 15.0  # Sizes of letters.
MARGIN, PADDING, LINE = 20.0, 14.0, 14.0
LOW, HIGH, PILL = 34.0, 46.0, 28.0  # A box with its name, one with a note as well, and START.
WIDEST_NAME, WIDEST_NOTE = 230.0, 230.0
ONE_LINE, WIDEST_LABEL = 120.0, 190.0  # A label longer than the first is broken in two.
DOT = 14.0  # Where a graph within a node begins.
MARK = 18.0  # The room for a mark of progress.
EACH_WAY, WIDEST_WAYS = 7.0, 320.0  # A box has room for its edges, within reason.
HEADER = 26.0  # Above a graph within a node.
HEAD, HALF_HEAD = 8.0, 3.6  # An arrow's.
TEXT, FAINT, LINES = "#1f2937", "#4b5563", "#52606d"
BACK, ERROR = "#6b3fa0", "#b3261e"
PAPER, WITHIN = "#ffffff", "#f8fafc"


@attrs.frozen
class Look:
    """How a node is drawn in one status."""

    fill: str
    stroke: str
    text: str = TEXT
    width: float = 1.4
    dash: tuple[float, ...] = ()
    said: str = ""


PLAIN = Look("#ffffff", LINES)
LOOKS: Mapping[Status, Look] = {
    "done": Look("#dcf1e7", "#12715b", said="done"),
    "running": Look("#dbeafe", "#0b5cad", width=2.6, said="running"),
    "waiting": Look("#fff3d1", "#8a6100", width=1.8, dash=(7, 3), said="waiting"),
    "failed": Look("#fde0dc", "#b3261e", width=2.6, said="failed"),
    "cancelled": Look("#ececf1", "#5b5b6b", width=1.8, dash=(2, 3), said="cancelled"),
    "unreached": Look("#ffffff", "#8b95a1", text="#5b6672", dash=(3, 3), said="not reached"),
}
DASHES: Mapping[Style, tuple[float, ...]] = {"always": (), "maybe": (6, 4), "choice": (6, 4), "error": (2, 3)}


def told(text: str) -> str:
    """As much of it as a tooltip is good for."""
    return text if len(text) <= MOST_TOLD else text[:MOST_TOLD] + "…"
