"""What is asked of a table, as data, and the same as an expression that holds for each row that breaks it.

A check is made by a detector from the profile, travels through the run's state, and is asked again of the repaired
table. Kind and column say where it is counted.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from .profiling import CENT, with_role

Check = dict[str, Any]
Profile = dict[str, Any]

KINDS: Final = ("nulls", "emails", "outliers", "inconsistencies", "duplicates")

OPTIONAL: Final = 0.2
"""A column with a larger share of nulls is taken to be optional."""
USUAL: Final = 0.2
"""If a larger share of the rows says what others say, that is how the table is."""
FENCE: Final = 2.2
"""Outliers lie so many interquartile ranges outside: of a normal distribution about 3 in 10,000."""
SKEWED: Final = 1.4
"""From here on the upper half is so much wider than the lower that logarithms are compared."""

_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
ADDRESS: Final = rf"^{_ATOM}(\.{_ATOM})*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{{2,}}$"


# --- from the profile ------------------------------------------------------------------------------------------


def null_checks(profile: Profile) -> list[Check]:
    """Columns that are nearly always filled should be."""
    rows = profile["rows"]
    return [
        {"kind": "nulls", "column": name, "check": "filled"}
        for name, column in profile["columns"].items()
        if 0 < column["nulls"] < OPTIONAL * rows
    ]


def email_checks(profile: Profile) -> list[Check]:
    """Addresses should look like some."""
    emails = with_role(profile["columns"], "email")
    return [{"kind": "emails", "column": name, "check": "address"} for name in emails]


def outlier_checks(profile: Profile) -> list[Check]:
    """Numbers should lie where most do."""
    found = []
    for name in with_role(profile["columns"], "number"):
        column = profile["columns"][name]
        fences = _fences(column)
        if fences is not None and column["distinct"] > 2:
            found.append(
                {"kind": "outliers", "column": name, "check": "between", "least": fences[0], "most": fences[1]}
            )
    return found


def _fences(column: dict[str, Any]) -> tuple[float, float] | None:
    low, middle, high = (column[quarter] for quarter in ("q25", "q50", "q75"))
    if low is None or low == high:
        return None
    if low > 0 and column["positive"] >= 0.95 and high - middle > SKEWED * (middle - low):
        ratio = (high / low) ** FENCE
        return round(low / ratio, 6), round(high * ratio, 6)
    reach = FENCE * (high - low)
    return round(low - reach, 6), round(high + reach, 6)


def relation_checks(profile: Profile) -> list[Check]:
    """What holds between columns in nearly all rows should hold in all. A product is counted with what it comes to."""
    last = {"order": "second", "dependency": "told", "product": "product"}
    return [
        {"kind": "inconsistencies", "column": relation[last[relation["relation"]]], "check": "relation", **relation}
        for relation in profile["relations"]
    ]


def duplicate_checks(profile: Profile) -> list[Check]:
    """No two rows should say the same, whatever their keys and spelling; nor have the address that all others have
    for themselves."""
    columns, rows = profile["columns"], profile["rows"]
    texts = [name for name, column in columns.items() if column["type"] == "String"]
    said = [name for name, column in columns.items() if column["role"] != "key"]
    alone = [name for name in with_role(columns, "email") if columns[name]["distinct"] >= 0.9 * rows]
    return [
        {"kind": "duplicates", "column": "", "check": "once", "of": of, "texts": [name for name in of if name in texts]}
        for of in (said, *([name] for name in alone))
        if of
    ]


# --- as expressions --------------------------------------------------------------------------------------------


def columns_of(check: Check) -> list[str]:
    """The columns that it looks at."""
    named = [check.get(part) for part in ("first", "second", "known", "told", "product")]
    return [name for name in (*named, *check.get("factors", ()), check["column"]) if name] or check["of"]


def in_words(check: Check) -> str:
    """What it is about, for people."""
    match check:
        case {"relation": "order", "first": first, "second": second}:
            return f"{first} \N{LESS-THAN OR EQUAL TO} {second}"
        case {"relation": "dependency", "known": known, "told": told}:
            return f"{known} \N{RIGHTWARDS ARROW} {told}"
        case {"relation": "product", "factors": [one, other], "product": product}:
            return f"{one} \N{MULTIPLICATION SIGN} {other} = {product}"
        case {"of": [name]}:
            return f"{name}"
        case {"of": _}:
            return "whole rows"
    return f"{check['column']}"


def broken(check: Check) -> pl.Expr:
    """True in each row that breaks the check. What is missing breaks none but `filled`."""
    return _broken(check).fill_null(False)


def _broken(check: Check) -> pl.Expr:
    column = pl.col(check["column"]) if check["column"] else None
    match check:
        case {"check": "filled"} if column is not None:
            return column.is_null()
        case {"check": "address"} if column is not None:
            return ~column.str.contains(ADDRESS)
        case {"check": "between", "least": least, "most": most} if column is not None:
            return ~column.is_between(least, most)
        case {"relation": "order", "first": first, "second": second}:
            return pl.col(first) > pl.col(second)
        case {"relation": "dependency", "known": known, "told": told, "map": told_by}:
            return pl.col(told) != told_from(known, told_by)
        case {"relation": "product", "factors": [one, other], "product": product}:
            return (pl.col(one) * pl.col(other) - pl.col(product)).abs() > CENT
        case {"check": "once", "of": of, "texts": texts}:
            return _seen_before(of, texts)
    raise ValueError(f"there is no such check: {check!r}")


def told_from(known: str, told_by: dict[str, str]) -> pl.Expr:
    """What one column tells of another; null where it tells nothing."""
    return pl.col(known).replace_strict(told_by, default=None, return_dtype=pl.String)


def _seen_before(of: list[str], texts: list[str]) -> pl.Expr:
    """Case and spaces around make no difference."""
    alike = [pl.col(name).str.strip_chars().str.to_lowercase() if name in texts else pl.col(name) for name in of]
    # By a hash of 64 bits: among a million rows two different ones are taken for the same once in 30 million tables.
    first = pl.struct(alike).hash().is_first_distinct()
    return ~first if len(of) > 1 else ~first & pl.col(of[0]).is_not_null()
