"""What a table looks like: of each column what it holds, and what holds between columns.

Nothing here knows the customers. Roles and relations are read off the data, so that any CSV or Parquet file will do,
and so they can be wrong: a relation that holds in nearly all rows is taken for a rule that the others break.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any, Final

import polars as pl

from .tables import OURS, ROW

SAMPLE: Final = 50_000
"""Relations are looked for in so many rows, evenly spread."""
MOST_CATEGORIES: Final = 500
MOST_COLUMNS: Final = 12
"""Relations are looked for among so many columns of a kind: pairs and triples grow fast."""
SEEN: Final = f"{OURS}seen"
CENT: Final = 0.011
"""What rounding may make of a product."""


def profile(table: pl.LazyFrame) -> dict[str, Any]:
    """Columns and relations as plain data."""
    schema = {name: kind for name, kind in table.collect_schema().items() if name != ROW}
    found = table.select(pl.len().alias("rows"), *_measures(schema)).collect().row(0, named=True)
    rows: int = found["rows"]
    columns = {name: _column(name, kind, found, rows) for name, kind in schema.items()}
    every = max(1, rows // SAMPLE)
    sample = table.select(pl.exclude(ROW)).gather_every(every).collect()
    relations = [*_orders(columns, sample), *_dependencies(columns, sample), *_products(columns, sample)]
    return {"rows": rows, "columns": columns, "relations": relations}


def _measures(schema: dict[str, pl.DataType]) -> Iterator[pl.Expr]:
    for name, kind in schema.items():
        column = pl.col(name)
        yield column.null_count().alias(f"{name}/nulls")
        if kind.is_numeric() or kind in (pl.String, pl.Date, pl.Datetime, pl.Boolean, pl.Categorical, pl.Enum):
            yield column.n_unique().alias(f"{name}/distinct")
        if kind == pl.String:
            yield column.str.contains("@", literal=True).mean().alias(f"{name}/at")
        if kind.is_numeric():
            yield column.min().alias(f"{name}/least")
            yield column.max().alias(f"{name}/most")
            yield (column > 0).mean().alias(f"{name}/positive")
            for share in (25, 50, 75):
                yield column.cast(pl.Float64).quantile(share / 100, "nearest").alias(f"{name}/q{share}")


def _column(name: str, kind: pl.DataType, found: dict[str, Any], rows: int) -> dict[str, Any]:
    nulls, distinct = found[f"{name}/nulls"], found.get(f"{name}/distinct", 0)
    column = {"type": str(kind), "nulls": nulls, "distinct": distinct, "role": "other"}
    if rows and not nulls and distinct == rows and (kind.is_integer() or kind == pl.String):
        column["role"] = "key"
    elif kind.is_numeric():
        column["role"] = "number"
        column |= {part: found[f"{name}/{part}"] for part in ("least", "most", "positive", "q25", "q50", "q75")}
    elif kind in (pl.Date, pl.Datetime):
        column["role"] = "date"
    elif kind == pl.String and (found[f"{name}/at"] or 0) >= 0.7:
        column["role"] = "email"
    elif kind == pl.String and distinct <= min(MOST_CATEGORIES, rows // 4):
        column["role"] = "category"
    elif kind == pl.String:
        column["role"] = "text"
    return column


def with_role(columns: dict[str, Any], role: str) -> list[str]:
    """The columns that have this role, as many as relations are looked for among."""
    return [name for name, column in columns.items() if column["role"] == role][:MOST_COLUMNS]


def _orders(columns: dict[str, Any], sample: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Pairs of dates of which one comes first."""
    for first, second in permutations(with_role(columns, "date"), 2):
        if columns[first]["type"] != columns[second]["type"]:
            continue
        holds, truly = sample.select(
            (pl.col(first) <= pl.col(second)).mean().alias("holds"),
            (pl.col(first) < pl.col(second)).mean().alias("truly"),
        ).row(0)
        if (holds or 0) >= 0.97 and truly >= 0.5:
            yield {"relation": "order", "first": first, "second": second}


def _dependencies(columns: dict[str, Any], sample: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Pairs of categories of which one tells the other, as a city tells its country."""
    for known, told in permutations(with_role(columns, "category"), 2):
        pairs = sample.select(known, told).drop_nulls().group_by(known, told).agg(pl.len().alias(SEEN))
        together: int = pairs.select(pl.col(SEEN).sum()).item()
        if not together:
            continue
        best = pairs.sort([SEEN, told], descending=[True, False]).unique(known, keep="first").sort(known)
        commonest: int = pairs.group_by(told).agg(pl.col(SEEN).sum()).select(pl.col(SEEN).max()).item()
        # Where one value is nearly everywhere, everything "tells" it.
        if best.select(pl.col(SEEN).sum()).item() >= 0.95 * together and commonest <= 0.9 * together:
            sure = best.filter(pl.col(SEEN) >= 3)
            yield {"relation": "dependency", "known": known, "told": told, "map": dict(sure.select(known, told).rows())}


def _products(columns: dict[str, Any], sample: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Triples of numbers of which two multiplied make the third."""
    numbers = with_role(columns, "number")
    triples = [(*two, one) for two in combinations(numbers, 2) for one in numbers if one not in two]
    if not triples:
        return
    shares = sample.select(
        ((pl.col(one) * pl.col(other) - pl.col(product)).abs() <= CENT).mean().alias(str(at))
        for at, (one, other, product) in enumerate(triples)
    ).row(0)
    for share, (one, other, product) in zip(shares, triples, strict=True):
        # 0 times anything is 0: of a column that hardly varies nothing can be said.
        if (share or 0) >= 0.8 and min(columns[name]["distinct"] for name in (one, other, product)) > 2:
            yield {"relation": "product", "factors": [one, other], "product": product}
