"""No end is silent: each crash is in the log with its traceback, before a restart as a warning, else as an error."""

import logging
from typing import Any

import anyio
import pytest

from actors import Actor, ChildSpec, StopReason, Supervisor, supervise


class Crashing(Actor[Any]):
    """Crashes by a message, or as it is stopped with one in hand."""

    async def receive(self, message: Any) -> None:
        await anyio.sleep(1)
        raise LookupError(message)


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


def cause(record: logging.LogRecord) -> BaseException | None:
    assert record.exc_info
    return record.exc_info[1]


async def test_a_temporary_child_that_crashes_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise([ChildSpec("a", Crashing, restart="temporary")]) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(2)

    (record,) = errors(caplog)
    assert record.getMessage() == (
        "root/a ended as incarnation 1 (crashed by LookupError('boom')), for which it is not restarted"
    )
    assert isinstance(cause(record), LookupError)


async def test_a_crash_that_is_restarted_is_a_warning_only(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise([ChildSpec("a", Crashing)]) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(2)

    assert errors(caplog) == []
    assert isinstance(cause(caplog.records[0]), LookupError)


async def test_a_supervisor_that_gave_up_and_is_not_restarted_is_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sub = Supervisor.spec("sub", [ChildSpec("a", Crashing, max_restarts=0)], restart="temporary")
    async with supervise([sub]) as root:
        await root.supervisor("sub").child("a").tell("boom")
        await anyio.sleep(2)

    (record,) = errors(caplog)
    assert "root/sub ended as incarnation 1 (crashed by TooManyRestarts" in record.getMessage()
    error = cause(record)
    assert error is not None
    assert isinstance(error.__cause__, LookupError)


async def test_a_child_that_crashes_as_it_is_stopped_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise([ChildSpec("a", Crashing)]) as root:
        await root.child("a").tell("boom")
        await anyio.sleep(0.5)

    (record,) = errors(caplog)
    assert isinstance(cause(record), LookupError)


async def test_an_ordinary_end_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with supervise([ChildSpec("a", Crashing), ChildSpec("b", Crashing, restart="temporary")]) as root:
        root.child("b").stop()
        await anyio.sleep(1)

    assert caplog.records == []


async def test_a_start_that_fails_after_its_caller_gave_up_is_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Late(Actor[Any]):
        async def on_start(self) -> None:
            await anyio.sleep(2)
            raise LookupError("late")

        async def on_stop(self, reason: StopReason) -> None:
            pytest.fail("it has not started")

    async with supervise() as root:
        with anyio.move_on_after(1):
            await root.start_child(ChildSpec("late", Late))
        await anyio.sleep(2)

    (record,) = errors(caplog)
    assert record.getMessage() == (
        "supervisor root: child 'late' did not start: LookupError('late'), and nobody waits for it"
    )
