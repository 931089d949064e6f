"""What a journal holds, as bytes and back: the values of updates and admissions, records, and snapshots.

All of it is JSON, as codec.py writes values. A value of a state's key that takes more than `BLOB_SIZE` goes to a blob
instead, named by the digest of its bytes: however often it is passed on or written again, it is stored once, and the
text holds `{"$":"blob","of":digest}`. What is stored raw, bytes and text, is so that its size is what it is.

Admissions and snapshots say their version of the format. A record that says none is of version 1, since most of what
a journal holds is records. What is of a newer version is refused; what was once written is read for ever (see
tests/engine/journal_formats).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, get_args

import orjson

from .codec import MARK, pack, parsed
from .decoding import revived
from .encoding import TAG, a
from .errors import Damaged, EngineError, NotStorable
from .raised import error_as_data, error_from_data
from .stored import blob_digest
from .tokens import Record, RecordKind
from .typecheck import shown

VERSION: Final = 1
# What a row of a table should hold itself: less, and reading it costs a second look; more, and each copy costs space.
BLOB_SIZE: Final = 16 * 1024

# A file, in text that orjson wrote, whose contents are kept.
_FILE: Final = re.compile(rb'"\$":"file","digest":"([0-9a-f]{64})"')

_SIZED: Final = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset})
_PERHAPS_LARGE: Final = 1_000
_BLOB: Final = re.compile(rb'"\$":"blob","of":"([0-9a-f]{64})"')
_NO_BLOBS: Final[Mapping[str, bytes]] = {}


class Packed:
    """Bytes, the blobs that they name (by digest), and the digests of all of those."""

    __slots__ = ("blobs", "data")

    def __init__(self, data: bytes, blobs: Mapping[str, bytes] = _NO_BLOBS) -> None:
        self.data = data
        self.blobs = blobs

    @classmethod
    def of(cls, data: bytes) -> Packed:
        """These bytes, and what keeps the contents of the files in them."""
        return cls(data, file_marks(data)) if b'"$":"file"' in data else cls(data)

    @property
    def refs(self) -> Sequence[str]:
        """The digests of all blobs that the bytes name."""
        return tuple(self.blobs)


# --- values ---------------------------------------------------------------------------------------------


def pack_values(values: Mapping[str, Any], where: str = "") -> Packed:
    """Each of these values packed, the large ones as blobs. Raises `NotStorable`, which names `where` and the path."""
    for value in values.values():
        if type(value) in _SIZED and len(value) > _PERHAPS_LARGE:
            return _one_by_one(values, where)
    try:
        data = pack(values if type(values) is dict else dict(values))
    except NotStorable:
        return _one_by_one(values, where)  # which knows the path
    return Packed.of(data) if len(data) <= BLOB_SIZE else _one_by_one(values, where)


def unpack_values(data: bytes, blobs: Mapping[str, bytes] = _NO_BLOBS) -> dict[str, Any]:
    """The values of what `pack_values` wrote, given the blobs that `digests_in` names. Raises `Damaged`."""
    plain = parsed(data)
    if type(plain) is not dict:
        raise Damaged(f"stored values are {shown(plain)}, expected an object")
    return _values_of(plain, blobs) if MARK in data else plain


def digests_in(data: bytes) -> list[str]:
    """The digests of the blobs that packed bytes name, each once."""
    if b'"blob"' not in data:
        return []
    return list(dict.fromkeys(found.decode() for found in _BLOB.findall(data)))


def file_marks(*texts: bytes) -> dict[str, bytes]:
    """For each file in these, a blob that says so: as long as something names that, the file's contents are kept.

    So stores need not know of files: what keeps the blobs of a run keeps its files.
    """
    found: dict[str, bytes] = {}
    for data in texts:
        if b'"$":"file"' in data:
            for digest in _FILE.findall(data):
                mark = b"f" + digest
                found[blob_digest(mark)] = mark
    return found


def file_mark(digest: str) -> str:
    """The name of the blob that is there as long as something names the contents of this digest."""
    return blob_digest(b"f" + digest.encode())


def _one_by_one(values: Mapping[str, Any], where: str) -> Packed:
    blobs: dict[str, bytes] = {}
    if TAG not in values and all(type(key) is str for key in values):
        members = [
            orjson.dumps(key) + b":" + _kept(value, key if key.isidentifier() else f"[{key!r}]", where, blobs)
            for key, value in values.items()
        ]
        return Packed(b"{" + b",".join(members) + b"}", blobs)
    pairs = []
    for key, value in values.items():
        pairs += [pack(key, f"the key {key!r}", owner=where), _kept(value, f"[{key!r}]", where, blobs)]
    return Packed(b'{"$":"dict","of":[' + b",".join(pairs) + b"]}", blobs)


def _kept(value: Any, path: str, where: str, blobs: dict[str, bytes]) -> bytes:
    """The text of a value, or a reference to it in `blobs`."""
    raw = _RAW.get(type(value))
    if raw is not None and len(value) > BLOB_SIZE:
        stored = raw(value)
    else:
        data = pack(value, path, owner=where)
        blobs |= file_marks(data)
        if len(data) <= BLOB_SIZE:
            return data
        stored = b"j" + data if raw is None else raw(value)
    digest = blob_digest(stored)
    blobs[digest] = stored
    return b'{"$":"blob","of":"%b"}' % digest.encode()


def _values_of(plain: dict[str, Any], blobs: Mapping[str, bytes]) -> dict[str, Any]:
    if TAG not in plain:
        for key, value in plain.items():
            if type(value) is dict or type(value) is list:
                plain[key] = _restored(value, blobs)
        return plain
    flat = plain.get("of")
    if plain[TAG] != "dict" or type(flat) is not list or len(flat) % 2:
        raise Damaged(f"stored values are {shown(plain)}, expected keys and values")
    values = [_restored(value, blobs) for value in flat[1::2]]
    return dict(zip([revived(key) for key in flat[::2]], values, strict=True))


def _restored(plain: Any, blobs: Mapping[str, bytes]) -> Any:
    if type(plain) is dict and plain.get(TAG) == "blob":
        return _opened(plain.get("of"), blobs)
    return revived(plain)


def _opened(digest: Any, blobs: Mapping[str, bytes]) -> Any:
    stored = blobs.get(digest) if type(digest) is str else None
    if stored is None:
        raise Damaged(f"the blob {digest} is named, but not there")
    if blob_digest(stored) != digest:
        raise Damaged(f"the blob {digest} does not hold what it did")
    match stored[:1]:
        case b"j":
            plain = parsed(stored[1:])
            return revived(plain) if MARK in stored else plain
        case b"b":
            return stored[1:]
        case b"a":
            return bytearray(stored[1:])
        case b"t":
            return stored[1:].decode("utf-8", "surrogatepass")
    raise Damaged(f"the blob {digest} is of the kind {stored[:1]!r}, which this version does not know")


_RAW: Final[dict[type, Callable[[Any], bytes]]] = {
    bytes: lambda value: b"b" + value,
    bytearray: lambda value: b"a" + bytes(value),
    str: lambda value: b"t" + value.encode("utf-8", "surrogatepass"),
}


# --- admissions -----------------------------------------------------------------------------------------


def pack_admission(values: Mapping[str, Any]) -> Packed:
    """What a run was submitted on. Raises `NotStorable`."""
    packed = pack_values(values, "the initial state")
    return Packed(b'{"format":%d,"values":%b}' % (VERSION, packed.data), packed.blobs)


def unpack_admission(data: bytes, blobs: Mapping[str, bytes] = _NO_BLOBS) -> dict[str, Any]:
    """What a run was submitted on. Raises `Damaged`, or `ClassChanged`."""
    plain = parsed(data)
    match plain:
        case {"format": int(version), "values": dict(values)}:
            _check_version(version)
            return _values_of(values, blobs) if MARK in data else values
    raise Damaged(f"a stored admission is {shown(plain)}, expected its format and values")


def _check_version(version: Any) -> None:
    if version != VERSION:
        raise Damaged(
            f"stored data is of version {version!r} of the journal's format, this engine reads {VERSION}; "
            f"it was written by a newer one"
        )


# --- snapshots ------------------------------------------------------------------------------------------


class Standing(Protocol):
    """A run as it stands: plain data, with the values and errors that it refers to by their places."""

    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def values(self) -> Sequence[Any]: ...
    @property
    def errors(self) -> Sequence[BaseException]: ...


def pack_snapshot(snapshot: Standing) -> Packed:
    """A run as it stands, large values as blobs: the same that its records name. Raises `NotStorable`."""
    blobs: dict[str, bytes] = {}
    values = [_kept(value, f"values[{place}]", "the snapshot", blobs) for place, value in enumerate(snapshot.values)]
    keep = _keeping_in(blobs)
    errors = [orjson.dumps(error_as_data(error, keep)) for error in snapshot.errors]
    parts = (VERSION, pack(snapshot.data, owner="the snapshot"), b",".join(values), b",".join(errors))
    return Packed(b'{"format":%d,"data":%b,"values":[%b],"errors":[%b]}' % parts, blobs)


def unpack_snapshot(
    data: bytes, blobs: Mapping[str, bytes] = _NO_BLOBS
) -> tuple[dict[str, Any], list[Any], list[BaseException]]:
    """Data, values and errors of what `pack_snapshot` wrote. Raises `Damaged`, or `ClassChanged`."""
    plain = parsed(data)
    match plain:
        case {"format": int(version), "data": dict(facts), "values": list(values), "errors": list(errors)}:
            _check_version(version)
        case _:
            raise Damaged(f"a stored snapshot is {shown(plain)}, expected its format, data, values and errors")
    try:
        restored = [_restored(value, blobs) for value in values]
        return revived(facts), restored, [error_from_data(e, lambda part: _restored(part, blobs)) for e in errors]
    except EngineError:
        raise
    except Exception as error:
        raise Damaged(f"a stored snapshot cannot be read: {type(error).__name__}: {error}") from error


# --- records --------------------------------------------------------------------------------------------


def _typed(value: Any, cls: type) -> Any:
    if type(value) is not cls:
        raise Damaged(f"found {shown(value)}, expected {a(cls)}")
    return value


def _read(value: Any, how: Callable[[Any], Any]) -> Any:
    return _typed(value, how) if isinstance(how, type) else how(value)


def _number(value: Any) -> float:
    return value if type(value) is float else float(_typed(value, int))


def _integers(value: Any) -> tuple[int, ...]:
    return tuple([_typed(part, int) for part in value])


def _pairs(value: Any) -> tuple[tuple[int, int], ...]:
    return tuple([(_typed(edge, int), _typed(token, int)) for edge, token in value])


def _path(value: Any) -> tuple[tuple[str, int, int], ...]:
    return tuple([(_typed(node, str), _typed(number, int), _typed(item, int)) for node, number, item in value])


_KINDS: Final = frozenset(get_args(RecordKind))

# Key, attribute, and how it is read: of which type it must be, or what makes it of JSON. To keep another attribute, add
# its line here and in `_facts`. A key never gets a second meaning: records of old must be read.
_ROWS: Final[Sequence[tuple[str, str, Callable[[Any], Any]]]] = (
    ("k", "kind", str),
    ("t", "time", _number),
    ("q", "seq", int),
    ("p", "path", _path),
    ("n", "node", str),
    ("a", "activation", int),
    ("y", "attempts", int),
    ("c", "consumed", _integers),
    ("e", "emitted", _pairs),
    ("b", "absorbed", lambda value: list(_integers(value))),
    ("l", "limits", _integers),
    ("h", "status", str),
    ("f", "started", _number),
    ("g", "goto", lambda value: tuple([_typed(part, str) for part in value])),
    ("r", "edge", int),
    ("j", "stage", str),
    ("i", "item", int),
    ("d", "delay", _number),
    ("w", "waits", bool),
)
_READ: Final = {key: (name, read) for key, name, read in _ROWS}
# These are packed with the codec, and read apart: update, signal, error, version.
_PACKED_KEYS: Final = frozenset("usxv")


def _facts(record: Record) -> dict[str, Any]:
    """What a record says beside what the codec packs, as JSON; what is as in a new one is left out."""
    # Written out, since every activation has a record: by the table it took four times as long.
    plain: dict[str, Any] = {"k": record.kind}
    if record.time:
        plain["t"] = record.time
    if record.seq:
        plain["q"] = record.seq
    if record.path:
        plain["p"] = record.path
    if record.node:
        plain["n"] = record.node
    if record.activation:
        plain["a"] = record.activation
    if record.attempts:
        plain["y"] = record.attempts
    if record.consumed:
        plain["c"] = record.consumed
    if record.emitted:
        plain["e"] = record.emitted
    if record.absorbed:
        plain["b"] = record.absorbed
    if record.limits:
        plain["l"] = record.limits
    if record.status:
        plain["h"] = record.status
    if record.started:
        plain["f"] = record.started
    if record.goto is not None:
        plain["g"] = record.goto
    if record.edge >= 0:
        plain["r"] = record.edge
    if record.stage != "node":
        plain["j"] = record.stage
    if record.item >= 0:
        plain["i"] = record.item
    if record.delay:
        plain["d"] = record.delay
    if record.waits:
        plain["w"] = True
    return plain


def pack_record(record: Record, update: Packed | None = None) -> Packed:
    """A record as bytes.

    Its update, or the payload of its signal, is not packed again if that is given or in `record.packed`. Otherwise
    raises `NotStorable` for what is in them; errors are kept whatever they hold.
    """
    plain = _facts(record)
    packed = update if update is not None else getattr(record, "packed", None)
    signal = record.signal
    if record.kind == "signal":
        serial, name, payload, id = signal
        packed = packed or pack_values({name: payload}, f"signal {name!r}")
        plain["s"] = orjson.Fragment(pack([serial, name, id]))
    elif signal is not None:
        plain["s"] = signal if type(signal) is int else orjson.Fragment(pack(signal))
    if packed is None and record.update is not None:
        packed = pack_values(record.update, f"node {record.node!r}" if record.node else "")
    blobs: Mapping[str, bytes] = _NO_BLOBS
    if packed is not None:
        plain["u"] = orjson.Fragment(packed.data)
        blobs = packed.blobs
    if record.error is not None:
        blobs = dict(blobs)
        plain["x"] = error_as_data(record.error, _keeping_in(blobs))
    return Packed(orjson.dumps(plain), blobs)


def _keeping_in(blobs: dict[str, bytes]) -> Callable[[Any], Any]:
    return lambda value: orjson.Fragment(_kept(value, "", "", blobs))


def unpack_record(data: bytes, blobs: Mapping[str, bytes] = _NO_BLOBS) -> Record:
    """The record of what `pack_record` wrote. Raises `Damaged`, or `ClassChanged`."""
    plain = parsed(data)
    if type(plain) is not dict:
        raise Damaged(f"a stored record is {shown(plain)}, expected an object")
    if "v" in plain:
        _check_version(plain["v"])
    kind: Any = plain.get("k")
    if type(kind) is not str or kind not in _KINDS:
        raise Damaged(f"a stored record is of the kind {shown(kind)}, which this version does not know")
    record = Record(kind)  # type: ignore[arg-type]  # it is one of those
    at = ["k"]
    try:
        _fill(record, plain, MARK in data, blobs, at)
    except EngineError as error:
        if type(error) is not Damaged:
            raise
        raise Damaged(f"a stored record of the kind {kind!r} cannot be read, at {at[0]!r}: {error}") from error
    except Exception as error:
        raise Damaged(
            f"a stored record of the kind {kind!r} cannot be read, at {at[0]!r}: {type(error).__name__}: {error}"
        ) from error
    return record


def _fill(record: Record, plain: dict[str, Any], tagged: bool, blobs: Mapping[str, bytes], at: list[str]) -> None:
    """Set the attributes of a record; `at` is kept to the key that is being read."""
    for at[0], value in plain.items():
        if at[0] in _READ:
            name, read = _READ[at[0]]
            setattr(record, name, value if type(value) is read else _read(value, read))
        elif at[0] not in _PACKED_KEYS:
            raise Damaged("this version does not know the key")
    values: Any = None
    if "u" in plain:
        at[0] = "u"
        values = _typed(plain["u"], dict)
        if tagged:
            values = _values_of(values, blobs)
    at[0] = "s"
    if record.kind == "signal":
        serial, name, id = revived(plain["s"])
        record.signal = (_typed(serial, int), name, values[name], id)
    else:
        record.update = values
        record.signal = revived(plain.get("s"))
    if "x" in plain:
        at[0] = "x"
        record.error = error_from_data(plain["x"], lambda part: _restored(part, blobs))
