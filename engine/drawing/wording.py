"""What a condition, a router or a worker is called in a drawing."""

from __future__ import annotations

import ast
import linecache
import re
import types
from collections.abc import Iterator
from functools import partial
from typing import Any


def called(function: Any, unnamed: str) -> str:
    """Its text if it was written as one, a lambda's source if that is at hand, or its name."""
    text = function if isinstance(function, str) else getattr(function, "text", None)
    if isinstance(text, str) and text.strip():
        return text
    if isinstance(function, partial):
        return called(function.func, unnamed)
    if type(function).__module__ == "operator":
        return repr(function).removeprefix("operator.")
    name = getattr(function, "__name__", None)
    if name == "<lambda>":
        return source_of_lambda(function) or unnamed
    return name if isinstance(name, str) and name else unnamed


def source_of_lambda(function: Any) -> str | None:
    """The expression of a lambda, or None where its file is not at hand or is not what it was.

    Its instructions know where they come from, so nothing needs to be searched for or parsed in a whole file.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return None
    places = list(_places(code))
    if not places:
        return None
    first, last = min(begin for begin, _ in places), max(end for _, end in places)
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first[0], last[0] + 1)]
    if not all(lines):
        return None
    before, after = lines[0][: first[1]], lines[-1][last[1] :]
    lines[-1] = lines[-1][: last[1]]
    lines[0] = lines[0][first[1] :]
    source = _with_brackets(*(part.decode(errors="replace") for part in (before, b"".join(lines), after)))
    source = " ".join(source.split())
    return source if _could_be(source, code) else None


def _places(code: types.CodeType) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where each instruction begins and ends; those that stand for nothing written have no width."""
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or column is None or end_column is None:
            continue
        if (line, column) < (end_line, end_column):
            yield (line, column), (end_line, end_column)


def _with_brackets(before: str, source: str, after: str) -> str:
    """No instruction stands for the brackets at either end of an expression: take those in that are missing."""
    while (missing := source.count(")") - source.count("(")) > 0 and before.rstrip().endswith("("):
        before = before.rstrip()
        before, source = before[:-1], before[-1] + source
    while missing < 0 and after.lstrip().startswith(")"):
        after = after.lstrip()
        source, after, missing = source + after[0], after[1:], missing + 1
    return source


def _could_be(source: str, code: types.CodeType) -> bool:
    """Whether it is an expression with the names that the code uses: the file may have been changed meanwhile."""
    try:
        ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    words = set(re.findall(r"\w+", source))
    return words.issuperset(code.co_names) and words.issuperset(code.co_freevars)
