"""A picture as a scene: laid out, with its title, and what the colours mean if they tell a run's progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .arrows import colour_of, edge_of, label_lines, label_of, label_size
from .boxes import item_of, mark_of, node_of
from .layout import Item, Link, lay_out
from .lettering import cut, width_of
from .looks import FAINT, HEADER, LABEL, LOOKS, MARGIN, PADDING, PAPER, TEXT, TITLE, WITHIN, told
from .picture import Arrow, Box, Picture
from .shapes import Group, Scene, Shape, Words
from .ways import Layout


def scene_of(picture: Picture) -> Scene:
    """The picture laid out, with its title, and what the colours mean if they tell a run's progress."""
    drawn = _Drawn(picture)
    title = cut(picture.title, TITLE, max(drawn.width, 320.0))
    groups = [
        Group("title", told(picture.title), (Words(MARGIN, MARGIN + 12, title, TITLE, TEXT, "start", bold=True),))
    ]
    top = MARGIN + 30
    width = max(drawn.width, width_of(title, TITLE) * 1.05)
    if picture.progress:
        legend, reach = _legend(picture, MARGIN, MARGIN + 30)
        groups.append(legend)
        top, width = top + 26, max(width, reach - MARGIN)
    groups += drawn.groups(MARGIN + max(0.0, (width - drawn.width) / 2), top)
    return Scene(picture.title, width + 2 * MARGIN, top + drawn.height + MARGIN, tuple(groups))


class _Drawn:
    """A picture in its layout, and those within its boxes in theirs."""

    def __init__(self, picture: Picture, *, within: bool = False) -> None:
        self.picture = picture
        self.within = within
        self.inside = {box.name: _Drawn(box.inside, within=True) for box in picture.boxes if box.inside is not None}
        self.called = {box.name: box.label for box in picture.boxes}
        number = {box.name: index for index, box in enumerate(picture.boxes)}
        self.ways = Counter((arrow.source, "out") for arrow in picture.arrows)
        self.ways.update((arrow.target, "in") for arrow in picture.arrows)
        self.labels = [label_lines(arrow) for arrow in picture.arrows]
        links = [
            Link(number[arrow.source], number[arrow.target], label_size(lines), arrow.loops)
            for arrow, lines in zip(picture.arrows, self.labels, strict=True)
        ]
        self.layout: Layout = lay_out([self._item(box) for box in picture.boxes], links)
        self.width, self.height = self.layout.width, self.layout.height

    def _item(self, box: Box) -> Item:
        inner = self.inside.get(box.name)
        size = None if inner is None else (inner.width, inner.height)
        ways = max(self.ways[box.name, "out"], self.ways[box.name, "in"])
        return item_of(box, ways, size, progress=self.picture.progress, within=self.within)

    def groups(self, x: float, y: float) -> Iterator[Group]:
        """Edges first, those that lead back above the others, then labels, then boxes with what is inside."""
        paper = WITHIN if self.within else PAPER
        arrows = list(zip(self.picture.arrows, self.labels, self.layout.routes, strict=True))
        for arrow, _, route in sorted(arrows, key=lambda found: found[2].back):
            yield edge_of(self._titled(arrow), arrow, route.moved(x, y))
        for arrow, lines, route in arrows:
            if route.label is not None:
                colour = colour_of(arrow, back=route.back)
                yield label_of(self._titled(arrow), lines, colour, route.label.moved(x, y), paper)
        for box, place in zip(self.picture.boxes, self.layout.places, strict=True):
            at = place.moved(x, y)
            yield node_of(box, at, progress=self.picture.progress, nested=box.name in self.inside, within=self.within)
            if (inner := self.inside.get(box.name)) is not None:
                left = at.x - inner.width / 2
                yield from inner.groups(left, at.y - at.height / 2 + HEADER + PADDING)

    def _titled(self, arrow: Arrow) -> str:
        said = f"{self.called[arrow.source]} → {self.called[arrow.target]}"
        return told(f"{said}: {arrow.label}" if arrow.label else said)


def _legend(picture: Picture, x: float, y: float) -> tuple[Group, float]:
    """Each status that there is, its mark, and of how many nodes; and where the line ends."""
    counts = Counter(box.status for box in picture.boxes if box.shape != "end")
    shapes: list[Shape] = []
    for status, look in LOOKS.items():
        if counts[status]:
            shapes += mark_of(status, x + 5, y - 4)
            said = f"{counts[status]} {look.said}"
            shapes.append(Words(x + 15, y, said, LABEL, FAINT, "start"))
            x += width_of(said, LABEL) + 33
    return Group("legend", "how far the run is", tuple(shapes)), x
