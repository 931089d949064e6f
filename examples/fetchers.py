"""A supervised pool of fetchers that survives crashes: `python -m examples.fetchers [asyncio|trio]`.

Only `actors` is used. A small web site runs on this machine; now and then it cuts a connection in the middle, and
one of its pages is always broken. No fetcher handles any of that: it crashes, is started anew with a back-off, and
the page it had in hand is handed to it again. A page that crashes it three times is poison: it becomes a dead
letter, the collector hears of it, and the rest goes on. The mailboxes are short, so whoever hands out the pages is
slowed down to the speed of the pool.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream

from actors import Actor, ActorRef, Backoff, ChildSpec, DeadLetter, NullObserver, Supervisor, supervise

PAGES = 60
FETCHERS = 4
BROKEN_PAGE = 13


@attrs.frozen
class Fetch:
    """Please fetch this page."""

    page: int


@attrs.frozen
class Fetched:
    """A page has been fetched."""

    page: int
    length: int
    attempt: int


@attrs.frozen
class GivenUp:
    """A page crashed its fetcher as often as we allow."""

    page: int


class Fetcher(Actor[Fetch]):
    """Fetches one page at a time. What goes wrong is its supervisor's business."""

    accepts = Fetch

    def __init__(self, port: int, collector: ActorRef[Fetched]) -> None:
        self.port = port
        self.collector = collector

    async def receive(self, message: Fetch) -> None:
        body = await self.get(message.page)
        await self.collector.tell(Fetched(message.page, len(body), self.context.attempt))

    async def get(self, page: int) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(f"GET /{page} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join([chunk async for chunk in stream])
        head, end_of_head, body = answer.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"content-length: ")[2]) if end_of_head else -1
        if len(body) != length:
            raise ConnectionError(f"page {page} was cut after {len(answer)} bytes")
        return body


class Collector(Actor[Fetched | GivenUp]):
    """Knows what has become of each page; stops by itself once it knows of all."""

    accepts = Fetched | GivenUp

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.fetched: list[Fetched] = []
        self.given_up: list[int] = []

    async def receive(self, message: Fetched | GivenUp) -> None:
        if isinstance(message, Fetched):
            self.fetched.append(message)
            print(f"page {message.page:2}: {message.length:4} bytes" + " (again)" * (message.attempt - 1))
        else:
            self.given_up.append(message.page)
            print(f"page {message.page:2}: given up")
        if len(self.fetched) + len(self.given_up) == self.expected:
            again = sum(fetched.attempt > 1 for fetched in self.fetched)
            print(f"{len(self.fetched)} pages fetched, {again} of them only after a crash; given up: {self.given_up}")
            self.context.stop()


class Watchman(NullObserver):
    """Tells the collector of the pages that nobody will fetch, and counts the crashes."""

    def __init__(self) -> None:
        self.crashes = 0
        self.collector: ActorRef[GivenUp] | None = None

    def crashed(self, ref: ActorRef[Fetch], incarnation: int, cause: BaseException) -> None:
        self.crashes += 1

    def dead_letter(self, letter: DeadLetter) -> None:
        if isinstance(letter.message, Fetch) and self.collector is not None:
            self.collector.tell_urgent(GivenUp(letter.message.page))


class Site:
    """A web site that cuts the first connection for every fifth page, and every one for the broken page."""

    def __init__(self) -> None:
        self.requests = 0
        self.cut: set[int] = set()

    async def answer(self, stream: SocketStream) -> None:
        async with stream:
            page = int((await stream.receive()).split()[1][1:])
            self.requests += 1
            body = f"<h1>Page {page}</h1>".encode() * (page + 1)
            whole = b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            if page == BROKEN_PAGE or (page % 5 == 0 and page not in self.cut):
                self.cut.add(page)
                whole = whole[: len(whole) // 2]
            await stream.send(whole)


def tree(port: int, watchman: Watchman) -> supervise:
    """One collector, and a pool that fetchers are spawned into."""
    fetcher = ChildSpec(
        "fetcher", Fetcher, capacity=2, redeliver=2, max_restarts=50, backoff=Backoff(min=0.001, max=0.05)
    )
    children: Iterable[ChildSpec] = [
        ChildSpec("collector", Collector, (PAGES,), restart="temporary"),
        Supervisor.spec("pool", [fetcher], strategy="dynamic"),
    ]
    return supervise(children, observer=watchman)


async def main() -> None:
    """Serve the site, fetch its pages, tell what became of them."""
    site, watchman = Site(), Watchman()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, site.answer)
        port = listener.extra(SocketAttribute.local_port)
        async with tree(port, watchman) as root:
            collector = watchman.collector = root.child("collector")
            pool = root.supervisor("pool")
            fetchers = [await pool.spawn(port, collector) for _ in range(FETCHERS)]
            for page in range(PAGES):
                await fetchers[page % FETCHERS].tell(Fetch(page))
            await collector.wait_stopped()
        group.cancel_scope.cancel()
    print(f"{watchman.crashes} crashes survived, {site.requests} requests served")


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # each crash is logged with its traceback: watch it with WARNING
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
