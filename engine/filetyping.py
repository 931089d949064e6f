"""Which files a node takes and makes, and which of those that come go to which parameter. Pure.

A file goes to the parameter that is called as its role is, if that takes its type; otherwise to the one whose media
type says most about it. One that two parameters want as much is refused, and so are two for a parameter that takes
one: nothing is ever chosen by the order in which files came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from .carried import FILE, ROLE, Carried
from .errors import BadMediaType, FileMismatch
from .mediatypes import ANYTHING, best, may_fit, media_range
from .typecheck import shown

EVERYTHING: Final = (ANYTHING,)


@attrs.frozen
class Takes:
    """A parameter that gets files: one, or with `many` all that fit; `optional` if it can do without."""

    parameter: str
    ranges: tuple[str, ...] = EVERYTHING
    many: bool = False
    optional: bool = False
    has_default: bool = False
    """Whether the function has a value of its own where no file comes; without one, it gets None."""

    def __str__(self) -> str:
        return f"{self.parameter!r} ({' or '.join(self.ranges)})"


@attrs.frozen
class Makes:
    """Files that a node says it makes: of this media type, and perhaps under this role."""

    range: str
    role: str = ""

    def __str__(self) -> str:
        return f"{self.role}: {self.range}" if self.role else self.range


class FileFact(Protocol):
    """What `wants` goes by."""

    @property
    def media_type(self) -> str: ...


def wants(takes: Sequence[Takes], role: str, media_type: str) -> tuple[list[Takes], bool]:
    """The parameters that a file goes to (several: nobody can say to which), and whether by its role."""
    found = [(most, one) for one in takes if (most := best(media_type, one.ranges)) is not None]
    if role and (named := [one for _, one in found if one.parameter == role]):
        return named, True
    most = max((most for most, _ in found), default=None)
    return [one for how, one in found if how == most], False


def assigned(node: str, takes: Sequence[Takes], files: Sequence[Carried]) -> dict[str, Any]:
    """What each parameter gets. Raises `FileMismatch`, which says what was there."""
    there = [described(one) for one in files]
    by_role: dict[str, list[Any]] = {one.parameter: [] for one in takes}
    by_type: dict[str, list[Any]] = {one.parameter: [] for one in takes}
    for one in files:
        found, named = wants(takes, one[ROLE], one[FILE].media_type)
        if len(found) > 1:
            candidates = " or ".join(map(str, found))
            raise FileMismatch(node, f"{described(one)} could be {candidates}; nobody can say which", there)
        for to in found:
            (by_role if named else by_type)[to.parameter].append(one[FILE])
    given: dict[str, Any] = {}
    for to in takes:
        mine = by_role[to.parameter] or by_type[to.parameter]
        if to.many:
            given[to.parameter] = mine
        elif len(mine) > 1:
            candidates = ", ".join(f"{file.name} ({file.media_type})" for file in mine[:10])
            raise FileMismatch(node, f"its parameter {to} takes one file, and {len(mine)} fit: {candidates}", there)
        elif mine:
            given[to.parameter] = mine[0]
        elif not to.optional:
            raise FileMismatch(node, f"its parameter {to} is given no file", there)
        elif not to.has_default:
            given[to.parameter] = None
    return given


def described(one: Carried) -> str:
    """A file that came, for a message."""
    file = one[FILE]
    role = f"{one[ROLE]}=" if one[ROLE] else ""
    return f"{role}{file.name} ({file.media_type})"


def told(node: str, makes: Sequence[Makes], role: str, file: FileFact) -> None:
    """Raise `FileMismatch` if a node says that it makes other files than this one."""
    if not makes:
        return
    mine = [one for one in makes if one.role == role] if role else makes
    if not any(media_range(one.range).includes(media_range(file.media_type)) for one in mine):
        said = ", ".join(map(str, makes))
        name = f"{role}={file.media_type}" if role else file.media_type
        raise FileMismatch(node, f"it made a file of another type than it says (produces {said})", [name])


# --- what authors write ---------------------------------------------------------------------------------


def is_media(text: Any) -> bool:
    """Whether an option names a media type rather than a key of the state, whose names have no '/'."""
    return isinstance(text, str) and "/" in text


def ranges_of(given: Any) -> tuple[str, ...]:
    """The media types or ranges that one option names, as they are written back. Raises `BadMediaType`."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping):
        raise BadMediaType(shown(given), "expected text such as 'text/csv', or a list of them")
    found = tuple(str(media_range(text)) for text in texts)
    if not found:
        raise BadMediaType("", "expected text such as 'text/csv', or a list of them")
    return found


# --- what can come along an edge ------------------------------------------------------------------------


@attrs.frozen
class Made:
    """Files that may come: of which node (None: what the run was submitted on), and which."""

    node: str | None
    what: Makes

    def __str__(self) -> str:
        return f"{self.what} of {self.node!r}" if self.node is not None else f"{self.what}, what the run is given"


def goes_to(takes: Sequence[Takes], one: Makes) -> list[Takes]:
    """The parameters that files of this kind may go to; several equally good ones where nobody can say which."""
    kind = media_range(one.range)
    if kind.is_range:
        return [to for to in takes if may_fit(one.range, to.ranges)]
    return wants(takes, one.role, one.range)[0]
