"""How much of a request the service takes, and how long it waits for it. Depth of JSON is texts.py's matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from .rates import Rate
from .refusals import BodyTooLarge, HeadersTooLarge

MEBIBYTE: Final = 1024 * 1024


@attrs.frozen(kw_only=True)
class Limits:
    """What one request, one message, one key and one stranger may ask for."""

    body_bytes: int = 4 * MEBIBYTE
    """Of a request. A definition of 1,000 nodes has 200 KB."""
    file_bytes: int = 1024 * MEBIBYTE
    """Of a file that is uploaded: it goes by piece by piece, so it is the disk that this bounds."""
    message_bytes: int = MEBIBYTE
    """Of a WebSocket."""
    headers: int = 100
    header_bytes: int = 32 * 1024
    body_seconds: float = 30.0
    """How long to wait for each part of a body."""
    key_rate: Rate | None = attrs.field(factory=lambda: Rate(2_000, 4_000))
    """Of each key: as much as one process answers at all, so that nobody meets it but a program that runs wild."""
    anybody_rate: Rate | None = None
    """Of each address where no keys are asked for."""
    stranger_rate: Rate | None = attrs.field(factory=lambda: Rate(2, 30))
    """Of each address, of requests without a good key."""


def check_headers(headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> None:
    """Raise `HeadersTooLarge` for too many, or too much of them."""
    if len(headers) > limits.headers:
        raise HeadersTooLarge(f"the request has {len(headers)} headers, {limits.headers} are taken")
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
    if size > limits.header_bytes:
        raise HeadersTooLarge(f"the headers have {size:,} bytes, {limits.header_bytes:,} are taken")


def check_announced(length: bytes | None, most: int) -> None:
    """Raise `BodyTooLarge` for a body that says itself that it is, before any of it is read."""
    if length is not None and (not length.isdigit() or len(length) > 18 or int(length) > most):
        raise BodyTooLarge(most)
