"""Files over HTTP: contents in and out, with ranges and digests, and as what runs are given and make."""

import base64
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

import pytest

from engine import File, FileDamaged, Graph
from engine.files.local import LocalFiles
from engine.stores.memory import MemoryStore
from engine.web.limits import Limits
from tests.engine.web.served import Served, served

DATA = b"a,b\n" + b"1,2\n" * 100_000
DIGEST = sha256(DATA).hexdigest()
SHA = "sha-256=:" + base64.b64encode(sha256(DATA).digest()).decode() + ":"


async def upper(table: File, state: Any) -> Any:
    return File.from_bytes((await table.text()).upper(), "upper.csv", metadata={"from": table.name}), {"n": 1}


def graph() -> Graph:
    return Graph("g").add_node("upper", upper, accepts="text/csv", produces="text/csv").set_entry_point("upper")


async def upload(service: Served, data: bytes = DATA, name: str = "t.csv", **headers: str) -> Any:
    return await service.http.post(f"/api/files?name={name}", content=data, headers=headers)


async def test_what_is_uploaded_is_told_and_can_be_downloaded() -> None:
    async with served() as service:
        answer = await upload(service)
        told = answer.json()
        assert answer.status_code == 201
        assert (told["name"], told["media_type"], told["size"]) == ("t.csv", "text/csv", len(DATA))
        assert told["digest"] == DIGEST
        assert answer.headers["location"] == told["url"]

        back = await service.http.get(told["url"])
        assert (back.status_code, back.content) == (200, DATA)
        assert back.headers["content-type"] == "text/csv"
        assert back.headers["repr-digest"] == SHA
        assert back.headers["etag"] == f'"{DIGEST}"'
        assert back.headers["content-disposition"] == "attachment; filename*=UTF-8''t.csv"
        assert back.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in back.headers["cache-control"]


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("bytes=0-3", 206, (0, 4)),
        ("bytes=4-", 206, (4, None)),
        ("bytes=-4", 206, (len(DATA) - 4, None)),
        ("bytes=4-99999999", 206, (4, None)),
        (f"bytes={len(DATA) - 1}-", 206, (len(DATA) - 1, None)),
        ("bytes=0-0,5-5", 200, (0, None)),
        ("bytes=5-2", 200, (0, None)),
        ("bytes=-", 200, (0, None)),
        ("lines=1-2", 200, (0, None)),
        ("bytes=a-b", 200, (0, None)),
    ],
)
async def test_a_range_is_sent_by_itself(header: str, status: int, expected: tuple[int, int | None]) -> None:
    start, end = expected
    async with served() as service:
        url = (await upload(service)).json()["url"]
        answer = await service.http.get(url, headers={"Range": header})

    part = DATA[start:end]
    assert (answer.status_code, answer.content) == (status, part)
    assert answer.headers["content-length"] == str(len(part))
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(DATA)}"


async def test_a_range_behind_the_end_is_none() -> None:
    async with served() as service:
        url = (await upload(service)).json()["url"]
        for header in (f"bytes={len(DATA)}-", "bytes=-0"):
            answer = await service.http.get(url, headers={"Range": header})
            assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
            assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


async def test_what_a_client_has_is_not_sent_again() -> None:
    async with served() as service:
        url = (await upload(service)).json()["url"]
        get = service.http.get
        for tag, status in ((f'"{DIGEST}"', 304), (f'W/"{DIGEST}"', 304), ("*", 304), ('"other"', 200)):
            assert (await get(url, headers={"If-None-Match": tag})).status_code == status
        for tag, status in ((f'"{DIGEST}"', 206), ('"other"', 200)):
            assert (await get(url, headers={"Range": "bytes=0-1", "If-Range": tag})).status_code == status


async def test_a_head_says_all_but_the_contents() -> None:
    async with served() as service:
        url = (await upload(service)).json()["url"]
        answer = await service.http.head(url)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))


async def test_contents_that_are_not_those_announced_are_not_kept() -> None:
    async with served() as service:
        assert (await upload(service, **{"Content-Digest": SHA})).status_code == 201
        assert (await upload(service, **{"Content-Digest": f"md5=:abc:, {SHA}"})).status_code == 201
        for data, header in ((b"other", SHA), (DATA, "sha-256=:abc:"), (DATA, "sha-256"), (DATA, "sha-256=::")):
            answer = await upload(service, data, **{"Content-Digest": header})
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["parameter"] == "Content-Digest"
        other = sha256(b"other").hexdigest()
        assert (await service.ask("GET", f"/api/files/{other}")).status_code == 404


@pytest.mark.parametrize(
    ("name", "kind", "data", "found"),
    [
        ("t.csv", "", b"x", "text/csv"),
        ("t.csv", "application/octet-stream", b"x", "text/csv"),
        ("t.csv", "application/x-www-form-urlencoded", b"x", "text/csv"),
        ("t.csv", "text/plain; charset=utf-8", b"x", "text/plain; charset=utf-8"),
        ("file", "", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("file", "", b"", "application/octet-stream"),
    ],
)
async def test_the_type_is_what_is_said_or_else_seen(name: str, kind: str, data: bytes, found: str) -> None:
    async with served() as service:
        answer = await upload(service, data, name, **({"Content-Type": kind} if kind else {}))

    assert (answer.status_code, answer.json()["media_type"]) == (201, found)


async def test_what_cannot_be_is_refused() -> None:
    async with served() as service:
        for name in ("..", "a%2Fb", "..%2F..%2Fetc%2Fpasswd", "a%00b", "x" * 256):
            assert (await upload(service, b"x", name)).status_code == 422, name
        assert (await upload(service, b"x", **{"Content-Type": "text"})).status_code == 422
        assert (await upload(service, b"x", **{"Content-Type": "multipart/form-data; boundary=x"})).status_code == 415
        url = (await upload(service)).json()["url"].partition("?")[0]
        for query in ("name=..", "media_type=text", "media_type=text/*", "media_type=text/html%0d%0ax:y"):
            assert (await service.ask("GET", f"{url}?{query}")).status_code == 422, query
        for digest in ("abc", "0" * 64, "A" * 64, "..", "%2e%2e%2fetc"):
            assert (await service.ask("GET", f"/api/files/{digest}")).status_code == 404, digest


async def test_a_name_that_is_not_ascii_is_told_as_it_is() -> None:
    async with served() as service:
        told = (await upload(service, b"x", "na%C3%AFve%20%22.csv")).json()
        answer = await service.http.get(told["url"])

    assert told["name"] == 'naïve ".csv'
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''na%C3%AFve%20%22.csv"


async def test_a_file_may_be_larger_than_any_other_body_and_not_larger_than_a_file() -> None:
    limits = Limits(body_bytes=1_000, file_bytes=500_000)
    async with served(limits=limits) as service:
        assert (await upload(service)).status_code == 201
        assert (await upload(service, b"x" * 500_001)).status_code == 413

        async def pieces() -> Any:
            for _ in range(6):
                yield b"x" * 100_000

        assert (await service.http.post("/api/files", content=pieces())).status_code == 413
        assert (await service.http.post("/api/graphs", content=b"x" * 2_000)).status_code == 413


async def test_a_run_is_submitted_on_files_and_its_files_are_downloaded() -> None:
    async with served() as service:
        service.engine.register(graph())
        told = (await upload(service, b"a,b\n")).json()
        for said in (told, {"digest": told["digest"], "name": "t.csv"}, [told]):
            body = {"files": {"table": said}}
            run = (await service.ask("POST", "/api/graphs/g/runs?wait=60", body)).json()
            assert (run["status"], run["state"]) == ("succeeded", {"n": 1}), run
            (made,) = run["files"]
            assert (made["name"], made["metadata"]) == ("upper.csv", {"from": "t.csv"})
            assert (await service.http.get(made["url"])).content == b"A,B\n"
            again = (await service.ask("GET", f"/api/runs/{run['run_id']}")).json()
            assert again["files"] == run["files"]


async def test_a_submission_on_files_that_are_none_says_which() -> None:
    async with served() as service:
        service.engine.register(graph())
        wrong = {
            "a/b": "0" * 64,
            "c": 5,
            "d": [{"digest": "abc"}],
            "e": {"digest": DIGEST, "name": "../x"},
            "f": {"digest": DIGEST, "media_type": "text"},
            "g": {},
        }
        await upload(service)
        answer = await service.ask("POST", "/api/graphs/g/runs", {"files": wrong})
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        assert (answer.status_code, pointers) == (
            422,
            ["/files/a~1b", "/files/c", "/files/d/0", "/files/e", "/files/f", "/files/g"],
        )
        service.engine.register(Graph("plain").add_node("n", lambda s: None).set_entry_point("n"))
        answer = await service.ask("POST", "/api/graphs/plain/runs", {"files": {"x": DIGEST}})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "file_mismatch")


async def test_files_in_a_state_come_and_go_as_data() -> None:
    class State(TypedDict, total=False):
        table: File
        size: int

    async def size(state: State) -> Any:
        return {"size": len(await state["table"].read())}

    async with served() as service:
        service.engine.register(Graph("s", state=State).add_node("size", size).set_entry_point("size"))
        told = (await upload(service)).json()
        table = {key: told[key] for key in ("name", "media_type", "digest")}
        run = (await service.ask("POST", "/api/graphs/s/runs?wait=60", {"state": {"table": table}})).json()
        assert run["state"]["size"] == len(DATA), run
        assert run["state"]["table"]["digest"] == DIGEST
        assert "contents" not in run["state"]["table"]
        missing = {"table": {**table, "digest": "0" * 64}}
        answer = await service.ask("POST", "/api/graphs/s/runs", {"state": missing})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "file_missing")
        schema = (await service.ask("GET", "/api/graphs/s")).json()["state"]
        assert "contents" not in str(schema)


async def test_damage_ends_a_download_before_its_end(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    async with served(files=store) as service:
        url = (await upload(service)).json()["url"]
        store._path(DIGEST).write_bytes(DATA[:-1] + b"x")
        with pytest.raises(FileDamaged, match=DIGEST):
            await service.http.get(url)


async def test_an_engine_that_keeps_no_files_says_so() -> None:
    async with served(MemoryStore()) as service:
        answer = await upload(service)
    assert (answer.status_code, answer.json()["code"]) == (503, "files_unavailable")
    assert "s3://" not in answer.text
