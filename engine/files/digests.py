"""Digests of contents, as names."""

from __future__ import annotations

from typing import Any

from ..errors import FileDamaged
from ..file import DIGEST
from ..typecheck import shown


def checked(digest: Any) -> str:
    """The digest, if it is one: it becomes part of a path."""
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(f"{shown(digest)} is no digest: 64 hexadecimal digits (SHA-256), in small letters")
    return digest


def agreed(found: str, expected: str, where: str) -> str:
    """The digest that was found, if it is the expected one, or none was expected."""
    if expected and found != expected:
        raise FileDamaged(expected, found, where)
    return found
