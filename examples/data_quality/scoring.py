"""How good a table is by its checks, and how good the detectors were by what is known of the faults."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from .checks import KINDS, USUAL, Check, broken
from .tables import ROW


def found_by(checks: list[Check], table: pl.LazyFrame) -> tuple[pl.DataFrame, list[Check]]:
    """The rows that break each check (row, column, kind), and the checks with how many do."""
    marks = table.select(ROW, *(broken(check).alias(str(at)) for at, check in enumerate(checks))).collect()
    usual = [check for at, check in enumerate(checks) if _is_usual(check, marks[str(at)])]
    if usual:
        return found_by([check for check in checks if check not in usual], table)
    found = [
        marks.filter(pl.col(str(at))).select(
            ROW, pl.lit(check["column"]).alias("column"), pl.lit(check["kind"]).alias("kind")
        )
        for at, check in enumerate(checks)
    ]
    counted = [{**check, "broken": rows.height} for check, rows in zip(checks, found, strict=True)]
    empty = marks.head(0).select(ROW, pl.lit("").alias("column"), pl.lit("").alias("kind"))
    return pl.concat([empty, *found]).unique(maintain_order=True), counted


def _is_usual(check: Check, marks: pl.Series) -> bool:
    """Whether so many rows are alike that this is no fault, but how the table is."""
    return check["kind"] == "duplicates" and int(marks.sum()) > USUAL * len(marks)


def quality(checks: list[Check], table: pl.LazyFrame) -> dict[str, Any]:
    """The share of rows that break no check, and for each column the share that breaks none of its own."""
    every = [broken(check) for check in checks]
    columns = sorted({check["column"] for check in checks if check["column"]})
    found = table.select(
        pl.len().alias("rows"),
        pl.any_horizontal(pl.lit(False), *every).sum().alias("bad"),
        *(
            pl.any_horizontal([one for one, check in zip(every, checks, strict=True) if check["column"] == name])
            .sum()
            .alias(f"in {name}")
            for name in columns
        ),
    ).collect()
    rows, bad, *by_column = found.row(0)
    return {
        "rows": rows,
        "quality": share(rows - bad, rows),
        "columns": {name: share(rows - count, rows) for name, count in zip(columns, by_column, strict=True)},
    }


def share(part: int, whole: int) -> float:
    """A share, and 1 of nothing."""
    return round(part / whole, 6) if whole else 1.0


ALL: Final = "all kinds"


def detection(flagged: pl.DataFrame, truth: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Precision and recall for each kind: a finding is right if row, column and kind are.

    `elsewhere` are false alarms on rows that do have a fault, of another kind or in another column.
    """
    flagged = flagged.unique()
    right = flagged.join(truth.select(ROW, "column", "kind"), on=[ROW, "column", "kind"], how="semi")
    wrong = flagged.join(right, on=[ROW, "column", "kind"], how="anti")
    elsewhere = wrong.join(truth.select(ROW), on=ROW, how="semi")
    return {kind: _rates(kind, flagged, truth, right, elsewhere) for kind in (*KINDS, ALL)}


def _rates(kind: str, *tables: pl.DataFrame) -> dict[str, Any]:
    of_kind = pl.lit(True) if kind == ALL else pl.col("kind") == kind
    flagged, injected, right, elsewhere = (table.filter(of_kind).height for table in tables)
    return {
        "injected": injected,
        "flagged": flagged,
        "right": right,
        "elsewhere": elsewhere,
        "precision": share(right, flagged),
        "recall": share(right, injected),
    }


def against_truth(table: pl.DataFrame, truth: pl.DataFrame, rows: int) -> dict[str, Any]:
    """What became of the injected faults: of their cells how many are as they should be, and how many rows are."""
    cells = truth.filter(pl.col("column") != "")
    copies = truth.filter(pl.col("column") == "").select(ROW)
    kept = cells.join(table.select(ROW), on=ROW, how="semi")
    faulty = [
        group.join(table.select(ROW, pl.col(name).cast(pl.String).alias("is")), on=ROW)
        .filter(pl.col("is").ne_missing(pl.col("clean")))
        .select(ROW, "column")
        for (name,), group in kept.group_by("column", maintain_order=True)
    ]
    still = pl.concat([cells.head(0).select(ROW, "column"), *faulty])
    bad = pl.concat([still.select(ROW), table.select(ROW).join(copies, on=ROW, how="semi")]).unique()
    return {
        "before": share(rows - truth.select(ROW).n_unique(), rows),
        "after": share(table.height - bad.height, table.height),
        "cells": cells.height,
        "as they should be": kept.height - still.height,
        "gone with their rows": cells.height - kept.height,
        "still wrong": still.height,
        "good rows lost": rows
        - table.height
        - truth.filter(~pl.col(ROW).is_in(table[ROW].implode())).select(ROW).n_unique(),
    }
