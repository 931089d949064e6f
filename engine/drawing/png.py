"""A scene as PNG, painted by Pillow (extra `draw`) with the font that this package ships.

So a picture is the same on every machine, with no font installed and no browser at hand. Everything is painted
several times as large as it is wanted and then reduced, which makes all edges smooth alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, assert_never

from .lettering import width_of
from .looks import PAPER
from .shapes import Ink, Line, Rect, Scene, Words
from .ways import Piece, Point

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

SCALE = 2  # Pixels for each unit: sharp on today's screens.
FINER = 2  # How much larger it is painted than it is wanted, each way.
MOST_PIXELS = 60_000_000  # Painted at once: 180 MB. What is larger gets fewer pixels for each unit.
LONGEST = 30_000  # Pixels along one side: more than most viewers show.
LEAST_SCALE = 0.2  # Below this not even the shape of a graph is seen.


def png(scene: Scene) -> bytes:
    """The picture as bytes. Raises `ImportError` without Pillow, `ValueError` for what no picture can hold."""
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError("PNG drawings need Pillow: pip install 'workflow-engine[draw]'") from error
    scale, finer = _scale(scene)
    size = round(scene.width * scale), round(scene.height * scale)
    canvas = Image.new("RGB", (size[0] * finer, size[1] * finer), PAPER)
    painter = _Painter(ImageDraw.Draw(canvas), scale * finer)
    for group in scene.groups:
        for shape in group.shapes:
            painter.paint(shape)
    if finer > 1:
        canvas = canvas.resize(size, Image.Resampling.BOX)
    found = BytesIO()
    canvas.save(found, "png")
    return found.getvalue()


def _scale(scene: Scene) -> tuple[float, int]:
    """Pixels for each unit, and how much larger it is painted."""
    area, longest = scene.width * scene.height, max(scene.width, scene.height)
    scale = min(SCALE, LONGEST / longest, (MOST_PIXELS / area) ** 0.5)
    if scale < LEAST_SCALE:
        raise ValueError(
            f"graph {scene.title!r} is too large for a PNG: {scene.width:.0f} x {scene.height:.0f}; draw it as 'svg'"
        )
    return scale, FINER if area * (scale * FINER) ** 2 <= MOST_PIXELS else 1


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    data = (files(__package__ or "") / "fonts" / "workflow-sans.otf").read_bytes()
    return ImageFont.truetype(BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)


class _Painter:
    def __init__(self, canvas: ImageDraw.ImageDraw, scale: float) -> None:
        self.canvas = canvas
        self.scale = scale

    def paint(self, shape: Rect | Line | Words) -> None:
        match shape:
            case Rect():
                self._rect(shape)
            case Line():
                self._line(shape)
            case Words():
                self._words(shape)
            case _:
                assert_never(shape)

    def _rect(self, rect: Rect) -> None:
        half = rect.ink.width / 2 if rect.ink.stroke else 0.0
        box = [
            (rect.x - half) * self.scale,
            (rect.y - half) * self.scale,
            (rect.x + rect.width + half) * self.scale,
            (rect.y + rect.height + half) * self.scale,
        ]
        dashed = bool(rect.ink.dash and rect.ink.stroke)
        self.canvas.rounded_rectangle(
            box,
            radius=(min(rect.radius, rect.height / 2, rect.width / 2) + half) * self.scale,
            fill=rect.ink.fill,
            outline=None if dashed else rect.ink.stroke,
            width=self._width(rect.ink) if rect.ink.stroke else 0,
        )
        if dashed:
            self._stroke(_outline(rect), rect.ink)

    def _width(self, ink: Ink) -> int:
        return max(1, round(ink.width * self.scale))

    def _line(self, line: Line) -> None:
        points = list(_flat(line.start, line.pieces, self.scale))
        if line.closed:
            points.append(points[0])
            if line.ink.fill:
                self.canvas.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=line.ink.fill)
        if line.ink.stroke:
            self._stroke(points, line.ink)

    def _stroke(self, points: Sequence[Point], ink: Ink) -> None:
        for part in _dashes(points, ink.dash) if ink.dash else [points]:
            scaled = [(x * self.scale, y * self.scale) for x, y in part]
            self.canvas.line(scaled, fill=ink.stroke, width=self._width(ink), joint="curve")

    def _words(self, words: Words) -> None:
        size = words.size * self.scale
        if size < 2:
            return
        weight = round(size * 0.035) if words.bold else 0
        x = words.x * self.scale
        if words.anchor != "start":
            width = width_of(words.text, size)
            x -= width / 2 if words.anchor == "middle" else width
        self.canvas.text(
            (x, words.y * self.scale), words.text, words.colour, _font(size), anchor="ls", stroke_width=weight
        )


def _outline(rect: Rect) -> list[Point]:
    """The border of a box as one closed way round, from its upper left."""
    x, y, right, base = rect.x, rect.y, rect.x + rect.width, rect.y + rect.height
    r = min(rect.radius, rect.height / 2, rect.width / 2)
    bend = r * 0.4477  # What is left of a corner for the control point of a quarter circle.
    pieces: tuple[Piece, ...] = (
        (right - r, y),
        (right - bend, y, right, y + bend, right, y + r),
        (right, base - r),
        (right, base - bend, right - bend, base, right - r, base),
        (x + r, base),
        (x + bend, base, x, base - bend, x, base - r),
        (x, y + r),
        (x, y + bend, x + bend, y, x + r, y),
    )
    return list(_flat((x + r, y), pieces, 2.0))


def _flat(start: Point, pieces: Sequence[Piece], scale: float) -> Iterator[Point]:
    """Lines and curves as points close enough together to look round."""
    yield start
    x, y = start
    for piece in pieces:
        end = piece[-2], piece[-1]
        if len(piece) == 6:
            x1, y1, x2, y2 = piece[:4]
            steps = max(4, min(40, round((abs(end[0] - x) + abs(end[1] - y)) * scale / 12)))
            for step in range(1, steps):
                t = step / steps
                u = 1 - t
                a, b, c, d = u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t
                yield a * x + b * x1 + c * x2 + d * end[0], a * y + b * y1 + c * y2 + d * end[1]
        yield end
        x, y = end


def _dashes(points: Sequence[Point], dash: Sequence[float]) -> Iterator[list[Point]]:
    """The parts of a way that are drawn, with gaps of the given lengths between."""
    on, index, left = True, 0, dash[0]
    part = [points[0]]
    for (x1, y1), (x2, y2) in pairwise(points):
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        done = 0.0
        while length - done > left:
            done += left
            at = x1 + (x2 - x1) * done / length, y1 + (y2 - y1) * done / length
            if on:
                yield [*part, at]
            on, index = not on, (index + 1) % len(dash)
            left, part = dash[index], [at]
        left -= length - done
        part.append((x2, y2))
    if on and len(part) > 1:
        yield part
