"""Who did what: in the store and on a logger, within bounds, and nothing missing silently."""

import logging
from pathlib import Path

import anyio
import pytest

from engine import Engine, EngineClosed, EngineError
from engine.auditing import MOST_WAITING, AuditLine, AuditLog
from engine.counts import Histogram
from engine.journal import Journal
from engine.stores.memory import MemoryStore
from tests.faulty_store import FaultyStore


def line(number: int = 1, **changes: str) -> AuditLine:
    kept = {"who": "ann", "action": "POST /api/runs", "outcome": "202", "origin": "::1", **changes}
    return AuditLine(at=float(number), **kept)  # type: ignore[arg-type]


async def test_lines_are_read_back_in_order_and_by_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    lines = [line(1, run_id="r1", graph="g", request="q"), line(2), line(3, run_id="r2")]
    async with Engine(url) as engine:
        for one in lines:
            engine.audit(one)
        assert [found for _, found in await engine.audits()] == lines
    async with Engine(url) as engine:
        assert [found for _, found in await engine.audits("r2")] == [lines[2]]
        assert [found for _, found in await engine.audits(newest_first=True, limit=2)] == [lines[2], lines[1]]
        assert (await engine.compact(keep_audit_seconds=60)).audits == 3


async def test_a_line_is_logged_with_what_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "engine.audit")
    async with Engine() as engine:
        engine.audit(line(run_id="r1", graph="g", request="q"))
        with pytest.raises(EngineError, match="no store"):
            await engine.audits()

    (record,) = [record for record in caplog.records if record.name == "engine.audit"]
    assert record.getMessage() == "ann POST /api/runs 202"
    assert [vars(record)[name] for name in ("run", "graph", "principal", "request", "origin")] == [
        "r1",
        "g",
        "ann",
        "q",
        "::1",
    ]


async def test_an_engine_that_was_left_has_no_audit_log_to_read() -> None:
    async with Engine("memory://") as engine:
        pass
    with pytest.raises(EngineClosed):
        await engine.audits()


async def test_what_strangers_sent_is_cut_and_cannot_break_a_line() -> None:
    async with Engine("memory://") as engine:
        engine.audit(line(run_id="a\nb\0" + "x" * 10_000, who="\ud800", graph="\u202egraph"))
        ((_, found),) = await engine.audits()

    assert found.run_id is not None
    assert (found.run_id[:4], len(found.run_id)) == ("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}", 200)
    assert (found.who, found.graph) == ("?", "\N{REPLACEMENT CHARACTER}graph")


async def test_while_the_store_is_away_lines_wait_within_bounds_and_what_is_missing_is_told() -> None:
    async with FaultyStore(MemoryStore(), rate=0) as store:
        journal = Journal(store, Histogram((1,)), Histogram((1,)))
        log = AuditLog(journal)
        for number in range(MOST_WAITING + 7):
            log.add(line(number))
        assert (journal.backlog, log.dropped) == (MOST_WAITING, 7)
        async with anyio.create_task_group() as group:
            group.start_soon(journal.serve)
            await journal.flush()  # with what tells of those that are missing in the next commit
            await journal.flush()
            kept = [AuditLine.of(audit) for _, audit in await store.audits(limit=10_000)]
            journal.close()

    assert len(kept) == MOST_WAITING + 1
    assert (kept[-1].who, kept[-1].action, kept[-1].outcome) == ("engine", "missing", "7 lines")
