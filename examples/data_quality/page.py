"""The report as one HTML page that needs nothing else: style and charts are in it, and there is no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from . import charts
from .charts import percent

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6b7c; --faint: #e4e8ee; --card: #fff; --back: #f4f6f9;
  --blue: #2463c4; --teal: #0d9488; --red: #d9480f; --good: #0f8a4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa7b8; --faint: #2a3441; --card: #182029;
  --back: #10161d; --blue: #6ea8ff; --teal: #2dd4bf; --red: #ff8a4c; --good: #4ade80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 28px; margin: 0 0 2px; letter-spacing: -.01em; } h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 14px; color: var(--soft); } p b { color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px; margin: 22px 0; }
.tile, section { background: var(--card); border: 1px solid var(--faint); border-radius: 12px; }
.tile { padding: 14px 18px; color: var(--soft); font-size: 13px; }
.tile b { white-space: nowrap;
  display: block; font-size: 25px; line-height: 1.25; color: var(--ink); font-variant-numeric: tabular-nums; }
.tile.good b { color: var(--good); } .tile.bad b { color: var(--red); }
svg + table { margin-top: 18px; }
section { padding: 20px 24px 22px; margin: 0 0 16px; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 600px; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); font-variant-numeric: tabular-nums; } svg .axis { fill: var(--soft); font-size: 12px; }
svg .value { font-size: 12.5px; font-weight: 600; } svg .on-dark { fill: #fff; font-size: 12.5px; font-weight: 600; }
.grid { stroke: var(--faint); } .area { fill: var(--blue); opacity: .1; }
.line { fill: none; stroke: var(--blue); stroke-width: 2.5; stroke-linejoin: round; }
.dot { fill: var(--card); stroke: var(--blue); stroke-width: 2.5; }
.target { stroke: var(--teal); stroke-width: 1.5; stroke-dasharray: 5 4; } svg .target-name { fill: var(--teal); }
.clean, .track { fill: var(--faint); opacity: .6; } .fault { fill: #c2410c; }
.precision { fill: var(--blue); } .recall { fill: var(--teal); }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 12px; }
.keys { white-space: nowrap; color: var(--ink); }
.key.one { background: var(--blue); } .key.two { background: var(--teal); }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--faint); } tr:last-child td { border-bottom: 0; }
.n { text-align: right; } td.round { font-weight: 600; white-space: nowrap; vertical-align: top; }
"""


def page(report: dict[str, Any]) -> str:
    """The page."""
    source = report["source"]
    name = source.get("file") or f"{source['rows']:,} customers, seed {source['seed']}"
    body = "".join(_body(report, escape(name)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data quality: {escape(name)}</title><style>{STYLE}</style></head><body><main>{body}</main></body>"
        "</html>\n"
    )


def _body(report: dict[str, Any], name: str) -> Iterator[str]:
    quality, rows, rounds = report["quality"], report["rows"], report["rounds"]
    yield f"<h1>Data quality</h1><p>{name}; {report['ended']}</p>"
    reached = "good" if quality["after"] >= report["target"] else "bad"
    tiles = [
        ("", percent(quality["before"], 2), "quality before"),
        (reached, percent(quality["after"], 2), f"quality after; target {percent(report['target'], 0)}"),
        ("", f"{rows['out']:,}", f"clean rows of {rows['in']:,}"),
        ("", f"{rows['in'] - rows['out'] - rows['aside']:,}", "copies dropped"),
        ("", f"{rows['aside']:,}", "rows set aside"),
    ]
    yield (
        '<div class="tiles">'
        + "".join(f'<div class="tile {kind}"><b>{value}</b>{what}</div>' for kind, value, what in tiles)
        + "</div>"
    )
    labels = ["start", *(f"round {each['iteration']}" for each in rounds)]
    values = [quality["before"], *(each["after"] for each in rounds)]
    yield _section(
        "Quality from round to round",
        "The share of rows that break none of the checks that the data itself suggests.",
        charts.line(list(zip(labels, values, strict=True)), report["target"]),
    )
    columns = _by_column(rounds)
    if columns:
        yield _section(
            "Quality of each column",
            "The share of cells without fault at the start and after each round; rows set aside are not counted.",
            charts.heat(columns, labels),
        )
    if "detection" in report:
        yield from _measured(report)
    yield _section("What was done", "The mildest measures first; what nothing helped is set aside.", _rules(rounds))


def _by_column(rounds: list[dict[str, Any]]) -> dict[str, list[float]]:
    every = sorted({name for each in rounds for when in each["columns"].values() for name in when})
    found = {
        name: [
            rounds[0]["columns"]["before"].get(name, 1.0),
            # A column of which nothing is asked any more has no fault left.
            *(each["columns"]["after"].get(name, 1.0) for each in rounds),
        ]
        for name in every
    }
    return {name: values for name, values in found.items() if min(values) < 1} or found


def _measured(report: dict[str, Any]) -> Iterator[str]:
    detection, truth = report["detection"], report["truth"]
    key = '<span class="keys"><i class="key one"></i>precision <i class="key two"></i>recall</span>'
    yield _section(
        "How good the detectors were",
        f"Measured against {detection['all kinds']['injected']:,} injected faults, which they never saw. A finding is "
        f"right if row, column and kind are. {key}",
        charts.rates(detection)
        + _table(
            ["kind of fault", "injected", "flagged", "right", "false alarms", "of them on rows with another fault"],
            (
                [kind, r["injected"], r["flagged"], r["right"], r["flagged"] - r["right"], r["elsewhere"]]
                for kind, r in detection.items()
            ),
        ),
    )
    yield _section(
        "Against the truth",
        f"Of the rows as they came, <b>{percent(truth['before'], 2)}</b> were as they should be; of those "
        f"that are left, <b>{percent(truth['after'], 2)}</b> are. Checks cannot see everything, a median is a guess.",
        _table(
            ["faulty cells", "mended as it should be", "gone with their rows", "still wrong", "good rows lost"],
            [[truth["cells"], truth["as they should be"], truth["gone with their rows"], truth["still wrong"],
              truth["good rows lost"]]],
            names=False,
        ),
    )  # fmt: skip


def _rules(rounds: list[dict[str, Any]]) -> str:
    rows = []
    for each in rounds:
        head = f"round {each['iteration']}"
        for rule in each["rules"]:
            rows.append([head, rule["kind"], rule["of"], rule["how"], rule["count"]])
            head = ""
    return _table(["", "kind", "where", "what", "cells or rows"], rows)


def _table(heads: list[str], rows: Iterable[list[Any]], names: bool = True) -> str:
    def cell(value: Any, at: int) -> str:
        if isinstance(value, int):
            return f'<td class="n">{value:,}</td>'
        return f"<td{' class=round' if at == 0 and names else ''}>{escape(str(value))}</td>"

    body = [list(row) for row in rows]
    numbers = [all(isinstance(row[at], int) for row in body) for at in range(len(heads))]
    head = "".join(f'<th class="n">{h}</th>' if n else f"<th>{h}</th>" for h, n in zip(heads, numbers, strict=True))
    lines = "".join(f"<tr>{''.join(cell(value, at) for at, value in enumerate(row))}</tr>" for row in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _section(title: str, text: str, content: str) -> str:
    return f"<section><h2>{title}</h2><p>{text}</p>{content}</section>"
