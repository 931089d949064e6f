"""What drawings are made of, for whatever writes or paints them."""

from __future__ import annotations

import attrs

from .ways import Piece, Point


@attrs.frozen
class Ink:
    """How a shape is filled and outlined."""

    fill: str | None = None
    stroke: str | None = None
    width: float = 1.4
    dash: tuple[float, ...] = ()


@attrs.frozen
class Rect:
    """A box, by its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    ink: Ink


@attrs.frozen
class Line:
    """Lines and curves, one after the other."""

    start: Point
    pieces: tuple[Piece, ...]
    ink: Ink
    closed: bool = False


@attrs.frozen
class Words:
    """One line of text on its baseline."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str = "middle"
    bold: bool = False


Shape = Rect | Line | Words


@attrs.frozen
class Group:
    """Shapes that are one thing to a reader. `title` tells in full what may be shown shortened."""

    kind: str
    title: str
    shapes: tuple[Shape, ...]


@attrs.frozen
class Scene:
    """Everything to be drawn, from back to front."""

    title: str
    width: float
    height: float
    groups: tuple[Group, ...]
