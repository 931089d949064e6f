"""A server that comes and goes, and the scripts that it runs.

All that changes anything is a script: a transaction of Redis cannot look before it writes. A script is applied as a
whole, and written to the append-only file as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar, cast
from uuid import uuid4

import anyio
import anyio.lowlevel
import coredis
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import AuthorizationError, NoScriptError, RedisError, ResponseError
from coredis.pool import ConnectionPool
from coredis.retry import ConstantRetryPolicy

from ...errors import StoreUnavailable
from .address import Address
from .faults import unavailable
from .words import Word

T = TypeVar("T")

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""Longer than any script takes; then the connection is taken to be dead."""
DISK_SECONDS = 30.0
"""Longer than any flush takes."""

_LOST = (coredis.exceptions.ConnectionError, TimeoutError)


@cache
def script(name: str) -> tuple[str, str]:
    """The text of a script, and what Redis calls it."""
    folder = files(__package__) / "lua"
    text = (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode()).hexdigest()  # the name that Redis gives it, no secret


class _Connection(TCPConnection):
    """One that closes its buffers if it cannot be made. coredis leaves them open, which is a `ResourceWarning`."""

    async def _connect(self) -> ByteStream:
        try:
            return await super()._connect()
        except BaseException:
            for buffer in vars(self).values():
                if isinstance(buffer, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    buffer.close()
            raise


class Client:
    """Asks a server; between entering and leaving it, in one task, as coredis wants it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stack = AsyncExitStack()
        # By its name others on the same keys see that it is there, for as long as it is connected.
        place = hashlib.sha256(f"{address.options['db']} {address.prefix}".encode()).hexdigest()[:16]
        self._family = f"workflow-engine:{place}:"
        self._name = self._family + uuid4().hex
        # A connection that was lost since it was last used is no reason to fail: whatever is asked may be asked again.
        self._redis = coredis.Redis[bytes](
            connection_pool=ConnectionPool(
                connection_class=_Connection,
                location=TCPLocation(address.host, address.port),
                connect_timeout=CONNECT_SECONDS,
                stream_timeout=ANSWER_SECONDS,
                client_name=self._name,
                **address.options,
            ),
            retry_policy=ConstantRetryPolicy(_LOST, retries=2, delay=0.01),
        )

    async def open(self) -> None:
        """Make ready to ask."""
        await self._stack.enter_async_context(self._redis)

    async def close(self) -> None:
        """Close all connections."""
        await self._stack.aclose()

    async def ask(self, question: Callable[[coredis.Redis[bytes]], Awaitable[T]]) -> T:
        """What the server answers; raises `StoreUnavailable`.

        What has begun is over when this is, even if cancelled: what was sent cannot be taken back, and the place of a
        connection that is given up while it is made is lost for good.
        """
        with anyio.CancelScope(shield=True):
            try:
                answer = await question(self._redis)
            except (RedisError, OSError, TimeoutError) as error:
                raise unavailable(error, self._address.shown) from error
        await anyio.lowlevel.checkpoint_if_cancelled()
        return answer

    async def run(self, name: str, *arguments: Word) -> list[Any]:
        """What a script answers. A server that has forgotten it, since it was started again, is told it anew."""
        source, digest = script(name)
        words: Sequence[Word] = [self._address.prefix, *arguments]

        async def question(redis: coredis.Redis[bytes]) -> Any:
            try:
                return await redis.evalsha(digest, args=words)
            except NoScriptError:
                return await redis.eval(source, args=words)

        # What a script answers is its own matter.
        return cast(list[Any], await self.ask(question))

    async def run_to_disk(self, name: str, *arguments: Word) -> list[Any]:
        """As `run`; and what it wrote, and all before, is on the server's disk. It must write something."""
        # A server waits for what was written over the same connection: so this cannot be asked for afterwards.
        with self._redis.ensure_persistence(local=1, timeout_ms=int(DISK_SECONDS * 1000)):
            return await self.run(name, *arguments)

    async def call(self, command: str, kind: str, name: str | bytes, *arguments: Word) -> Any:
        """What a command on one key answers."""
        return await self.run("call", command, kind, name, *arguments)

    async def others(self) -> list[str] | None:
        """Who else was connected to the same keys, and earlier; None if the server does not tell."""
        try:
            seen = await self.ask(lambda redis: redis.client_list())
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ResponseError | AuthorizationError):
                return None
            raise
        clients = [{text(name): text(str(value)) for name, value in one.items()} for one in seen]
        mine = min(int(one["id"]) for one in clients if one.get("name") == self._name)
        return [
            one.get("addr", "?")
            for one in clients
            if one.get("name", "").startswith(self._family) and one["name"] != self._name and int(one["id"]) < mine
        ]

    async def info(self) -> Mapping[str, str]:
        """What the server says of itself."""
        return {name: str(value) for name, value in (await self.ask(lambda redis: redis.info())).items()}

    async def config(self, names: Sequence[str]) -> Mapping[str, str] | None:
        """Its settings of these names; None if it does not tell."""

        async def question(redis: coredis.Redis[bytes]) -> Mapping[str, str] | None:
            found: dict[str, str] = {}
            for name in names:
                try:
                    said = await redis.config_get([name])
                except (ResponseError, AuthorizationError):
                    return None
                found |= {text(name): text(value) for name, value in said.items()}
            return found

        return await self.ask(question)


def text(said: str | bytes) -> str:
    """Of a name or a value, which come as either."""
    return said.decode() if isinstance(said, bytes) else str(said)
