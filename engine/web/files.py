"""Files over HTTP: contents in, contents out, and which of them a run is submitted on.

Contents go by piece by piece in both directions, so a file of any size takes a little memory. They are known by their
SHA-256 alone: what is sent twice is kept once, a sender may say what must arrive (Content-Digest, RFC 9530), and what
is read may be kept for ever by whoever has read it. A name and a type are the caller's to say.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import anyio
import attrs

from ..errors import BadMediaType, FileDamaged, FileMissing
from ..file import DIGEST, File, file_name_fault
from ..guessing import guessed
from ..mediatypes import UNKNOWN, media_type
from ..shapes import below
from ..typecheck import shown
from .problems import Detail, Refused, answer_of, invalid, is_of_the_guard, of_error
from .service import file_info
from .table import Call
from .wire import Answer, ClientGone, Receive, Scope, Send, Sends, header_value, until_gone

_SAYS_NOTHING: Final = frozenset({"", "application/x-www-form-urlencoded", UNKNOWN})
"""What clients send as the type of a body that they know nothing of."""
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")
FOR_EVER: Final = "private, max-age=31536000, immutable"


# --- in -------------------------------------------------------------------------------------------------


async def post_file(call: Call) -> Sends:
    """`POST /api/files`."""
    name = call.query["name"] or "file"
    if fault := file_name_fault(name):
        raise invalid([Detail(parameter="name", message=f"a file's name {fault}")])
    kind = call.header(b"content-type") or ""
    if kind.lower().startswith("multipart/"):
        raise Refused(415, "multipart", "send the file itself as the body, one file in each request")
    if kind.lower() in _SAYS_NOTHING:
        kind = ""
    try:
        kind = str(media_type(kind)) if kind else ""
    except BadMediaType as error:
        raise invalid([Detail(parameter="Content-Type", message=str(error))]) from None
    return _Upload(call, name, kind, _announced(call.header(b"content-digest")))


def _announced(header: str | None) -> str:
    """The SHA-256 that the sender says, in hexadecimal; empty if it says none."""
    for part in (header or "").split(","):
        algorithm, equals, value = part.strip().partition("=")
        if not equals and part.strip():
            raise invalid([Detail(parameter="Content-Digest", message="expected sha-256=:<base64>:")])
        if algorithm.lower() == "sha-256":
            try:
                digest = base64.b64decode(value.strip().removeprefix(":").removesuffix(":"), validate=True).hex()
            except (binascii.Error, ValueError):
                digest = ""
            if not DIGEST.fullmatch(digest):
                raise invalid([Detail(parameter="Content-Digest", message="expected sha-256=:<base64>:")])
            return digest
    return ""


@attrs.frozen
class _Upload:
    """Takes a body piece by piece, and answers once it is kept."""

    call: Call
    name: str
    kind: str
    expected: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._kept(receive)
        except ClientGone:
            return
        except FileDamaged as error:
            detail = Detail(parameter="Content-Digest", message=f"what arrived has the digest {error.found}")
            answer = answer_of(invalid([detail]))
        except Exception as error:
            if is_of_the_guard(error):
                raise
            answer = answer_of(of_error(error))
        await answer(scope, receive, send)

    async def _kept(self, receive: Receive) -> Answer:
        pieces = _pieces(receive)
        first = await anext(pieces, b"")
        kind = self.kind or guessed(self.name, first[:4096], False)
        file = File.from_chunks(_after(first, pieces), self.name, kind)
        found = file_info(await self.call.service.engine.files.keep(file, expected=self.expected), self.call.root)
        assert found.url is not None
        return Answer(201, found, {"Location": found.url, "ETag": _etag(found.digest)})


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


# --- out ------------------------------------------------------------------------------------------------


async def get_file(call: Call) -> Answer | Sends:
    """`GET /api/files/{digest}`."""
    digest, name, kind = call.path["digest"], call.query["name"] or "file", call.query["media_type"] or UNKNOWN
    details = []
    if fault := file_name_fault(name):
        details.append(Detail(parameter="name", message=f"a file's name {fault}"))
    try:
        media_type(kind)
    except BadMediaType as error:
        details.append(Detail(parameter="media_type", message=str(error)))
    if details:
        raise invalid(details)
    if not DIGEST.fullmatch(digest):
        raise Refused(404, "file_missing", "a file is asked for by its digest: 64 hexadecimal digits (SHA-256)")
    file = await call.service.engine.files.get(digest, name, kind)
    headers = {
        "ETag": _etag(digest),
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:",
        "Cache-Control": FOR_EVER,
        # Never shown in place: a page of somebody's must not run as one of the service.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    if _names(call.header(b"if-none-match"), digest):
        return Answer(304, headers=headers)
    size = file.size or 0
    part = _part(call.header(b"range"), size) if _names(call.header(b"if-range"), digest, True) else None
    if part is None:
        return _Download(file, 200, 0, size, headers)
    start, end = part
    if start >= end:
        raise Refused(
            416,
            "range_not_satisfiable",
            f"the file has {size} bytes",
            headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
        )
    return _Download(file, 206, start, end, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})


def _etag(digest: str) -> str:
    return f'"{digest}"'


def _names(header: str | None, digest: str, otherwise: bool = False) -> bool:
    """Whether an If-None-Match or If-Range means these contents."""
    if header is None:
        return otherwise
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return _etag(digest) in tags or (not otherwise and "*" in tags)


def _part(header: str | None, size: int) -> tuple[int, int] | None:
    """Where a range begins and ends; None for no range, several of them, or what is none: then all is sent."""
    match = _RANGE.fullmatch(header) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    return None if match[2] and end <= start else (start, min(end, size))


@attrs.frozen
class _Download:
    """Sends contents piece by piece, until the client leaves."""

    file: File
    status: int
    start: int
    end: int
    headers: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), header_value(value)) for name, value in self.headers.items()]
        headers.append((b"content-type", header_value(self.file.media_type)))
        headers.append((b"content-length", b"%d" % (self.end - self.start)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        failed: list[Exception] = []
        async with anyio.create_task_group() as group:
            group.start_soon(until_gone, receive, group.cancel_scope)
            try:
                await self._send_contents(send)
            except Exception as error:
                failed.append(error)  # by itself, not in a group
            group.cancel_scope.cancel()
        if failed:
            raise failed[0]

    async def _send_contents(self, send: Send) -> None:
        # All of them are checked against the digest: what is damaged ends the connection before its end.
        end = None if (self.start, self.end) == (0, self.file.size) else self.end
        async with self.file.open(self.start, end) as stream:
            async for piece in stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


# --- as the input of runs -------------------------------------------------------------------------------


async def input_files(call: Call, said: Mapping[str, Any]) -> dict[str, list[File]]:
    """The files that a submission names by their digests, under their roles; raises `Refused` with every fault."""
    details: list[Detail] = []
    found: dict[str, list[File]] = {}
    for role, value in said.items():
        several = value if isinstance(value, list) else [value]
        for number, one in enumerate(several):
            at = below("/files", role)
            at = below(at, number) if isinstance(value, list) else at
            file = await _input_file(call, one, at, details)
            if file is not None:
                found.setdefault(role, []).append(file)
    if details:
        raise invalid(details)
    return found


async def _input_file(call: Call, said: Any, at: str, details: list[Detail]) -> File | None:
    given = {"digest": said} if isinstance(said, str) else said
    if not isinstance(given, dict) or not isinstance(given.get("digest"), str):
        message = f"expected a digest, or a file as POST /api/files tells of it, found {shown(said)}"
        details.append(Detail(pointer=at, message=message))
        return None
    name = given.get("name", "file")
    facts = {"name": name, "metadata": given.get("metadata", {})}
    try:
        kind = given.get("media_type") or (guessed(name, b"", False) if isinstance(name, str) else UNKNOWN)
        file = await call.service.engine.files.get(given["digest"], "file", UNKNOWN)
        return attrs.evolve(file, media_type=kind, **facts)
    except FileMissing as error:
        details.append(Detail(pointer=at, message=f"there are no contents with the digest {error.digest}; upload them"))
    except (ValueError, TypeError) as error:
        details.append(Detail(pointer=at, message=str(error)))
    return None
