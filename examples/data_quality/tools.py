"""The stages as tools: what each reads and writes of the run's state. What they know is in the modules beside.

Each is a plain function of files that do not change and of the state, so running one again gives the same again; that
is what lets a run go on after it was killed. They are sync, so the engine runs them in threads, where Polars lets go of
Python's lock: detectors side by side use every core.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import polars as pl

from engine import Context, Reduce, tool

from . import checks, profiling, rules, scoring
from .customers import customers
from .page import page
from .tables import OURS, ROW, Folder


class Job(TypedDict):
    """The state of a run. Tables are named, not held: see tables.py."""

    source: dict[str, Any]  # {"file": "..."} or {"rows": 300, "seed": 7}
    folder: str
    out: str
    target: float
    limit: int
    table: NotRequired[str]
    truth: NotRequired[str]  # for the report alone
    profile: NotRequired[dict[str, Any]]
    findings: NotRequired[Annotated[dict[str, Any], Reduce("merge")]]  # of each kind, newest round
    suspects: NotRequired[list[Any]]
    before: NotRequired[dict[str, Any]]
    rules: NotRequired[list[Any]]
    applied: NotRequired[list[Any]]
    flagged: NotRequired[Annotated[list[str], Reduce("extend")]]
    aside: NotRequired[Annotated[list[str], Reduce("extend")]]
    iteration: NotRequired[int]
    quality: NotRequired[float]
    history: NotRequired[Annotated[list[Any], Reduce("extend")]]
    report: NotRequired[dict[str, Any]]


def job(source: dict[str, Any], folder: Path, out: Path, *, target: float, limit: int) -> Job:
    """What a run starts with."""
    return {"source": source, "folder": str(folder), "out": str(out), "target": target, "limit": limit}


@tool
def load_data(state: Job, ctx: Context) -> dict[str, Any]:
    """Reads the file, or makes customers with known faults, into the working folder."""
    folder, source = Folder(state["folder"]), state["source"]
    if "file" in source:
        ctx.progress(0, f"reading {source['file']}")
        table = read_file(Path(source["file"]))
        ctx.progress(1, f"{table.height:,} rows, {table.width - 1} columns")
        return {"table": folder.put(table)}
    ctx.progress(0, f"making {source['rows']:,} customers of seed {source['seed']}")
    table, truth = customers(source["rows"], source["seed"])
    ctx.progress(1, f"{table.height:,} rows, {table.width - 1} columns, {truth.height:,} faults hidden in them")
    return {"table": folder.put(table), "truth": folder.put(truth)}


def read_csv(file: Path) -> pl.DataFrame:
    """A CSV file, whatever separates its columns. All of it is looked at for their types: it may well have faults."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        head = lines.readline()
    separator = max(",;\t|", key=head.count)
    return pl.read_csv(file, separator=separator, try_parse_dates=True, infer_schema_length=None)


READERS: dict[str, Callable[[Path], pl.DataFrame]] = {".csv": read_csv, ".parquet": pl.read_parquet}


def read_file(file: Path) -> pl.DataFrame:
    """The rows of a CSV or Parquet file, numbered."""
    table = READERS[file.suffix.lower()](file)
    for name in table.columns:
        # Polars takes names between ^ and $ for patterns.
        if name.startswith((OURS, "^")):
            raise ValueError(f"the column {name!r} must not begin with '^' or {OURS!r}: rename it")
    # As the index that others write to a file.
    return table.rename({"": "column"} if "" in table.columns else {}).with_row_index(ROW)


@tool
def profile_data(state: Job, ctx: Context) -> dict[str, Any]:
    """Tells what each column holds, and what holds between columns."""
    found = profiling.profile(Folder(state["folder"]).scan(state["table"]))
    ctx.progress(1, f"{len(found['columns'])} columns, {len(found['relations'])} relations between them")
    return {"profile": found}


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _detect(kind: str, asked: list[checks.Check], state: Job, ctx: Context) -> dict[str, Any]:
    folder = Folder(state["folder"])
    found, counted = scoring.found_by(asked, folder.scan(state["table"]))
    ctx.progress(1, f"{found.height:,} found by {_counted(len(asked), 'check')}")
    return {"findings": {kind: {"rows": folder.put(found), "checks": counted}}}


@tool
def detect_nulls(state: Job, ctx: Context) -> dict[str, Any]:
    """Finds what is missing where nearly nothing is."""
    return _detect("nulls", checks.null_checks(state["profile"]), state, ctx)


@tool
def detect_invalid_emails(state: Job, ctx: Context) -> dict[str, Any]:
    """Finds what stands among addresses and is none."""
    return _detect("emails", checks.email_checks(state["profile"]), state, ctx)


@tool
def detect_outliers(state: Job, ctx: Context) -> dict[str, Any]:
    """Finds numbers far from all others."""
    return _detect("outliers", checks.outlier_checks(state["profile"]), state, ctx)


@tool
def detect_inconsistencies(state: Job, ctx: Context) -> dict[str, Any]:
    """Finds rows that break what holds between columns in nearly all others."""
    return _detect("inconsistencies", checks.relation_checks(state["profile"]), state, ctx)


@tool
def detect_duplicates(state: Job, ctx: Context) -> dict[str, Any]:
    """Finds rows that say what another has said."""
    return _detect("duplicates", checks.duplicate_checks(state["profile"]), state, ctx)


@tool
def identify_anomalies(state: Job, ctx: Context) -> dict[str, Any]:
    """Puts together what the detectors have found, each fault under one name."""
    folder, findings = Folder(state["folder"]), state["findings"]
    found = pl.concat([folder.read(findings[kind]["rows"]) for kind in checks.KINDS])
    suspects = [check for kind in checks.KINDS for check in findings[kind]["checks"]]
    # A price that is far out makes a wrong total: one fault, not two.
    for check in suspects:
        if check["kind"] == "inconsistencies":
            causes = found.filter(pl.col("kind") == "outliers", pl.col("column").is_in(checks.columns_of(check)))
            consequence = (pl.col("kind") == check["kind"]) & (pl.col("column") == check["column"])
            found = pl.concat([found.filter(~consequence), found.filter(consequence).join(causes, on=ROW, how="anti")])
    found = found.sort(ROW, "column", "kind")
    rows = state["profile"]["rows"]
    quality = scoring.share(rows - found[ROW].n_unique(), rows)
    by_kind = {kind: found.filter(pl.col("kind") == kind).height for kind in checks.KINDS}
    ctx.progress(1, f"{found.height:,} anomalies, {quality:.2%} of the rows without any")
    return {"flagged": [folder.put(found)], "suspects": suspects, "before": {"quality": quality, "found": by_kind}}


@tool
def generate_rules(state: Job, ctx: Context) -> dict[str, Any]:
    """Chooses what to do about each kind of anomaly: the mildest first, sterner in later rounds."""
    found = rules.rules_for(state["suspects"], state["profile"], ctx.iteration)
    ctx.progress(1, f"{_counted(len(found), 'rule')} of level {found[0]['level']}" if found else "nothing to do")
    return {"rules": found}


@tool
def apply_rules(state: Job, ctx: Context) -> dict[str, Any]:
    """Applies them, and writes the table that results."""
    folder = Folder(state["folder"])
    table, aside, told = rules.apply(state["rules"], folder.scan(state["table"]))
    ctx.progress(1, f"{_counted(sum(rule['count'] for rule in told), 'repair')}, {table.height:,} rows left")
    return {"table": folder.put(table), "applied": told, "aside": [folder.put(aside)] if aside.height else []}


@tool
def evaluate_quality(state: Job, ctx: Context) -> dict[str, Any]:
    """Asks the same checks of the repaired table."""
    folder, before = Folder(state["folder"]), state["before"]
    after = scoring.quality(state["suspects"], folder.scan(state["table"]))
    told = {
        "iteration": ctx.iteration,
        "found": before["found"],
        "rules": state["applied"],
        "before": before["quality"],
        "after": after["quality"],
        "columns": {"before": _by_column(state), "after": after["columns"]},
        "rows": {"before": state["profile"]["rows"], "after": after["rows"]},
    }
    ctx.progress(1, f"quality {before['quality']:.2%} -> {after['quality']:.2%}, target {state['target']:.2%}")
    return {"iteration": ctx.iteration, "quality": after["quality"], "history": [told]}


def _by_column(state: Job) -> dict[str, float]:
    rows, suspects = state["profile"]["rows"], state["suspects"]
    broken: dict[str, int] = {}
    for check in suspects:
        if check["column"]:
            broken[check["column"]] = broken.get(check["column"], 0) + check["broken"]
    return {name: scoring.share(rows - count, rows) for name, count in sorted(broken.items())}


@tool
def write_report(state: Job, ctx: Context) -> dict[str, Any]:
    """Writes the cleaned table, the rows set aside, and the report as JSON and as a page."""
    folder, out = Folder(state["folder"]), Path(state["out"])
    out.mkdir(parents=True, exist_ok=True)
    table = folder.read(state["table"])
    aside = folder.read_all(state.get("aside", []), table.head(0)).sort(ROW)
    table.drop(ROW).write_parquet(out / "clean.parquet")
    aside.drop(ROW).write_parquet(out / "aside.parquet")
    report = _report(state, table, aside, folder)
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page(report), encoding="utf-8")
    ctx.progress(1, f"quality {report['quality']['after']:.2%} {report['ended']}")
    return {"report": report}


def _report(state: Job, table: pl.DataFrame, aside: pl.DataFrame, folder: Folder) -> dict[str, Any]:
    history = state["history"]
    reached = state["quality"] >= state["target"]
    source = state["source"]
    rows = history[0]["rows"]["before"]
    report: dict[str, Any] = {
        "source": source if "rows" in source else {"file": Path(source["file"]).name},
        "rows": {"in": rows, "out": table.height, "aside": aside.height},
        "target": state["target"],
        "limit": state["limit"],
        "ended": "after {} of {} rounds: {}".format(
            len(history), state["limit"], "target reached" if reached else "limit reached"
        ),
        "quality": {"before": history[0]["before"], "after": state["quality"]},
        "rounds": history,
    }
    if "truth" in state:
        truth = folder.read(state["truth"])
        flagged = pl.concat([folder.read(name) for name in state["flagged"]])
        report["detection"] = scoring.detection(flagged, truth)
        report["truth"] = scoring.against_truth(table, truth, rows)
    return report
