"""Media types as RFC 2045 and RFC 6838 write them, ranges of them, and what fits what.

A range is a media type, or `*/*`, `text/*`, `application/*+json`; its parameters must all be there, with the same
values, in what fits it. A type without a parameter does not fit a range that asks for one: nobody has said that
`text/csv` is in UTF-8. Types, subtypes and the names of parameters know no case, nor do the values of `charset`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import attrs

from .errors import BadMediaType
from .typecheck import shown

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER: Final = re.compile(
    r"""[ \t]*;[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)="""
    r"""(?:(?P<token>[!#$%&'*+.^_`|~0-9A-Za-z-]+)|"(?P<quoted>(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x20-\x7e])*)"))?"""
)
MOST_CHARACTERS: Final = 1000
"""What is longer names no type that anybody knows."""

ANYTHING: Final = "*/*"
UNKNOWN: Final = "application/octet-stream"


@attrs.frozen
class MediaType:
    """A media type, or a range of them if something in it is `*`."""

    type: str
    subtype: str
    parameters: tuple[tuple[str, str], ...] = ()
    """By name, in the order of the names."""

    @property
    def is_range(self) -> bool:
        """Whether it stands for more than one."""
        return self.subtype == "*" or self.subtype.startswith("*+")

    @property
    def suffix(self) -> str:
        """What follows the last `+` of the subtype: `json` of `application/ld+json`."""
        return self.subtype.rpartition("+")[2] if "+" in self.subtype else ""

    @property
    def specificity(self) -> tuple[int, int]:
        """Larger for what says more: the kind of range, then how many parameters it asks for."""
        kind = 0 if self.type == "*" else 1 if self.subtype == "*" else 2 if self.is_range else 3
        return kind, len(self.parameters)

    def parameter(self, name: str) -> str | None:
        """The value of a parameter."""
        return dict(self.parameters).get(name)

    def includes(self, other: MediaType) -> bool:
        """Whether all that `other` stands for fits this."""
        if not set(self.parameters) <= set(other.parameters):
            return False
        return self._holds(other)

    def overlaps(self, other: MediaType) -> bool:
        """Whether something fits both."""
        mine, theirs = dict(self.parameters), dict(other.parameters)
        if any(theirs[name] != value for name, value in mine.items() if name in theirs):
            return False
        # What is no range has no other parameters than it says.
        if not other.is_range and not mine.keys() <= theirs.keys():
            return False
        if not self.is_range and not theirs.keys() <= mine.keys():
            return False
        return self._holds(other) or other._holds(self)

    def _holds(self, other: MediaType) -> bool:
        if self.type == "*":
            return True
        if self.type != other.type:
            return False
        if self.subtype == "*":
            return True
        if self.is_range:
            return self.suffix == other.suffix
        return self.subtype == other.subtype

    def __str__(self) -> str:
        said = "".join(f"; {name}={_written(value)}" for name, value in self.parameters)
        return f"{self.type}/{self.subtype}{said}"


def media_type(text: str) -> MediaType:
    """The media type that a text says. Raises `BadMediaType` for nonsense, and for a range."""
    found = media_range(text)
    if found.is_range:
        raise BadMediaType(text, "it is a range, expected one media type")
    return found


def media_range(text: str) -> MediaType:
    """The media type or range that a text says. Raises `BadMediaType`."""
    if not isinstance(text, str):
        raise BadMediaType(shown(text), "expected text such as 'text/csv'")
    return _read(text)


@lru_cache(maxsize=4096)
def _read(text: str) -> MediaType:
    if len(text) > MOST_CHARACTERS:
        raise BadMediaType(f"{text[:40]}...", f"it has {len(text)} characters, at most {MOST_CHARACTERS} are read")
    full, semicolon, rest = text.partition(";")
    kind, slash, subtype = full.strip(" \t").lower().partition("/")
    if not slash:
        raise BadMediaType(text, "it has no '/', expected something like 'text/csv'")
    if kind == "*":
        if subtype != "*":
            raise BadMediaType(text, "only '*/*' has '*' as its type")
    elif not _NAME.fullmatch(kind):
        raise BadMediaType(text, f"{kind!r} is no type")
    elif subtype != "*" and not _NAME.fullmatch(subtype.removeprefix("*+")):
        raise BadMediaType(text, f"{subtype!r} is no subtype")
    return MediaType(kind, subtype, _parameters(text, semicolon + rest))


def _parameters(text: str, rest: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    place = 0
    rest = rest.rstrip(" \t")
    while place < len(rest):
        match = _PARAMETER.match(rest, place)
        if match is None or match["name"] is None:
            raise BadMediaType(text, f"{rest[place:].strip()!r} is no parameter, expected '; name=value'")
        name = match["name"].lower()
        value = match["token"] if match["token"] is not None else re.sub(r"\\(.)", r"\1", match["quoted"])
        if name in found:
            raise BadMediaType(text, f"it has the parameter {name!r} twice")
        found[name] = value.lower() if name == "charset" else value
        place = match.end()
    return tuple(sorted(found.items()))


def _written(value: str) -> str:
    if _TOKEN.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def fits(media: str, ranges: Iterable[str]) -> bool:
    """Whether a media type fits one of these ranges."""
    found = media_range(media)
    return any(media_range(one).includes(found) for one in ranges)


def may_fit(given: str, ranges: Iterable[str]) -> bool:
    """Whether something that fits the range `given` fits one of these."""
    found = media_range(given)
    return any(media_range(one).overlaps(found) for one in ranges)


def best(media: str, ranges: Sequence[str]) -> tuple[int, int] | None:
    """How specific the most specific of these ranges is that a media type fits, if it fits one."""
    found = media_range(media)
    fitting = [one.specificity for one in map(media_range, ranges) if one.includes(found)]
    return max(fitting, default=None)
