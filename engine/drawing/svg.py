"""A scene as one SVG document, with no scripts, styles, fonts or links from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import assert_never

from .looks import PAPER
from .shapes import Group, Ink, Line, Rect, Scene, Shape, Words

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif"


def svg(scene: Scene) -> str:
    """The document as text. Each node, edge and label is a group with a title that tells it in full."""
    width, height = number(scene.width), number(scene.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{FONT}">',
        f"<title>{escape(scene.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    lines += [_group(group) for group in scene.groups]
    return "\n".join([*lines, "</svg>"]) + "\n"


def number(value: float) -> str:
    """Short, and never `-0`."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def _group(group: Group) -> str:
    inner = "".join(_shape(shape) for shape in group.shapes)
    return f'<g class="{escape(group.kind)}"><title>{escape(group.title)}</title>{inner}</g>'


def _shape(shape: Shape) -> str:
    match shape:
        case Rect():
            corner = f' rx="{number(shape.radius)}"' if shape.radius else ""
            size = f'width="{number(shape.width)}" height="{number(shape.height)}"'
            return f'<rect x="{number(shape.x)}" y="{number(shape.y)}" {size}{corner}{_ink(shape.ink)}/>'
        case Line():
            return f'<path d="{"".join(_path(shape))}"{_ink(shape.ink)}/>'
        case Words():
            anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
            weight = ' font-weight="600"' if shape.bold else ""
            place = f'x="{number(shape.x)}" y="{number(shape.y)}" font-size="{number(shape.size)}"'
            return f'<text {place}{anchor}{weight} fill="{shape.colour}">{escape(shape.text)}</text>'
        case _:
            assert_never(shape)


def _path(line: Line) -> Iterator[str]:
    yield f"M{number(line.start[0])} {number(line.start[1])}"
    for piece in line.pieces:
        yield ("L" if len(piece) == 2 else "C") + " ".join(map(number, piece))
    if line.closed:
        yield "z"


def _ink(ink: Ink) -> str:
    text = f' fill="{ink.fill or "none"}"'
    if ink.stroke:
        text += f' stroke="{ink.stroke}" stroke-width="{number(ink.width)}"'
        if ink.dash:
            text += f' stroke-dasharray="{" ".join(map(number, ink.dash))}"'
    return text
