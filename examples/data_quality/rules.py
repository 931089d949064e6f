"""Rules: for each check that rows break, what to do about it; and a table with rules applied.

The mildest measure first. Level 1 mends a row with what is in it (an address with a space, a price that follows from
the total); level 2 infers from other rows (the country of a city, a median); level 3 sets rows aside that nothing
helped. A round applies the rules of one level, so that each is tried on what the milder ones have left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import polars as pl

from .checks import ADDRESS, Check, Profile, broken, in_words, told_from
from .tables import OURS

Rule = dict[str, Any]

SET_ASIDE: Final = 3
_WAS: Final = f"{OURS}was_"
_OUT: Final = f"{OURS}out_"


def rules_for(checks: list[Check], profile: Profile, level: int) -> list[Rule]:
    """The rules for checks that are broken, of this level, or of the next one that has any."""
    suspect = [check for check in checks if check["broken"]]
    for at in range(min(level, SET_ASIDE), SET_ASIDE + 1):
        found = [
            {"level": at, "repair": repair, "of": check}
            for check in suspect
            if (repair := _repair(check, profile, at)) is not None
        ]
        if found:
            return sorted(found, key=lambda rule: _ORDER.index(rule["repair"]["how"]))
    return []


# Spelling before what is looked up by it; numbers before what is computed from them.
_ORDER: Final = ("respell", "divide", "look up", "median", "multiply", "set aside", "drop")


def _repair(check: Check, profile: Profile, level: int) -> dict[str, Any] | None:
    if check["kind"] == "duplicates":
        return {"how": "drop"} if level == 1 else None
    if level == SET_ASIDE:
        return {"how": "set aside"}
    return next((repair for at, repair in _repairs(check, profile) if at == level), None)


def _repairs(check: Check, profile: Profile) -> Iterator[tuple[int, dict[str, Any]]]:
    name = check["column"]
    column = profile["columns"][name]
    match check["check"]:
        case "address":
            yield 1, {"how": "respell"}
        case "filled" | "between" if column["role"] == "number":
            for relation in profile["relations"]:
                if relation["relation"] == "product" and name in relation["factors"]:
                    (other,) = [factor for factor in relation["factors"] if factor != name]
                    yield 1, {"how": "divide", "product": relation["product"], "by": other}
                elif relation["relation"] == "product" and name == relation["product"]:
                    yield 2, {"how": "multiply", "factors": relation["factors"]}
            yield 2, {"how": "median", "value": column["q50"]}
        case "filled":
            for relation in profile["relations"]:
                if relation["relation"] == "dependency" and relation["told"] == name:
                    yield 2, {"how": "look up", "known": relation["known"], "map": relation["map"]}
        case "relation" if check["relation"] == "dependency":
            yield 2, {"how": "look up", "known": check["known"], "map": check["map"]}
        case "relation" if check["relation"] == "product":
            yield 2, {"how": "multiply", "factors": check["factors"]}


# --- applying --------------------------------------------------------------------------------------------------


def apply(rules: list[Rule], table: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame, list[dict[str, Any]]]:
    """The table as the rules leave it, the rows that they set aside, and for each rule how many cells or rows."""
    mending = [rule for rule in rules if rule["repair"]["how"] not in ("set aside", "drop")]
    schema = table.collect_schema()
    for at, rule in enumerate(mending):
        name = rule["of"]["column"]
        was = pl.col(name).alias(f"{_WAS}{at}")
        changed = pl.col(name).ne_missing(pl.col(f"{_WAS}{at}")).alias(f"{_WAS}{at}")
        table = table.with_columns(was, _mended(rule, schema[name])).with_columns(changed)
    outs = [rule for rule in rules if rule["repair"]["how"] in ("set aside", "drop")]
    table = table.with_columns(broken(rule["of"]).alias(f"{_OUT}{at}") for at, rule in enumerate(outs))
    done = table.collect()
    if not rules:
        return done, done.head(0), []
    left = [pl.col(f"{_OUT}{at}") for at in range(len(outs))]
    counts = done.select(
        *(pl.col(f"{_WAS}{at}").sum() for at in range(len(mending))),
        *((mark & ~_any(left[:at])).sum() for at, mark in enumerate(left)),  # each row is counted once
    ).row(0)
    aside = [pl.col(f"{_OUT}{at}") for at, rule in enumerate(outs) if rule["repair"]["how"] == "set aside"]
    dropped = [pl.col(f"{_OUT}{at}") for at, rule in enumerate(outs) if rule["repair"]["how"] == "drop"]
    rows = pl.exclude(f"^{_WAS}.*$", f"^{_OUT}.*$")
    out, gone = _any(aside), _any(dropped)
    rest = done.filter(~out & ~gone).select(rows)
    told = [
        {"kind": rule["of"]["kind"], "of": in_words(rule["of"]), "how": how(rule), "count": count}
        for rule, count in zip([*mending, *outs], counts, strict=True)
    ]
    return rest, done.filter(out & ~gone).select(rows), told


def _any(marks: Iterable[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *marks)


def _mended(rule: Rule, kind: pl.DataType) -> pl.Expr:
    check, repair = rule["of"], rule["repair"]
    column = pl.col(check["column"])
    better = _better(repair, column)
    if kind.is_integer():
        better = better.round(0)
    # Only where it is wrong, and only by what is right.
    usable = better.is_not_null()
    if check["check"] == "address":
        usable &= better.str.contains(ADDRESS)
    elif check["check"] == "between":
        usable &= better.is_between(check["least"], check["most"])
    return pl.when(broken(check) & usable).then(better).otherwise(column).cast(kind).alias(check["column"])


def _better(repair: dict[str, Any], column: pl.Expr) -> pl.Expr:
    match repair:
        case {"how": "respell"}:
            return _respelt(column)
        case {"how": "divide", "product": product, "by": by}:
            return pl.when(pl.col(by) != 0).then((pl.col(product) / pl.col(by)).round(2))
        case {"how": "look up", "known": known, "map": told_by}:
            return told_from(known, told_by)
        case {"how": "median", "value": value}:
            return pl.lit(value)
        case {"how": "multiply", "factors": [one, other]}:
            return (pl.col(one) * pl.col(other)).round(2)
    raise ValueError(f"there is no such repair: {repair!r}")


def _respelt(address: pl.Expr) -> pl.Expr:
    spelt = address.str.strip_chars().str.replace(r"\s+(?i:at)\s+", "@").str.replace_all(r"\s", "")
    spelt = spelt.str.replace_all(",", ".", literal=True)
    return spelt.str.replace_all(r"\.{2,}", ".").str.replace_all("@{2,}", "@")


def how(rule: Rule) -> str:
    """A rule's measure in words."""
    match rule["repair"]:
        case {"how": "respell"}:
            return "respell where that makes an address"
        case {"how": "divide", "product": product, "by": by}:
            return f"{product} divided by {by}"
        case {"how": "look up", "known": known}:
            return f"look up by {known}"
        case {"how": "median", "value": value}:
            return f"the median, {value:g}"
        case {"how": "multiply", "factors": [one, other]}:
            return f"{one} times {other}"
        case {"how": "drop"}:
            return "drop all but the first"
    return "set the row aside"
