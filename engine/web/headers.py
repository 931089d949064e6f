"""Headers that keep browsers from being used against the service, and CORS, which is off unless it is asked for.

A page of another site can make a browser send requests to a service that only this machine can reach: a WebSocket
has no same-origin rule at all, and a POST of plain text needs no leave. So a request that names its origin (browsers
do, programs do not) is refused unless that is the service's own or one that `cors` lists. Pages that have had a name
of theirs point here (DNS rebinding) are told apart by `hosts`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from .refusals import ForeignOrigin, Headers, WrongHost

SECURITY: Final[Mapping[bytes, bytes]] = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
"""Unless the application says otherwise itself, as the page of the docs does. HSTS is for whoever ends TLS to say."""

_METHODS: Final = b"GET, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS: Final = (
    b"authorization, content-digest, content-type, idempotency-key, if-none-match, if-range, last-event-id, range, "
    b"x-api-key, x-deadline-seconds, x-request-id"
)
_ANSWER_HEADERS: Final = b"content-range, etag, link, location, repr-digest, retry-after, x-request-id"
_PREFLIGHT_SECONDS: Final = b"600"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Origins:
    """Which sites a browser may bring requests from."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        for origin in allowed:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path):
                raise ValueError(f"{origin!r} is no origin: write https://site.example, or * for any")
        self._allowed = frozenset(allowed)

    def check(self, origin: bytes | None, host: bytes | None, scheme: str) -> Headers:
        """The headers that let a page of this origin read the answer; raises `ForeignOrigin`."""
        if origin is None:
            return []
        text = origin.decode("latin-1")
        if "*" in self._allowed or text in self._allowed:
            return [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _ANSWER_HEADERS),
                (b"vary", b"origin"),
            ]
        if not _same(text, (host or b"").decode("latin-1"), scheme):
            raise ForeignOrigin(
                f"pages of {text[:200]!r} may not use this service (its operator can list it in --cors)"
            )
        return []


def preflight(headers: Headers) -> Headers:
    """What answers an OPTIONS request that asks what an allowed page may do; with those of `Origins.check`."""
    return [
        *headers,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _REQUEST_HEADERS),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
        (b"content-length", b"0"),
    ]


def secured(headers: Headers, more: Headers) -> Headers:
    """The headers of an answer with those for security that it does not have."""
    there = {name.lower() for name, _ in headers}
    if SECURITY.keys().isdisjoint(there):
        return [*headers, *more, *SECURITY.items()]
    return [*headers, *more, *((name, value) for name, value in SECURITY.items() if name not in there)]


def check_host(host: bytes | None, hosts: Collection[str] | None) -> None:
    """Raise `WrongHost` for a name that is none of these; None allows all."""
    if hosts is None:
        return
    name = urlsplit(f"//{(host or b'').decode('latin-1')}").hostname if _splits(host) else None
    if name not in hosts:
        raise WrongHost("this service does not go by the name in the Host header")


def _splits(host: bytes | None) -> bool:
    try:
        urlsplit(f"//{(host or b'').decode('latin-1')}")
    except ValueError:
        return False
    return True


def _same(origin: str, host: str, scheme: str) -> bool:
    """Whether an origin is the service itself, which a proxy that ends TLS may have been asked by another scheme."""
    try:
        there, here = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        ports = there.port or _DEFAULT_PORTS.get(there.scheme), here.port or _DEFAULT_PORTS.get(there.scheme)
    except ValueError:
        return False
    return there.hostname is not None and there.hostname == here.hostname and ports[0] == ports[1]
