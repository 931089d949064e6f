"""What the address of a Redis server says, and how it may be shown."""

from __future__ import annotations

import ssl
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

DEFAULT_PREFIX = "workflow-engine"
_PORT = 6379


@attrs.frozen
class Address:
    """Of a database of a server, and the prefix of the keys in it."""

    host: str
    port: int
    options: dict[str, Any] = attrs.field(repr=False)
    """For a connection. Among these is the password, so this is never shown."""
    prefix: str
    shown: str
    """As it may be shown."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read it; raises `ValueError`, which shows nothing of it, since where it is broken its password may be."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            host, port, database = parts.hostname or "localhost", parts.port or _PORT, int(parts.path.strip("/") or 0)
            prefix = query.pop("prefix", DEFAULT_PREFIX)
            if query or not prefix or parts.scheme not in ("redis", "rediss"):
                raise ValueError
        except ValueError:
            raise ValueError(
                "the address of a Redis server cannot be read (it is not shown, for it may hold a password); write "
                "redis://user:password@host:6379/0?prefix=name, rediss:// for TLS, with what is special in a "
                "password as %XX"
            ) from None
        options: dict[str, Any] = {"db": database}
        if parts.username:
            options["username"] = unquote(parts.username)
        if parts.password:
            options["password"] = unquote(parts.password)
        if parts.scheme == "rediss":
            options["ssl_context"] = ssl.create_default_context()  # which checks the certificate; coredis' own does not
        suffix = f"?prefix={prefix}" if prefix != DEFAULT_PREFIX else ""
        where = f"[{host}]" if ":" in host else host
        return cls(host, port, options, prefix, f"{parts.scheme}://{where}:{port}/{database}{suffix}")
