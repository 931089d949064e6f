"""Which formats there are, and what is too large for them."""

from __future__ import annotations

from typing import Any, Literal, overload

from ..written import Written
from .mermaid import mermaid
from .picture import Picture, picture_of
from .png import png
from .rails import text
from .scene import scene_of
from .svg import svg

TextFormat = Literal["mermaid", "svg", "text"]
Format = Literal["mermaid", "svg", "text", "png"]

# Laying these out takes about ten seconds; more is no picture, and nothing can show it.
MOST_NODES, MOST_EDGES = 20_000, 60_000


@overload
def draw(written: Written, format: TextFormat = "mermaid", run: Any = None) -> str: ...
@overload
def draw(written: Written, format: Literal["png"], run: Any = None) -> bytes: ...
@overload
def draw(written: Written, format: Format, run: Any = None) -> str | bytes: ...
def draw(written: Written, format: Format = "mermaid", run: Any = None) -> str | bytes:
    """The drawing, as text, or as bytes for PNG.

    Raises `ValueError` for a format that there is not, and for a graph that is too large to be laid out;
    `ImportError` for PNG without the extra `draw`.
    """
    match format:
        case "mermaid":
            return mermaid(picture_of(written, run))
        case "text":
            return text(picture_of(written, run))
        case "svg" | "png":
            picture = picture_of(written, run)
            _refuse_too_large(picture, format)
            scene = scene_of(picture)
            return svg(scene) if format == "svg" else png(scene)
    raise ValueError(f"there is no drawing format {format!r}; use 'mermaid', 'svg', 'text' or 'png'")


def _refuse_too_large(picture: Picture, format: str) -> None:
    nodes, edges = len(picture.boxes), len(picture.arrows)
    if nodes > MOST_NODES or edges > MOST_EDGES:
        raise ValueError(
            f"graph {picture.title!r} is too large for a drawing as {format!r}: {nodes:,} nodes and {edges:,} edges, "
            f"and at most {MOST_NODES:,} and {MOST_EDGES:,} can be laid out; draw it as 'text' or 'mermaid', "
            f"or draw a part of it"
        )
