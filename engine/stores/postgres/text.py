"""Text as PostgreSQL can hold it, which is all but NUL: that is escaped, with a character that hardly anybody uses."""

from __future__ import annotations

import re

_ESCAPE, _NUL_SIGN = "\u241b", "\u2400"
_ESCAPED = re.compile(f"{_ESCAPE}([{_ESCAPE}{_NUL_SIGN}])")

MOST_BYTES = 1200
"""Of text that is indexed. An entry of an index holds 2,700 bytes, and two of these stand in one."""


def held(text: str) -> str:
    """The text, as it is stored."""
    if "\0" not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, 2 * _ESCAPE).replace("\0", _ESCAPE + _NUL_SIGN)


def told(text: str) -> str:
    """The text, of what was stored."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: "\0" if found[1] == _NUL_SIGN else _ESCAPE, text)


def indexed(text: str, what: str) -> str:
    """As `held`; raises `ValueError` for what no index takes."""
    stored = held(text)
    if len(stored) * 4 > MOST_BYTES and (size := len(stored.encode())) > MOST_BYTES:
        raise ValueError(
            f"{what} {text[:40]!r}… takes {size:,} bytes, PostgreSQL's indexes hold at most {MOST_BYTES:,}"
        )
    return stored
