"""One service: requests to it, tried again where that is safe; answers as data, refusals as errors.

What is tried again, and for how long, is `patience.py`'s to say. A request that changes something is sent again after
its answer was lost only if doing it twice is doing it once; otherwise only what was never sent, or refused before
anything was done. So nothing is done twice, and what may have been done is said to be uncertain.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from random import Random
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import attrs
import orjson

from ..errors import EngineClosed, EngineError
from ..logs import about
from .faults import ServiceUnreachable, error_of
from .needed import httpx2
from .patience import BUSY, Attempts, Patience, retry_after

logger = logging.getLogger("engine.client")

CONNECTIONS_KEPT: Final = 20
# The servers close a connection that was idle for 5 s; one that is used in just that moment looks like a lost answer.
KEPT_SECONDS: Final = 3.0
MOST_SHOWN: Final = 10_000
UNCERTAIN: Final = "whether it was done is not known"
# After so many failures, which is about a second: a minute without a word looks like a fault of the caller's.
TOLD_AFTER: Final = 4
LOST: Final = "the answer to an earlier attempt was lost: that one may have been carried out"


@attrs.frozen
class Answer:
    """A whole answer."""

    status: int
    data: Any
    """JSON as data, or else text."""


class Transport:
    """The connections to a service, and how they are used."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout: float,
        patience: Patience,
        handler: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.url: Final = _address(url)
        self.patience: Final = patience
        self._timeout: Final = timeout
        self._headers: Final = {"accept": "application/json", "user-agent": "workflow-engine", **_bearer(api_key)}
        self._handler = handler
        self._http: httpx2.AsyncClient | None = None
        self._random = Random()

    async def open(self) -> None:
        """Take requests from now on."""
        if self._http is not None:
            raise RuntimeError("this client is open already")
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            timeout=self._timeout,
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=CONNECTIONS_KEPT, keepalive_expiry=KEPT_SECONDS
            ),
            transport=self._handler,
        )

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            with anyio.CancelScope(shield=True):
                await http.aclose()

    @property
    def http(self) -> httpx2.AsyncClient:
        """What sends; raises `EngineClosed`."""
        if self._http is None:
            raise EngineClosed("the client is closed; use it inside `with`")
        return self._http

    def attempts(self) -> Attempts:
        """Those at one thing, which begin now."""
        return Attempts(self.patience, self._random)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
        waits: float = 0.0,
        takes: tuple[int, ...] = (),
        accept: str = "",
        stream: Callable[[], AsyncIterator[bytes]] | None = None,
        kind: str = "application/json",
    ) -> Answer:
        """Send a request until it is answered; raises what the answer is an error of, `ServiceUnreachable`.

        `repeatable` says that doing it twice is doing it once, as it is of a GET. `waits` is how long the service may
        take on purpose, and `takes` are statuses that are no errors here. `stream` makes a body that is no JSON, of the
        type `kind`, for each attempt.
        """
        again = method == "GET" if repeatable is None else repeatable
        content = None if body is None else orjson.dumps(body)
        headers = {} if content is None and stream is None else {"content-type": kind}
        if accept:
            headers["accept"] = accept
        timeout = httpx2.Timeout(self._timeout, read=self._timeout + waits)
        attempts, lost = self.attempts(), False
        while True:
            try:
                sent = content if stream is None else stream()
                answer = await self.http.request(
                    method, path, params=query or None, content=sent, headers=headers, timeout=timeout
                )
            except httpx2.TransportError as error:
                failure: EngineError = self.unreachable(error, "" if again or _never_sent(error) else UNCERTAIN)
                gap = attempts.gap(monotonic()) if again or _never_sent(error) else None
                lost = lost or (method != "GET" and not _never_sent(error))
                if gap is None:
                    raise failure from error
            else:
                if answer.is_success or answer.status_code in takes:
                    return Answer(answer.status_code, _data(answer))
                failure = refusal(answer)
                gap = self._gap(attempts, answer, again)
                if gap is None:
                    if lost:
                        failure.add_note(LOST)
                    raise failure
            if attempts.failed == TOLD_AFTER:
                logger.warning("%s; trying again for up to %g s", failure, self.patience.total, extra=about())
            await anyio.sleep(gap)

    def _gap(self, attempts: Attempts, answer: httpx2.Response, again: bool) -> float | None:
        """How long to wait after an answer that is no success; None if waiting does not help."""
        asked = retry_after(answer.headers)
        if answer.status_code == 429:  # nothing was done, so anything may be sent again, if the service says when
            return None if asked is None else attempts.gap(monotonic(), asked)
        if answer.status_code in BUSY and again:
            return attempts.gap(monotonic(), asked or 0.0)
        return None

    def unreachable(self, error: Exception, hint: str = "") -> ServiceUnreachable:
        """What to raise of a service that does not answer."""
        reason = " ".join(str(error).split())[:200]
        return ServiceUnreachable(self.url, f"{type(error).__name__}{': ' if reason else ''}{reason}", hint)


def refusal(answer: httpx2.Response) -> EngineError:
    """The error that a whole answer is."""
    return error_of(answer.status_code, _data(answer), answer.text[:MOST_SHOWN])


def _data(answer: httpx2.Response) -> Any:
    if "json" not in answer.headers.get("content-type", ""):
        return answer.text
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return answer.text


def _never_sent(error: httpx2.TransportError) -> bool:
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address of a service is http://host:port or https://host" + _found(url))
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address of a service holds no name or password; give the key as api_key")
    if parts.query or parts.fragment:
        raise ValueError("the address of a service ends with its path")
    return url.rstrip("/")


def _found(url: str) -> str:
    return "" if "@" in url else f", found {url[:200]!r}"


def _bearer(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("the API key holds what no key has: spaces, line ends, or letters beyond ASCII")
    return {"authorization": f"Bearer {api_key}"}
