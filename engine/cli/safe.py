"""Text from outside as it may go to a terminal: names, errors and notes of definitions say what they like.

What moves the cursor, rings, colours, or turns the direction of writing is shown as JSON writes it (`\\u001b`), so it
can be seen and does nothing; inside a JSON text it still means the same.
"""

from __future__ import annotations

import re
from typing import Final

# Controls (C0, DEL, C1), marks of direction, the line ends that only Unicode has, and halves of characters.
_BUT_NEWLINES: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NEWLINES: Final = re.compile(r"[\t\n]")
_SHORT: Final = {"\t": r"\t", "\n": r"\n"}


def safe_text(text: str) -> str:
    """Text of any number of lines: nothing in it does anything but end lines."""
    return _BUT_NEWLINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def safe_line(text: str) -> str:
    """Text that stays on one line, however many it has."""
    return _NEWLINES.sub(lambda found: _SHORT[found[0]], safe_text(text))
