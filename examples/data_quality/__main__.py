"""Find and mend the faults of a table until it is good enough: `python -m examples.data_quality --help`.

The run is kept in a store, so it can be interrupted or killed, and goes on with --resume.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio

from engine import Engine, EngineError, Run, RunFailed, RunResult

try:
    from .graph import data_quality
    from .progress import Progress
    from .tools import READERS, job
except ModuleNotFoundError as missing:
    if missing.name != "polars":
        raise
    sys.exit("error: this example needs Polars: pip install -e '.[examples]', or pip install polars")

OVER = ("succeeded", "failed", "cancelled")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    options = _options(arguments)
    # What the engine warns of, as of runs whose graph it does not know yet, is said here in other words.
    logging.getLogger("engine").setLevel(logging.CRITICAL)
    try:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        return anyio.run(run_job, options, backend=options.backend)
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if not _interrupted(error):
            raise
        print(f"\ninterrupted. The run is in {options.store}. Go on:\n  {_again(options)}", file=sys.stderr)
        return 130
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def run_job(options: argparse.Namespace) -> int:
    """Begin a run, or go on with one; show it, and what came of it."""
    async with Engine(options.store) as engine:
        graph = data_quality()
        # Before the engine knows the graph: as soon as it does, what is unfinished goes on.
        last = await _last_run(engine, graph.name)
        if fault := _fault(options, last):
            print(f"error: {fault}", file=sys.stderr)
            return 2
        engine.register(graph)
        began, since = time.perf_counter(), time.time()
        if options.resume and last is not None:
            run = await _go_on(engine, last.id)
        else:
            if last is not None and last.status not in OVER:
                last = await engine.get(last.id)
                await last.cancel("begun anew")
                await last.wait()  # its stages write where the next run does
            run = await _begin(engine, options)
        try:
            result = await _watched(run, since if options.resume else 0.0)
        except RunFailed as error:
            print(f"error: {error}", *error.exceptions, f"Try again:\n  {_again(options)}", sep="\n", file=sys.stderr)
            return 1
        _tell(result)
    seconds, rows = time.perf_counter() - began, result.state["report"]["rows"]["in"]
    speed = "" if options.resume else f"{rows:,} rows in {seconds:.2f} s, {rows / seconds:,.0f} rows/s; "
    print(f"\n{speed}look at {Path(options.out, 'report.html')}")
    if not options.keep:
        shutil.rmtree(Path(options.out, "work", run.id), ignore_errors=True)
    return 0


async def _last_run(engine: Engine, graph: str) -> Run | None:
    last: Run | None = None
    while page := await engine.runs(graph=graph, after=None if last is None else last.id):
        last = page[-1]
    return last


def _fault(options: argparse.Namespace, last: Run | None) -> str:
    """Why there is nothing to do, if so."""
    if options.resume and last is None:
        return f"there is no run in {options.store} to go on with: leave --resume out"
    if last is not None and last.status not in OVER and not options.resume and not options.anew:
        again = f"go on with it:\n  {_again(options)}\nor give it up:\n  {_again(options, '--anew')}"
        return f"a run in {options.store} is not finished; {again}"
    return ""


async def _go_on(engine: Engine, run_id: str) -> Run:
    run = await engine.get(run_id)
    print(f"run {run.id} is {run.status}")
    if run.status == "failed":
        await run.retry()
    return run


async def _begin(engine: Engine, options: argparse.Namespace) -> Run:
    work = Path(options.out, "work")
    shutil.rmtree(work, ignore_errors=True)  # of runs that are over
    run_id = uuid4().hex
    source = {"file": options.file} if options.file else {"rows": options.rows, "seed": options.seed}
    state = job(source, work / run_id, Path(options.out), target=options.target, limit=options.limit)
    return await engine.submit("data_quality", state, run_id=run_id)


async def _watched(run: Run, since: float) -> RunResult:
    progress = Progress()
    try:
        async with anyio.create_task_group() as group:

            async def tick() -> None:
                while True:
                    progress.tick()
                    await anyio.sleep(0.1)

            group.start_soon(tick)
            async for event in run.events():
                if event.time >= since:
                    progress.show(event)
            group.cancel_scope.cancel()
    finally:
        progress.close()
    return await run.result()


def _tell(result: RunResult) -> None:
    report: dict[str, Any] = result.state["report"]
    quality, rows = report["quality"], report["rows"]
    print(
        f"\nquality {quality['before']:.2%} -> {quality['after']:.2%}, {report['ended']}\n"
        f"{rows['in']:,} rows in, {rows['out']:,} clean, {rows['aside']:,} set aside, "
        f"{rows['in'] - rows['out'] - rows['aside']:,} copies dropped"
    )
    if "detection" in report:
        print(f"\n{'kind of fault':<16} {'injected':>9} {'flagged':>9} {'precision':>10} {'recall':>8}")
        for kind, rates in report["detection"].items():
            print(
                f"{kind:<16} {rates['injected']:9,} {rates['flagged']:9,} "
                f"{rates['precision']:10.3f} {rates['recall']:8.3f}"
            )
        truth = report["truth"]
        print(f"against the truth, {truth['before']:.2%} of the rows were right, and {truth['after']:.2%} are now")


def _interrupted(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_interrupted, error.exceptions))
    return isinstance(error, KeyboardInterrupt)


def _again(options: argparse.Namespace, how: str = "--resume") -> str:
    given = [f"--{name} {value}" for name in ("out", "store") if (value := getattr(options, f"given_{name}"))]
    return " ".join([Path(sys.executable).name, "-m examples.data_quality", *given, how])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.data_quality", description=(__doc__ or "").split(":")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--rows", type=_count, default=1_000, help="customers to make, with known faults (1000)")
    source.add_argument("--file", type=_file, help="a CSV or Parquet file instead")
    parser.add_argument("--seed", type=int, default=7, help="of the customers: the same seed makes the same (7)")
    parser.add_argument(
        "--target", type=_share, default=0.98, help="good enough: the share of rows without fault (0.98)"
    )
    parser.add_argument("--limit", type=_rounds, default=5, help="rounds at most (5)")
    parser.add_argument("--out", default=None, help="the folder for results (build/data_quality)")
    parser.add_argument("--store", default=None, help="where the run is kept (sqlite:///<out>/runs.db)")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--keep", action="store_true", help="keep the working files of a run that has succeeded")
    last = parser.add_mutually_exclusive_group()
    last.add_argument("--resume", action="store_true", help="go on with the last run in the store")
    last.add_argument("--anew", action="store_true", help="begin anew, and give up an unfinished run")
    options = parser.parse_args(arguments)
    if options.backend == "trio" and find_spec("trio") is None:
        parser.error("trio is not installed: pip install -e '.[trio]'")
    options.given_out, options.given_store = options.out, options.store
    options.out = str(Path(options.out or "build/data_quality").absolute())
    options.store = options.store or f"sqlite:///{options.out}/runs.db"
    return options


def _count(text: str) -> int:
    rows = int(text.replace("_", "").replace(",", ""))
    if not 50 <= rows <= 50_000_000:
        raise argparse.ArgumentTypeError("from 50 to 50,000,000: fewer have no rules to break")
    return rows


def _rounds(text: str) -> int:
    if not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("from 1 to 100")
    return int(text)


def _share(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError("a share above 0, at most 1")
    return float(text)


def _file(text: str) -> str:
    file = Path(text).absolute()
    if file.suffix.lower() not in READERS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {' nor '.join(READERS)}")
    if not file.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return str(file)


if __name__ == "__main__":
    sys.exit(main())
