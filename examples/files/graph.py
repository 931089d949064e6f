"""A table in; its profile and a cleaned table, made side by side; a report and a chart of both.

workflow-engine run examples/files/graph.py --file orders=examples/files/orders.csv --out build/files
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypedDict

from PIL import Image, ImageDraw, ImageFont

from engine import File, Graph

NUMBERS = ("quantity", "price")
WIDTH, HEIGHT, MARGIN = 640, 360, 40
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1a2230 }
img { max-width: 100%; border: 1px solid #dde2ea; border-radius: 8px }
table { border-collapse: collapse; width: 100%; margin: 1.5rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #dde2ea; text-align: left }
.n { text-align: right }
@media (max-width: 30rem) { table { font-size: 13px } th, td { padding: .3rem } }
"""


class Figures(TypedDict, total=False):
    """What is worth knowing at a glance; everything else is in files."""

    rows: int
    kept: int
    revenue: float


graph = Graph("orders_report", state=Figures)


def rows_of(table: File) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, one by one: the file is never in memory as a whole."""
    with table.open() as stream:
        for row in csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline="")):
            yield {str(name): (value or "").strip() for name, value in row.items() if name}


@graph.node(accepts="text/csv", produces="application/json")
def profile(orders: File, state: Figures) -> Any:
    """What each column holds, as it came."""
    columns: dict[str, Counter[str]] = {}
    count = 0
    for row in rows_of(orders):
        count += 1
        for name, value in row.items():
            columns.setdefault(name, Counter())[value] += 1
    found = {
        name: {
            "missing": values[""],
            "distinct": len(values) - ("" in values),
            "not_numbers": sum(n for value, n in values.items() if value and number(value) is None)
            if name in NUMBERS
            else 0,
            "most_common": [value for value, _ in values.most_common(3)],
        }
        for name, values in columns.items()
    }
    text = json.dumps({"source": orders.name, "rows": count, "columns": found}, indent=1)
    return File.from_bytes(text, "profile.json"), {"rows": count}


@graph.node(accepts="text/csv", produces="text/csv")
def clean(orders: File, state: Figures) -> Any:
    """The rows that are whole, each once, their numbers as numbers are written."""
    out, seen = io.StringIO(newline=""), set[tuple[str, ...]]()
    writer = None
    revenue = 0.0
    for row in rows_of(orders):
        quantity, price = number(row.get("quantity", "")), number(row.get("price", ""))
        key = tuple(row.values())
        if quantity is None or price is None or "" in key or key in seen:
            continue
        seen.add(key)
        if writer is None:
            writer = csv.DictWriter(out, row)
            writer.writeheader()
        writer.writerow({**row, "quantity": f"{quantity:g}", "price": f"{price:.2f}"})
        revenue += quantity * price
    made = File.from_bytes(out.getvalue(), "cleaned.csv", metadata={"source": orders.name})
    return made, {"kept": len(seen), "revenue": round(revenue, 2)}


@graph.node(
    accepts={"columns": "application/json", "table": "text/csv"},
    produces={"page": "text/html", "chart": "image/png"},
)
def report(columns: File, table: File, state: Figures) -> Any:
    """A page and a chart of what the other two found."""
    found = json.loads(columns.blocking.text())
    revenue: Counter[str] = Counter()
    for row in rows_of(table):
        revenue[row["country"]] += round(float(row["quantity"]) * float(row["price"]) * 100)
    top = revenue.most_common(8)
    return {
        "page": File.from_bytes(page(found, state, top), "report.html"),
        "chart": File.from_bytes(chart(top), "chart.png"),
    }


graph.add_edge(["profile", "clean"], "report").set_entry_point("profile", "clean")


def number(text: str) -> float | None:
    """A number above zero, if that is what the text says."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def page(found: dict[str, Any], state: Figures, top: list[tuple[str, int]]) -> str:
    """The report, in HTML; whatever stands in the table is text here, and no HTML."""

    def cell(value: object) -> str:
        if isinstance(value, int):
            return f'<td class="n">{value:,}</td>'
        return f"<td>{html.escape(str(value))}</td>"

    def cells(*values: object) -> str:
        return "<tr>" + "".join(map(cell, values)) + "</tr>"

    columns = "\n".join(
        cells(name, one["distinct"], one["missing"], one["not_numbers"], ", ".join(one["most_common"]))
        for name, one in found["columns"].items()
    )
    countries = "\n".join(f'<tr>{cell(name)}<td class="n">{cents / 100:,.2f}</td></tr>' for name, cents in top)
    return f"""<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(found["source"])}</title>
<style>{STYLE}</style>
<h1>{html.escape(found["source"])}</h1>
<p>{state["kept"]} of {state["rows"]} rows are whole; they come to {state["revenue"]:,.2f}.</p>
<img src="chart.png" alt="revenue by country">
<table><caption>Revenue</caption>
<tr><th>country</th><th class="n">revenue</th></tr>
{countries}
</table>
<table><caption>Columns, as they came</caption>
<tr><th>column</th><th class="n">distinct</th><th class="n">missing</th><th class="n">no numbers</th>
<th>most common</th></tr>
{columns}
</table>
"""


def chart(top: list[tuple[str, int]]) -> bytes:
    """Bars, in PNG."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    most = max((cents for _, cents in top), default=1)
    step = (WIDTH - 2 * MARGIN) / max(1, len(top))
    foot = HEIGHT - MARGIN
    for index, (name, cents) in enumerate(top):
        left, height = MARGIN + index * step, (HEIGHT - 2 * MARGIN) * cents / most
        middle = left + step / 2
        draw.rectangle((left + 6, foot - height, left + step - 6, foot), fill="#2460c4")
        # Pillow's own font has no other letters; the page has the names in full.
        written = name.encode("ascii", "replace").decode()[: int(step / 8)]
        draw.text((middle, foot + 18), written, fill="#1a2230", font=font, anchor="ms")
        draw.text((middle, foot - height - 6), f"{cents / 100:,.0f}", fill="#1a2230", font=font, anchor="ms")
    draw.line((MARGIN, foot, WIDTH - MARGIN, foot), fill="#1a2230")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
