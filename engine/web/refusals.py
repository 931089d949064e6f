"""What is answered instead of what was asked for, as RFC 9457 problem documents, before the application sees anything.

A problem says what the caller can act on. It never says what is in the server: no path, no traceback, no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar, Final

import orjson

from ..errors import EngineError

MEDIA_TYPE: Final = "application/problem+json"

Headers = list[tuple[bytes, bytes]]


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    """The document: `code` is what programs tell problems apart by, `detail` what people read."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }


def internal_error(request: str) -> tuple[int, Headers, bytes]:
    """The answer to a request that met a fault of ours: its id, by which the log tells the rest."""
    body = orjson.dumps(
        problem(500, "internal_error", f"the service has a fault; its log has more on request {request}")
    )
    return 500, [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())], body


class Refused(EngineError):
    """A request that is not taken; its class says why, and it answers itself."""

    status: ClassVar[int]
    code: ClassVar[str]
    close_code: ClassVar[int] = 1008
    """For a WebSocket."""

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> tuple[int, Headers, bytes]:
        """Status, headers and body."""
        body = orjson.dumps(problem(self.status, self.code, self.detail))
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **self.headers}
        return self.status, [(name.encode(), value.encode("latin-1")) for name, value in headers.items()], body


class Unauthenticated(Refused):
    """No key, or none that is known."""

    status, code = 401, "unauthenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"www-authenticate": 'Bearer realm="workflow-engine"'})


class Forbidden(Refused):
    """A key that may not do this."""

    status, code = 403, "forbidden"

    def __init__(self, name: str, needed: str, scopes: Sequence[str]) -> None:
        super().__init__(f"key {name!r} has the scopes {', '.join(scopes) or 'none'}, this needs {needed!r}")
        self.needed = needed


class ForeignOrigin(Refused):
    """A page of another site, in somebody's browser."""

    status, code = 403, "foreign_origin"


class WrongHost(Refused):
    """A name that the service does not go by."""

    status, code = 421, "wrong_host"


class TooManyRequests(Refused):
    """Faster than this key, or this address, may ask."""

    status, code, close_code = 429, "rate_limited", 1013

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail, headers={"retry-after": str(max(1, ceil(retry_after)))})
        self.retry_after = retry_after


class BodyTooLarge(Refused):
    """More than the service takes in one request or message."""

    status, code, close_code = 413, "body_too_large", 1009

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit:,} bytes", headers={"connection": "close"})


class TwoLengths(Refused):
    """A body that says twice how long it is: a proxy may have believed the other one, and where the next begins."""

    status, code = 400, "two_lengths"

    def __init__(self) -> None:
        super().__init__(
            "the request has Content-Length and Transfer-Encoding: send one of them", headers={"connection": "close"}
        )


class HeadersTooLarge(Refused):
    """More, or longer, headers than the service takes."""

    status, code = 431, "headers_too_large"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"connection": "close"})


class TooSlow(Refused):
    """A body that does not arrive."""

    status, code = 408, "too_slow"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} s", headers={"connection": "close"})
