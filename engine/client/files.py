"""Contents of files to a service and back: piece by piece, and checked by their digest.

What is uploaded is known by its digest, so sending it twice is sending it once; what is downloaded is asked for from
where the last connection ended.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import quote

import anyio

from ..errors import FileDamaged
from ..file import File
from ..files.digests import checked
from ..threads import in_thread
from ..typecheck import shown
from .needed import httpx2
from .told import told_file
from .transport import Transport, refusal

SEND: Final = 256 * 1024
"""How much is sent at once."""


def file_of(given: Any, name: str | None = None) -> File:
    """A file of what was given: a `File`, a path, bytes. Raises `TypeError`, `OSError`."""
    if isinstance(given, File):
        return given
    if isinstance(given, str | os.PathLike):
        return File.from_path(given, name)
    if isinstance(given, bytes | bytearray):
        return File.from_bytes(given, name or "file")
    raise TypeError(f"a file is a File, a path or bytes, found {shown(given)}")


async def upload(transport: Transport, file: File) -> File:
    """Have a service keep a file; gives it as it is known there."""
    sent: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        found = sha256()
        async with file.open() as stream:
            while piece := await stream.read(SEND):
                found.update(piece)
                yield piece
        sent.append(found.hexdigest())

    answer = await transport.ask(
        "POST", "/api/files", query={"name": file.name}, repeatable=True, stream=pieces, kind=file.media_type
    )
    kept = told_file(answer.data)
    if sent and kept.digest != sent[-1]:
        raise FileDamaged(sent[-1], kept.digest, transport.url)
    # What else is said of it travels with the submission.
    return file.with_contents(None, digest=kept.digest, size=kept.size)


async def chunks(transport: Transport, digest: str) -> AsyncIterator[bytes]:
    """All of some contents, through lost connections; raises `FileMissing`, `FileDamaged`, `ServiceUnreachable`."""
    checked(digest)
    path, place, found = f"/api/files/{quote(digest)}", 0, sha256()
    attempts = transport.attempts()
    while True:
        headers = {"accept": "*/*", **({"range": f"bytes={place}-"} if place else {})}
        try:
            async with transport.http.stream("GET", path, headers=headers) as answer:
                if answer.status_code == 416 and place:
                    break  # all was there when the connection ended
                if not answer.is_success:
                    await answer.aread()
                    raise refusal(answer)
                seen = 0 if answer.status_code == 206 else place  # who knows no ranges begins anew
                async for sent in answer.aiter_bytes():
                    piece, seen = sent[seen:], max(0, seen - len(sent))
                    place += len(piece)
                    attempts.went_well()
                    found.update(piece)
                    if piece:
                        yield piece
            break
        except httpx2.TransportError as error:
            gap = attempts.gap(monotonic())
            if gap is None:
                raise transport.unreachable(error) from error
            await anyio.sleep(gap)
    if found.hexdigest() != digest:
        raise FileDamaged(digest, found.hexdigest(), transport.url)


async def download(transport: Transport, digest: str, path: str | os.PathLike[str]) -> Path:
    """Write contents to a file, which is there as a whole or not at all."""
    where = Path(path)
    part = where.with_name(f".{uuid.uuid4().hex}.part")
    target = await in_thread(_create, part)
    try:
        async for piece in chunks(transport, digest):
            await in_thread(target.write, piece)
        await in_thread(target.close)
        await in_thread(os.replace, part, where)
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(target.close)
            await in_thread(lambda: part.unlink(missing_ok=True))
    return where


def _create(part: Path) -> Any:
    return part.open("xb")


async def sent_files(transport: Transport, given: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What a submission says of its files, those uploaded that the service does not have."""
    found: dict[str, list[dict[str, Any]]] = {}
    for role, value in given.items():
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | os.PathLike)
        for one in value if several else (value,):
            file = file_of(one, role if isinstance(one, bytes | bytearray) else None)
            if not file.digest or file.contents is not None:
                file = await upload(transport, file)
            facts = {"digest": file.digest, "name": file.name, "media_type": file.media_type}
            found.setdefault(role, []).append({**facts, "metadata": dict(file.metadata)})
    return found
