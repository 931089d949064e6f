"""A picture as text for terminals and logs: a line per node, with rails at the left that show what leads where.

A rail stands for a node that is still to come; all edges to it run together in it. What the rails show is also said in
words, since they are hard to follow where there are many; where there are too many there are none.

    ● draft → grade, spell
    ├─╮
    ● │ grade → decide
    │ ● spell → decide
    ├─╯
    ● decide
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from .layering import in_order, leading_back
from .picture import START, Arrow, Box, Picture, words
from .progress import Status

MOST_RAILS = 24  # Half a line of a terminal.
_MARKS: Mapping[Status, str] = {
    "done": "✓", "running": "▶", "waiting": "‖", "failed": "✗", "cancelled": "■", "unreached": "·",
}  # fmt: skip
_NODE, _START, _END = "●", "○", "◎"
# By what a corner is joined to: up, down, left, right.
_CORNERS = {
    "ud": "│", "lr": "─", "udr": "├", "udl": "┤", "ulr": "┴", "dlr": "┬", "udlr": "┼",
    "dl": "╮", "dr": "╭", "ul": "╯", "ur": "╰", "u": "│", "d": "│", "l": "─", "r": "─", "": " ",
}  # fmt: skip


def text(picture: Picture) -> str:
    """The whole picture, with every node, every edge and its condition."""
    return "\n".join([picture.title, "", *_drawn(picture)]) + "\n"


def _drawn(picture: Picture) -> list[str]:
    number = {box.name: index for index, box in enumerate(picture.boxes)}
    ends = [(number[arrow.source], number[arrow.target]) for arrow in picture.arrows]
    hints = [index for index, arrow in enumerate(picture.arrows) if arrow.loops and arrow.source != arrow.target]
    back = leading_back(len(picture.boxes), ends, hints, range(len(picture.boxes)))
    back |= {index for index, (source, target) in enumerate(ends) if source == target}
    down = [end for index, end in enumerate(ends) if index not in back]
    outs: list[list[tuple[Arrow, bool]]] = [[] for _ in picture.boxes]
    for index, arrow in enumerate(picture.arrows):
        outs[number[arrow.source]].append((arrow, index in back))
    order = [picture.boxes[node] for node in in_order(len(picture.boxes), down)]
    for rails in (_Rails(), _NoRails()):
        try:
            return [*_lines(picture, order, number, outs, rails)]
        except _TooMany:
            continue
    raise AssertionError("without rails there are never too many")


def _lines(
    picture: Picture,
    order: Sequence[Box],
    number: Mapping[str, int],
    outs: Sequence[Sequence[tuple[Arrow, bool]]],
    rails: _Rails,
) -> Iterator[str]:
    called = {box.name: words(box) if box.shape == "end" else box.label for box in picture.boxes}
    for box in order:
        ways = outs[number[box.name]]
        plain = [arrow for arrow, back in ways if not back and not arrow.label]
        onward = f" → {', '.join(called[arrow.target] for arrow in plain)}" if plain else ""
        yield rails.node(number[box.name], _mark(picture, box)) + _told(box) + onward
        rails.leave(number[box.name], [number[arrow.target] for arrow, back in ways if not back])
        if box.inside is not None:
            yield from (rails.beside() + line for line in _drawn(box.inside))
        for arrow, back in ways:
            if back or arrow.label:
                label = f": {arrow.label}" if arrow.label else ""
                yield rails.beside() + f"{'↺' if back else '→'} {called[arrow.target]}{label}"
        yield from rails.joints()


def _mark(picture: Picture, box: Box) -> str:
    if box.shape == "end":
        return _START if box.name == START else _END
    return _MARKS[box.status] if picture.progress else _NODE


def _told(box: Box) -> str:
    notes = f"waits {box.note}" if box.shape == "wait" else box.note
    if box.inside is not None:
        count = sum(inner.shape != "end" for inner in box.inside.boxes)
        inner = f"graph of {count} node{'s' if count > 1 else ''}"
        notes = f"{inner}, {notes}" if notes else inner
    return words(box) + (f" ({notes})" if notes else "")


class _TooMany(Exception):
    """More rails than a line has room for."""


@attrs.define(eq=False)
class _Rails:
    """Which node each rail leads to; None is a free one."""

    ahead: list[int | None] = attrs.field(factory=list)
    _at: int = 0
    _before: list[bool] = attrs.field(factory=list)
    _opened: list[int] = attrs.field(factory=list)
    _joined: list[int] = attrs.field(factory=list)

    def node(self, node: int, mark: str) -> str:
        """What stands before the name of a node: its own rail ends here."""
        if node not in self.ahead:
            self.ahead[self._free() : self._free() + 1] = [node]
        self._at = self.ahead.index(node)
        cells = ["│" if ahead is not None else " " for ahead in self.ahead]
        cells[self._at] = mark
        return " ".join(cells).rstrip() + " "

    def _free(self, least: int = 0) -> int:
        found = next((at for at in range(least, len(self.ahead)) if self.ahead[at] is None), len(self.ahead))
        if found >= MOST_RAILS:
            raise _TooMany
        return found

    def leave(self, node: int, targets: Sequence[int]) -> None:
        """Go on to these: on the node's own rail, on new ones, or on those that lead there already."""
        self._opened, self._joined = [], []
        self.ahead[self._at] = None
        self._before = [ahead is not None for ahead in self.ahead]
        for target in dict.fromkeys(targets):
            if target in self.ahead:
                found = self.ahead.index(target)
                if found != self._at and found not in self._opened:
                    self._joined.append(found)
                continue
            at = self._at if self.ahead[self._at] is None else self._free(self._at)
            self.ahead[at : at + 1] = [target]
            if at != self._at:
                self._opened.append(at)
        # What goes to the same rail to the left and to the right of a free one of its own needs none.
        while self.ahead and self.ahead[-1] is None:
            self.ahead.pop()

    def beside(self) -> str:
        """What stands before an edge that is told under its node."""
        cells = ["│" if before or at == self._at else " " for at, before in enumerate(self._before)]
        if not self._opened and not self._joined and (self._at >= len(self.ahead) or self.ahead[self._at] is None):
            cells[self._at] = " "
        return " ".join(cells) + "   "

    def joints(self) -> Iterator[str]:
        """The lines in which rails part and meet."""
        rows = [self._opened] if self._opened else []
        rows += [[at] for at in self._joined]
        before = [*self._before, *[False] * (len(self.ahead) - len(self._before))]
        stays = self._at < len(self.ahead) and self.ahead[self._at] is not None
        before[self._at] = True
        for index, row in enumerate(rows):
            last = index == len(rows) - 1
            after = [*before]
            after[self._at] = stays or not last
            for at in row:
                after[at] = True
            yield _joint(before, after, self._at, row)
            before = after


def _joint(before: Sequence[bool], after: Sequence[bool], start: int, ends: Sequence[int]) -> str:
    """One line from a rail to others."""
    first, last = min(start, *ends), max(start, *ends)
    line = []
    for at, (up, down) in enumerate(zip(before, after, strict=True)):
        left, right = first < at <= last, first <= at < last
        line.append(_CORNERS["u" * up + "d" * down + "l" * left + "r" * right])
        line.append("─" if right else " ")
    return "".join(line).rstrip()


class _NoRails(_Rails):
    """For graphs that have too many."""

    def node(self, node: int, mark: str) -> str:
        return f"{mark} "

    def leave(self, node: int, targets: Sequence[int]) -> None:
        pass

    def beside(self) -> str:
        return "      "

    def joints(self) -> Iterator[str]:
        return iter(())
