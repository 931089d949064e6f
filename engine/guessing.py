"""The media type of a file that nobody has said: by its name, else by its first bytes.

Python's own table of names is used without those of the machine, which would make one file two types on two machines.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from .mediatypes import UNKNOWN

if TYPE_CHECKING:
    from mimetypes import MimeTypes

_BY_NAME: Final = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".avif": "image/avif",
    ".csv": "text/csv",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".htm": "text/html",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".jsonld": "application/ld+json",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".sqlite": "application/vnd.sqlite3",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
"""What Python does not know, or not in every version, or says otherwise in some."""

_BY_START: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"ARROW1\x00\x00", "application/vnd.apache.arrow.file"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_HTML: Final = re.compile(rb"\s*<(?:!doctype html|html)[\s>]", re.IGNORECASE)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def guessed(name: str, start: bytes, whole: bool) -> str:
    """The media type of a file of this name that begins so; `whole` says that this is all of it."""
    return _of_name(name) or _of_contents(start, whole)


def _of_name(name: str) -> str:
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if not ending:
        return ""
    if ending in _BY_NAME:
        return _BY_NAME[ending]
    found, encoding = _table().guess_type(f"x{ending}", strict=True)
    return found if found is not None and encoding is None else ""


@cache
def _table() -> MimeTypes:
    from mimetypes import MimeTypes  # who names every type needs no table of them

    return MimeTypes()


def _of_contents(start: bytes, whole: bool) -> str:
    for beginning, found in _BY_START:
        if start.startswith(beginning):
            return found
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if not start or _CONTROL.search(start):
        return UNKNOWN
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # A piece may end in the middle of a letter, which takes four bytes at most.
        if whole or error.start < len(start) - 3:
            return UNKNOWN
    if _HTML.match(start):
        return "text/html"
    if start.lstrip().startswith(b"<?xml"):
        return "application/xml"
    return "application/json" if whole and _is_json(start) else "text/plain"


def _is_json(data: bytes) -> bool:
    import orjson

    if data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        orjson.loads(data)
    except ValueError:
        return False
    return True
