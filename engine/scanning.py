"""The text of a condition, read into a syntax tree.

Python's own parser makes the tree, so that `and`, `not` and `<` bind as everybody knows. Before it sees a text, its
length is checked and its tokens are: comments, prefixes of strings, numbers that are not plain, operators that no
condition has and odd letters are refused here, each with its column. So little is left to the parser that it finds
nothing to warn of (which it would do through a filter that all threads share), and nothing in the text is overlooked.
Its limits are checked on the tree: what walks it later may recurse.
"""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from typing import Any, Final

import attrs

from .errors import ConditionFault, ConditionInvalid
from .typecheck import shown

MOST_CHARACTERS: Final = 2_000
MOST_NODES: Final = 400
MOST_DEPTH: Final = 40

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
    | (?P<number>(?:[0-9](?:_?[0-9])*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<wrong>\*\*|<<|>>|:=|->|\.\.\.|&&|\|\||<>)
    | (?P<sign>==|!=|<=|>=|//|[-+*/%<>()\[\]{},.:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\(?:[\\'\"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|(?P<wrong>.))", re.DOTALL
)
_NO_CHARACTER: Final = re.compile(r"[\0\ud800-\udfff]")
_PREFIXES: Final = frozenset("bfrtu")
_CURES: Final = {
    "**": "write `x * x`",
    "=": "did you mean `==`?",
    "<>": "did you mean `!=`?",
    "!": "did you mean `not`?",
    "&&": "did you mean `and`?",
    "&": "did you mean `and`?",
    "||": "did you mean `or`?",
    "|": "did you mean `or`?",
    ":=": "did you mean `==`?",
    "?": "write `a if condition else b`",
}


def refuse(text: str, column: int, message: str, hint: str = "") -> ConditionInvalid:
    """The error for a text with this one fault."""
    return ConditionInvalid(text, [ConditionFault("bad_condition", column, message, hint)])


@attrs.frozen
class Scanned:
    """A text with its tree, and where in the text a part of the tree stands. Columns count characters, from 1."""

    text: str
    tree: ast.expr
    _offset: int
    _encoded: bytes

    def _index(self, offset: int) -> int:
        # The parser counts bytes.
        return self._offset + len(self._encoded[:offset].decode())

    def column(self, node: ast.expr) -> int:
        """Where a part begins."""
        return self._index(node.col_offset) + 1

    def end(self, node: ast.expr) -> int:
        """The column after a part."""
        assert node.end_col_offset is not None  # the parser sets it
        return self._index(node.end_col_offset) + 1

    def operator_after(self, node: ast.expr) -> int:
        """The column of the operator that follows a part."""
        found = _GAP.match(self.text, self.end(node) - 1)
        assert found is not None  # it matches nothing, too
        return found.end() + 1

    def said(self, node: ast.expr) -> str:
        """A part as it was written."""
        part = self.text[self.column(node) - 1 : self.end(node) - 1]
        return " ".join("".join(c if c.isprintable() else " " for c in part).split())


_GAP: Final = re.compile(r"[\s)]*")


def scan(text: Any) -> Scanned:
    """The tree of a text within the limits. Raises `ConditionInvalid`."""
    if not isinstance(text, str):
        raise refuse("", 1, f"a condition is a text, found {shown(text)}", 'write it as "state.key < 1"')
    if len(text) > MOST_CHARACTERS:
        message = f"it has {len(text):,} characters, {MOST_CHARACTERS:,} are allowed"
        raise refuse(
            text[:MOST_CHARACTERS], MOST_CHARACTERS, message, "let a node work it out and put it into the state"
        )
    text = str(text)
    if found := _NO_CHARACTER.search(text):
        # Half a character cannot be encoded, so the error must not carry it on.
        whole = _NO_CHARACTER.sub("?", text)
        raise refuse(whole, found.start() + 1, f"{found[0]!r} is no character", "leave it out")
    _check_tokens(text)
    line = re.sub(r"[\t\r\n]", " ", text)
    bare = line.strip(" ")
    if not bare:
        raise refuse(text, 1, "the condition is empty", "leave it out if the edge is always taken")
    offset = len(line) - len(line.lstrip(" "))
    scanned = Scanned(text, _parse(text, bare, offset), offset, bare.encode())
    _check_size(scanned)
    return scanned


# --- tokens ---------------------------------------------------------------------------------------------


def _check_tokens(text: str) -> None:
    place, before, previous, apart = 0, "", "", True
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup == "wrong":
            raise _wrong(text, place, found[0] if found else text[place])
        kind, token = str(found.lastgroup), found[0]
        place = found.end()
        if kind == "space":
            apart = True
            continue
        if kind == "string":
            if before == "string":
                raise refuse(text, found.start() + 1, "two strings side by side", "put a comma or an operator between")
            if before == "word" and not apart and {*previous.lower()} <= _PREFIXES:
                column = found.start() - len(previous) + 1
                raise refuse(text, column, f"a string has no prefix, found {previous!r}", "leave it out")
            _check_string(text, found.start(), token)
        elif kind == "number" and (following := text[place : place + 1]) and _joins(following):
            hint = "numbers are written as 12 or 0.5"
            raise refuse(text, found.start() + 1, f"{token + following!r} is no number", hint)
        elif kind == "word":
            _check_word(text, found.start(), token, previous)
        before, previous, apart = kind, token, False


def _joins(character: str) -> bool:
    return character == "_" or character.isalnum()


def _wrong(text: str, place: int, found: str) -> ConditionInvalid:
    if found in "\"'":
        return refuse(text, place + 1, "this string does not end", f"close it with {found} on the same line")
    return refuse(text, place + 1, f"{found!r} is no part of a condition", _CURES.get(found, ""))


def _check_string(text: str, place: int, token: str) -> None:
    for escape in _ESCAPE.finditer(token):
        if escape["wrong"]:
            column = place + escape.start() + 1
            raise refuse(text, column, f"{escape[0]!r} is no escape", r"a backslash itself is written as \\")


def _check_word(text: str, place: int, token: str, previous: str) -> None:
    # The parser would read `ﬁ` as `fi`, and find no difference between them.
    if not token.isidentifier() or not unicodedata.is_normalized("NFKC", token):
        raise refuse(
            text, place + 1, f"{token!r} is not written in plain letters", f"write `state[{token!r}]` for a key"
        )
    if previous == "." and keyword.iskeyword(token):
        raise refuse(
            text, place + 1, f"`.{token}` is no key, since {token!r} is a word of Python", f"write `[{token!r}]`"
        )


# --- the tree -------------------------------------------------------------------------------------------


def _parse(text: str, bare: str, offset: int) -> ast.expr:
    try:
        return ast.parse(bare, mode="eval").body
    except SyntaxError as error:
        if not error.offset:
            raise refuse(text, offset + len(bare) + 1, "something is missing at its end") from None
        column = offset + min(error.offset, len(bare) + 1)
        raise refuse(text, column, f"it cannot be read: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError):
        raise refuse(text, offset + 1, "it is nested too deeply to be read", "let a node work it out") from None


def _check_size(scanned: Scanned) -> None:
    nodes, level = 0, [scanned.tree]
    depth = 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if nodes > MOST_NODES:
            message = f"it has more than {MOST_NODES} parts"
            raise refuse(scanned.text, scanned.column(level[0]), message, "let a node work it out")
        if depth > MOST_DEPTH:
            message = f"it is nested more than {MOST_DEPTH} deep"
            raise refuse(scanned.text, scanned.column(level[0]), message, "let a node work it out")
        level = [inner for node in level for inner in _inside(node)]


def _inside(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        # What is no expression itself (the clause of a comprehension, a keyword) may hold some.
        found += [child] if isinstance(child, ast.expr) else _inside(child)
    return found
