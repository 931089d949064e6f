"""A table of customers with known faults, the same for the same seed, on every machine and in every version.

The random numbers are made here, of row and seed (SplitMix64 on columns): a million rows take a second or two, and no
library's own generator can change what a seed means.

The faults are of every kind that the detectors look for, and some of each are hard or impossible to see: a price that
is ten times too high in a wide distribution, an address with two letters of its domain swapped, a copy with another
address. And some rows only look faulty: customers who have never ordered, families that share an address, domains with
umlauts. What was done to which cell is returned beside the table. The detectors never see that; the report uses it to
tell how good they were.
"""

from __future__ import annotations

import zlib
from datetime import date
from typing import Final

import polars as pl

from .tables import ROW

FIRST: Final = [
    "Ada", "Alan", "Amara", "Ben", "Chen", "Clara", "Diego", "Edith", "Emil", "Farah", "Grace", "Hana", "Igor",
    "Ines", "Jonas", "Kenji", "Lena", "Luis", "Mara", "Nadia", "Omar", "Priya", "Rosa", "Tariq",
]  # fmt: skip
LAST: Final = [
    "Abbott", "Bauer", "Costa", "Dubois", "Eriksen", "Ferrari", "Garcia", "Haddad", "Ito", "Jansen", "Kowalski",
    "Larsen", "Moreau", "Novak", "Okafor", "Petrov", "Quinn", "Rossi", "Santos", "Tanaka", "Ueda", "Virtanen",
    "Weber", "Xu", "Yilmaz", "Zhang", "O'Neil", "Lindqvist", "Mensah", "Schmidt",
]  # fmt: skip
DOMAINS: Final = [
    "example.com", "example.org", "mail.example", "post.example", "example.net", "work.example.co", "web.example",
]  # fmt: skip
CITIES: Final = {
    "Vienna": "AT", "Graz": "AT", "Berlin": "DE", "Hamburg": "DE", "Munich": "DE", "Madrid": "ES", "Seville": "ES",
    "Paris": "FR", "Lyon": "FR", "Nantes": "FR", "Rome": "IT", "Milan": "IT", "Turin": "IT", "Oslo": "NO",
    "Bergen": "NO", "Lisbon": "PT", "Porto": "PT", "Malmo": "SE", "Uppsala": "SE", "Tokyo": "JP", "Osaka": "JP",
}  # fmt: skip
COUNTRIES: Final = sorted(set(CITIES.values()))

COPIES: Final = 0.02
"""Of all rows."""


def customers(rows: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The table, and its faults: row, column, kind, and what should have been there, as text."""
    clean = _with_copies(rows, seed)
    faulty = _with_faults(clean, seed)
    return faulty.select(pl.exclude("^_(copy|fault)_.*$")), _truth(clean, faulty)


# --- random numbers --------------------------------------------------------------------------------------------


def draw(seed: int, what: str) -> pl.Expr:
    """A number from 0 to 1 for each row, of its own for each purpose."""
    start = (seed * 0x9E3779B97F4A7C15 + zlib.crc32(what.encode()) * 0xD1342543DE82EF95) % 2**64
    mixed = pl.col(ROW).cast(pl.UInt64) * _u64(0x9E3779B97F4A7C15) + _u64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed // _u64(2**shift))) * _u64(factor)
    mixed = mixed ^ (mixed // _u64(2**31))
    return (mixed // _u64(2**11)).cast(pl.Float64) * 2.0**-53


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _one_of(values: list[str], drawn: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(values)).gather((drawn * len(values)).cast(pl.UInt32))


# --- clean rows ------------------------------------------------------------------------------------------------


def _clean(rows: int, seed: int) -> pl.DataFrame:
    def u(what: str) -> pl.Expr:
        return draw(seed, what)

    normal = (-2 * (1 - u("price")).log()).sqrt() * (u("price angle") * 6.283185307179586).cos()
    first, last = _one_of(FIRST, u("first")), _one_of(LAST, u("last"))
    local = pl.concat_str(first.str.to_lowercase(), pl.lit("."), last.str.to_lowercase(), pl.col(ROW))
    domain = pl.when(u("umlaut") < 0.001).then(pl.lit("müller.example")).otherwise(_one_of(DOMAINS, u("domain")))
    news = pl.when(u("news") < 0.02).then(pl.lit("+news")).otherwise(pl.lit(""))
    signup = pl.lit(date(2015, 1, 1)) + pl.duration(days=(u("signup") * 3650).cast(pl.Int32))
    ordered = signup + pl.duration(days=(u("ordered") ** 2 * 1500).cast(pl.Int32))
    phone = pl.concat_str(pl.lit("+"), (u("phone number") * 8.9e10 + 1e10).cast(pl.Int64))
    table = pl.select(pl.int_range(rows, dtype=pl.UInt32).alias(ROW)).lazy()
    table = table.with_columns(
        pl.concat_str(first, pl.lit(" "), last).alias("name"),
        pl.concat_str(local, news, pl.lit("@"), domain).alias("email"),
        _one_of(list(CITIES), u("city")).alias("city"),
        ((u("age") + u("age too")) * 30 + 18).cast(pl.Int64).alias("age"),
        signup.alias("signup"),
        pl.when(u("never") >= 0.001).then(ordered).alias("last_order"),
        (u("quantity") * 12 + 1).cast(pl.Int64).alias("quantity"),
        (normal * 0.8 + 3.4).exp().round(2).alias("unit_price"),
        pl.when(u("phone") < 0.45).then(phone).alias("phone"),
    )
    shared = pl.when(u("family") < 0.001).then(pl.col("email").shift(1, fill_value="family@example.org"))
    return table.with_columns(shared.otherwise("email").alias("email"), *_derived(pl.col("city"))).collect()


def _derived(city: pl.Expr) -> list[pl.Expr]:
    """What follows from the other columns."""
    return [
        city.replace_strict(CITIES, return_dtype=pl.String).alias("country"),
        (pl.col("quantity") * pl.col("unit_price")).round(2).alias("total"),
    ]


def _with_copies(rows: int, seed: int) -> pl.DataFrame:
    """Some rows stand there twice, the second time somewhere below the first and not always the same."""
    copies = round(rows * COPIES)
    originals = _clean(rows - copies, seed).with_columns(
        pl.col(ROW).cast(pl.Float64).alias("_place"), pl.lit(None, dtype=pl.UInt32).alias("_copy_of")
    )
    source = draw(seed, "source of copy") * (rows - copies)
    chosen = pl.select(pl.int_range(copies, dtype=pl.UInt32).alias(ROW)).select(
        source.cast(pl.UInt32).alias("_copy_of"),
        draw(seed, "place of copy").alias("_below"),
        draw(seed, "change of copy").alias("_change"),
        draw(seed, "city of copy").alias("_city"),
    )
    change = pl.col("_change")
    second = (
        chosen.join(originals.drop("_copy_of"), left_on="_copy_of", right_on=ROW, how="left", maintain_order="left")
        .with_columns(
            (pl.col("_place") + 0.5 + pl.col("_below") * (rows - copies - pl.col("_place"))).alias("_place"),
            pl.when(change.is_between(0.5, 0.75)).then(pl.col("name").str.to_uppercase() + " ").otherwise("name")
            .alias("name"),
            pl.when(change >= 0.9).then("second." + pl.col("email")).otherwise("email").alias("email"),
            pl.when(change.is_between(0.75, 0.9)).then(_one_of(list(CITIES), pl.col("_city"))).otherwise("city")
            .alias("city"),
            pl.col("_copy_of").alias(ROW),
        )
        .with_columns(_derived(pl.col("city")))
    )  # fmt: skip
    both = pl.concat([originals, second.select(originals.columns)]).sort("_place", maintain_order=True)
    return both.drop("_place", ROW).select(
        pl.int_range(rows, dtype=pl.UInt32).alias(ROW),
        (pl.int_range(rows) + 100_001).alias("customer_id"),
        *("name", "email", "city", "country", "age", "signup", "last_order", "quantity", "unit_price", "total"),
        *("phone", "_copy_of"),
    )


# --- faults ----------------------------------------------------------------------------------------------------


def _with_faults(clean: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The table with faults in its cells; what kind each is stands in columns of its own, `_fault_email`."""

    def u(what: str) -> pl.Expr:
        return draw(seed, f"fault {what}")

    def chosen(column: str, *shares: tuple[str, float]) -> pl.Expr:
        """At most one fault for each cell."""
        kind, so_far = pl.lit(None, dtype=pl.String), 0.0
        for name, share in shares:
            inside = u(column).is_between(so_far, so_far + share, closed="left") & pl.col(column).is_not_null()
            kind, so_far = pl.when(inside).then(pl.lit(name)).otherwise(kind), so_far + share
        return kind.alias(f"_fault_{column}")

    marked = clean.lazy().with_columns(
        chosen("email", ("nulls", 0.010), ("emails", 0.025)),
        chosen("city", ("nulls", 0.005)),
        chosen("country", ("nulls", 0.010), ("inconsistencies", 0.010)),
        chosen("age", ("nulls", 0.015), ("outliers", 0.010)),
        chosen("last_order", ("inconsistencies", 0.010)),
        chosen("unit_price", ("nulls", 0.015), ("outliers", 0.010)),
        chosen("total", ("inconsistencies", 0.010)),
    )
    email, price, how = pl.col("email"), pl.col("unit_price"), u("how").__mul__(8)
    wrong = {
        "email": pl.when(how < 1).then(email.str.replace("@", " at "))
        .when(how < 2).then(email.str.replace("@", ""))
        .when(how < 3).then(email.str.replace(r"\.", ".."))
        .when(how < 4).then(email.str.replace(r"\.([a-z]+)$", ",$1"))
        .when(how < 5).then(email.str.replace(r"\.[a-z.]+$", ""))
        .when(how < 6).then(email + " ")
        .when(how < 7).then(email.str.replace("@", "@@"))
        .otherwise(email.str.replace("@(.)(.)", "@$2$1")),
        "country": _one_of(COUNTRIES, (_index_of(pl.col("country")) + 1 + (how / 8 * (len(COUNTRIES) - 1)).floor())
        .mod(len(COUNTRIES)) / len(COUNTRIES) + 1e-9),
        "age": pl.when(how < 2).then(-pl.col("age")).when(how < 5).then(999).when(how < 6).then(pl.col("age") * 10)
        .otherwise(pl.col("age") + 45),
        "last_order": pl.col("signup") - pl.duration(days=(how * 40 + 1).cast(pl.Int32)),
        "unit_price": pl.when(how < 5).then(price * 100).when(how < 6).then(-price).otherwise(price * 10).round(2),
        "total": (pl.col("total") * (1.1 + how / 8)).round(2),
    }  # fmt: skip

    def damaged(column: str) -> pl.Expr:
        fault = pl.col(f"_fault_{column}")
        spoilt = pl.when(fault == "nulls").then(None)
        rest = spoilt.when(fault.is_not_null()).then(wrong[column]) if column in wrong else spoilt
        return rest.otherwise(pl.col(column)).alias(column)

    columns = [name.removeprefix("_fault_") for name in marked.collect_schema() if name.startswith("_fault_")]
    return marked.with_columns(map(damaged, columns)).collect()


def _index_of(country: pl.Expr) -> pl.Expr:
    return country.replace_strict({name: at for at, name in enumerate(COUNTRIES)}, return_dtype=pl.Float64)


def _truth(clean: pl.DataFrame, faulty: pl.DataFrame) -> pl.DataFrame:
    found = [
        faulty.lazy()
        .filter(pl.col(mark).is_not_null())
        .select(ROW, pl.lit(column).alias("column"), pl.col(mark).alias("kind"))
        .join(clean.lazy().select(ROW, pl.col(column).cast(pl.String).alias("clean")), on=ROW)
        for mark in faulty.columns
        if mark.startswith("_fault_") and (column := mark.removeprefix("_fault_"))
    ]
    copies = (
        clean.lazy()
        .filter(pl.col("_copy_of").is_not_null())
        .select(ROW, pl.lit("").alias("column"), pl.lit("duplicates").alias("kind"))
        .with_columns(pl.lit(None, dtype=pl.String).alias("clean"))
    )
    return pl.concat([*found, copies]).sort("kind", "column", ROW).collect()
