"""How wide text is, and text made to fit.

No font is at hand where an SVG is made, and none is known of where it is shown: the advances below are Inter's, which
is a little wider than Arial and Helvetica. So what fits here fits there.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

# Thousandths of the size of the letters, for the characters from space to tilde.
_ADVANCES = (
    281, 278, 403, 631, 638, 812, 639, 222, 362, 362, 500, 659, 280, 460, 276, 357, 625, 464, 605, 636,
    642, 608, 624, 571, 616, 624, 276, 280, 659, 659, 659, 507, 936, 676, 651, 727, 719, 598, 587, 743,
    740, 264, 543, 652, 562, 889, 753, 761, 635, 761, 639, 638, 642, 741, 676, 949, 642, 665, 625, 362,
    357, 362, 469, 452, 497, 564, 621, 558, 621, 582, 361, 609, 591, 237, 237, 544, 237, 869, 585, 597,
    609, 609, 372, 523, 364, 581, 557, 812, 540, 557, 541, 362, 327, 362, 659,
)  # fmt: skip
_OTHERS, _WIDE = 640, 1000
ELLIPSIS = "…"
MOST_TOLD = 1000  # Of a name in full: a tooltip is no place for a megabyte.


def plain(text: str) -> str:
    """On one line, without characters that cannot be shown or that XML forbids."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MOST_TOLD]).split())


def width_of(text: str, size: float) -> float:
    """How far this text goes in letters of this size."""
    return sum(map(_advance, text)) * size / 1000


def _advance(letter: str) -> int:
    code = ord(letter)
    if 32 <= code < 127:
        return _ADVANCES[code - 32]
    if combining(letter):
        return 0
    return _WIDE if east_asian_width(letter) in "WF" or code > 0xFFFF else _OTHERS


def shortened(text: str, size: float, most: float) -> str:
    """The text, or its beginning and end: names in a graph often differ only there."""
    if width_of(text, size) <= most:
        return text
    room = most - width_of(ELLIPSIS, size)
    head = _fitting(text, size, room * 0.6)
    tail = _fitting(text[::-1], size, room - width_of(text[:head], size))
    return text[:head].rstrip() + ELLIPSIS + text[len(text) - tail :].lstrip()


def cut(text: str, size: float, most: float) -> str:
    """The text, or as much of its beginning as there is room for."""
    if width_of(text, size) <= most:
        return text
    return text[: _fitting(text, size, most - width_of(ELLIPSIS, size))].rstrip() + ELLIPSIS


def _fitting(text: str, size: float, room: float) -> int:
    """How many letters of the beginning fit."""
    used = 0.0
    for count, letter in enumerate(text):
        used += _advance(letter) * size / 1000
        if used > room:
            return count
    return len(text)


def in_two(text: str, size: float, one: float, most: float) -> tuple[str, ...]:
    """The text on one line if it goes no farther than `one`, or else broken where its halves are most alike."""
    if width_of(text, size) <= one:
        return (text,)
    words = text.split(" ")
    breaks = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    halves: tuple[str, ...] = min(breaks, key=lambda two: _worse(two, size), default=(text,))
    return tuple(cut(line, size, most) for line in halves)


def _worse(lines: tuple[str, ...], size: float) -> float:
    """How wide, with a little taken off where a comma ends the first line: there a reader pauses anyway."""
    return max(width_of(line, size) for line in lines) - (2.5 * size if lines[0].endswith(",") else 0.0)
