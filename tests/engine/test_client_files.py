"""Files by the client: uploaded, downloaded through lost connections, given to runs and taken from them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine import File, FileDamaged, FileMismatch, FileMissing, Graph
from engine.client import AsyncClient, Patience, ServiceUnreachable
from engine.errors import EngineError
from tests.engine.test_client import URL, talking
from tests.engine.web.served import Transport, served

DATA = bytes(range(256)) * 4000


async def upper(table: File, state: Any) -> Any:
    return File.from_bytes((await table.text()).upper(), "upper.csv", metadata={"from": table.name})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def graph() -> Graph:
    return Graph("g").add_node("upper", upper, accepts="text/csv", produces="text/csv").set_entry_point("upper")


async def test_a_file_goes_to_the_service_and_back(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(DATA)
    async with talking() as (client, _):
        for given in (tmp_path / "x.bin", str(tmp_path / "x.bin"), DATA, File.from_bytes(DATA, "x.bin")):
            file = await client.upload(given, "x.bin")
            assert (file.name, file.size, file.digest) == ("x.bin", len(DATA), sha256(DATA).hexdigest())
        assert await client.download(file) == DATA
        where = await client.download(file.digest, tmp_path / "back")
        assert where.read_bytes() == DATA
        assert names(tmp_path) == ["back", "x.bin"]


async def test_a_run_is_given_files_and_gives_some() -> None:
    async with talking() as (client, there):
        there.engine.register(graph())
        table = File.from_bytes("a,b\n", "t.csv")
        result = await client.run("g", files={"table": table})
        (made,) = result.files
        assert (made.name, dict(made.metadata)) == ("upper.csv", {"from": "t.csv"})
        assert await client.download(made) == b"A,B\n"
        run = await client.submit("g", files={"table": [await client.upload(table)]})
        await run.wait()
        assert run.files == result.files


async def test_what_the_service_refuses_is_raised_as_the_engine_would() -> None:
    async with talking() as (client, there):
        there.engine.register(graph())
        there.engine.register(Graph("plain").add_node("n", lambda s: None).set_entry_point("n"))
        with pytest.raises(FileMissing, match="0000"):
            await client.download("0" * 64)
        with pytest.raises(ValueError, match="is no digest"):
            await client.download("../x")
        with pytest.raises(FileMismatch, match="takes files"):
            await client.run("plain", files={"x": b"x"})
        gone = File(name="t.csv", media_type="text/csv", digest="0" * 64, size=1)
        with pytest.raises(EngineError, match="there are no contents with the digest"):
            await client.run("g", files={"table": gone})
        with pytest.raises(TypeError, match="a file is a File, a path or bytes"):
            await client.upload(5)  # type: ignore[arg-type]


class Flaky(httpx2.AsyncBaseTransport):
    """Breaks connections off in the middle, so often."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, times: int, *, ranges: bool = True, lies: bool = False
    ) -> None:
        self.inner, self.times, self.ranges, self.lies = inner, times, ranges, lies
        self.asked: list[str | None] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "GET":
            return await self.inner.handle_async_request(request)
        self.asked.append(request.headers.get("range"))
        if not self.ranges:
            request.headers.pop("range", None)
        response = await self.inner.handle_async_request(request)
        data = await response.aread()
        breaks, self.times = self.times > 0, self.times - 1
        if self.lies:
            data = data[:-1] + b"?"

        async def body() -> AsyncIterator[bytes]:
            yield data[: len(data) // 2]
            if breaks:
                raise httpx2.ReadError("cut")
            yield data[len(data) // 2 :]

        return httpx2.Response(response.status_code, content=body())


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_download_goes_on_where_it_was_cut_off(ranges: bool, tmp_path: Path) -> None:
    async with served() as there:
        flaky = Flaky(Transport(there.app), 3, ranges=ranges)
        async with AsyncClient(URL, transport=flaky, patience=Patience(first_gap=0.001)) as client:
            file = await client.upload(DATA)
            where = await client.download(file, tmp_path / "x")

    assert where.read_bytes() == DATA
    assert len(flaky.asked) == 4
    assert flaky.asked[1] == f"bytes={len(DATA) // 2}-"


async def test_one_that_never_comes_or_comes_wrong_leaves_nothing(tmp_path: Path) -> None:
    async with served() as there:
        inner = Transport(there.app)
        for flaky, error in ((Flaky(inner, 10**6), ServiceUnreachable), (Flaky(inner, 0, lies=True), FileDamaged)):
            async with AsyncClient(URL, transport=flaky, patience=Patience(total=0.05, first_gap=0.01)) as client:
                file = await client.upload(DATA)
                with pytest.raises(error):
                    await client.download(file, tmp_path / "x")
    assert names(tmp_path) == []
