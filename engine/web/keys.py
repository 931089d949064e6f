"""API keys: made here, kept as hashes, compared in constant time, shown once and logged never.

A key is `wfe_<id>_<secret>`: the id says which entry to look at, the secret has 256 bits of chance. Kept is the
SHA-256 of the whole key, neither salted nor slow. What salt and scrypt do is protect words that people think of, which
can be guessed from a stolen hash; 256 bits cannot. And a slow hash is a way in for strangers: scrypt at its usual cost
takes 50 ms of processor for each wrong key, SHA-256 a microsecond. So that this holds, keys are made by `new_key`, and
what does not look like one is refused without a look at the table.

A service reads its file again when it is sent SIGHUP: so a key is revoked without a restart.

A file of keys is TOML; `workflow-engine keys new NAME --scope read` prints an entry:

    [[keys]]
    name = "ci"
    id = "3f9a01bc"
    scopes = ["read", "submit"]
    sha256 = "…64 hex digits…"
    expires = 2027-01-01T00:00:00Z    # may be left out
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from time import time
from typing import Any, Final, Self

import attrs

from .principals import Principal, scopes_of

_KEY: Final = re.compile(r"wfe_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NAME: Final = re.compile(r"[\w.@+-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"name", "id", "scopes", "sha256", "expires"}

_NOBODY: Final = secrets.token_bytes(32)
"""No key's hash: what an unknown id is compared with, so that it takes as long as a known one."""


class KeysInvalid(ValueError):
    """Keys that cannot be used: all that is wrong with them, each with its place, and never a key."""


@attrs.frozen
class Key:
    """What is kept of a key."""

    principal: Principal
    id: str
    digest: bytes = attrs.field(repr=False)
    expires: float = float("inf")


@attrs.frozen
class NewKey:
    """A key that was just made: whoever it is for is told `text`, and nobody will see it again."""

    text: str = attrs.field(repr=False)
    key: Key

    def entry(self) -> str:
        """Its entry in a file of keys."""
        key = self.key
        scopes = ", ".join(f'"{scope}"' for scope in key.principal.shown_scopes())
        lines = [
            "[[keys]]",
            f'name = "{key.principal.name}"',
            f'id = "{key.id}"',
            f"scopes = [{scopes}]",
            f'sha256 = "{key.digest.hex()}"',
        ]
        if key.expires != float("inf"):
            lines.append(
                f"expires = {datetime.fromtimestamp(int(key.expires), UTC).isoformat().replace('+00:00', 'Z')}"
            )
        return "\n".join(lines) + "\n"


def new_key(name: str, scopes: Iterable[str], *, expires: float = float("inf")) -> NewKey:
    """Make a key; raises `ValueError` for a name or scopes that cannot be."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a key cannot be called {name!r}: letters, digits and _ . @ + -, at most 64")
    id = secrets.token_hex(4)
    text = f"wfe_{id}_{secrets.token_urlsafe(32)}"
    return NewKey(text, Key(Principal(name, scopes_of(scopes)), id, _digest(text), expires))


class Keys:
    """Who may come in."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = {key.id: key for key in keys}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Keys({len(self)})"

    def become(self, others: Keys) -> tuple[list[str], list[str]]:
        """Let these in from now on, and nobody else; gives the names of keys that have come, and that are gone."""
        before, after = self._keys, others._keys
        self._keys = after
        same = {id for id in before.keys() & after.keys() if compare_digest(before[id].digest, after[id].digest)}
        come = [key.principal.name for id, key in after.items() if id not in same]
        return come, [key.principal.name for id, key in before.items() if id not in same]

    def principal(self, text: str) -> Principal | None:
        """Whose key this is; None if it is nobody's, or no longer good.

        Takes as long for a wrong key as for a right one: one hash, one comparison that looks at every byte.
        """
        shape = _KEY.fullmatch(text)
        if shape is None:
            return None
        key = self._keys.get(shape[1])
        right = compare_digest(_digest(text), _NOBODY if key is None else key.digest)
        return key.principal if right and key is not None and time() < key.expires else None

    @classmethod
    def read(cls, file: str | Path) -> Self:
        """The keys of a file; raises `KeysInvalid`, or `OSError` if it cannot be read."""
        return cls.parse(Path(file).read_text(encoding="utf-8"), str(file))

    @classmethod
    def parse(cls, text: str, source: str = "the keys") -> Self:
        """The keys of a file's text; raises `KeysInvalid`."""
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise KeysInvalid(f"{source} is no TOML: {error}") from None
        entries = found.get("keys")
        if found.keys() - {"keys"} or not isinstance(entries, list) or not entries:
            raise KeysInvalid(f"{source} must hold entries [[keys]], at least one, and nothing else")
        keys: dict[str, Key] = {}
        faults: list[str] = []
        for number, entry in enumerate(entries, 1):
            try:
                key = _entry(entry)
                if key.id in keys:
                    raise ValueError(f"id {key.id!r} is taken by an entry before it")
                keys[key.id] = key
            except ValueError as error:
                faults.append(f"entry {number}: {error}")
        if faults:
            raise KeysInvalid(f"{source}: {'; '.join(faults)}")
        return cls(keys.values())

    @classmethod
    def of_text(cls, text: str, name: str = "operator") -> Self:
        """One key, itself, that may do everything: from an environment variable; raises `KeysInvalid`."""
        shape = _KEY.fullmatch(text.strip())
        if shape is None:
            raise KeysInvalid("that is no key: make one by `workflow-engine keys new NAME --scope admin`")
        return cls([Key(Principal(name, scopes_of(["admin"])), shape[1], _digest(text.strip()))])


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _entry(entry: Any) -> Key:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a table")
    if unknown := sorted(entry.keys() - _FIELDS):
        raise ValueError(f"unknown {', '.join(map(repr, unknown))}: there are {', '.join(sorted(_FIELDS))}")
    name, id, scopes, digest = (entry.get(field) for field in ("name", "id", "scopes", "sha256"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("name must be letters, digits and _ . @ + -, at most 64")
    if not isinstance(id, str) or not re.fullmatch(r"[0-9a-f]{8}", id):
        raise ValueError(f"{name}: id must be 8 hex digits, those in the key after wfe_")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError(f"{name}: scopes must be a list of names")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise ValueError(f"{name}: sha256 must be 64 hex digits, as `workflow-engine keys new` prints them")
    return Key(Principal(name, scopes_of(scopes)), id, bytes.fromhex(digest), _expiry(name, entry.get("expires")))


def _expiry(name: str, given: Any) -> float:
    if given is None:
        return float("inf")
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise ValueError(f"{name}: expires must be a time with its zone, 2027-01-01T00:00:00Z")
    return given.timestamp()
