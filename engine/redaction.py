"""What must not be seen in a log: passwords in addresses, API keys, and whatever was told to be a secret.

A log line is made of texts that come from anywhere: the message of a driver's error may hold the address that it was
given. So whoever writes lines to be kept passes each through `redacted`, last of all.
"""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "***"

_ADDRESS: Final = re.compile(r"(\b\w[\w+.-]{0,30}://[^\s:/@?#]*):[^\s/]+@")
_KEY: Final = re.compile(r"\b(wfe_[0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NAMED: Final = re.compile(
    r"""(["']?\b(?:[\w-]{0,40}(?:password|passwd|secret|api[_-]?key|(?:access|auth|refresh)[_-]token)|authorization)["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|(?:Bearer\s+|Basic\s+)?[^\s,;&"')\]}]+)""",
    re.IGNORECASE,
)
_SHORTEST: Final = 4
"""Shorter secrets would be found in words."""

_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Have this text never be seen in what `redacted` gives."""
    if len(secret) >= _SHORTEST:
        _secrets.add(secret)


def redacted(text: str) -> str:
    """The text without what must not be seen."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _ADDRESS.sub(rf"\1:{HIDDEN}@", text)
    if "wfe_" in text:
        text = _KEY.sub(rf"\1_{HIDDEN}", text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)


class Secret:
    """A value of a setting that is shown nowhere: neither by `repr`, nor by a log that says it all the same."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        hide(value)

    def reveal(self) -> str:
        """The value, for whoever needs it."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
