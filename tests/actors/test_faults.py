"""Whatever an actor does to the runtime has one outcome, the same on three backends.

Bad values are refused where they are given: see `test_spec.py`, `test_mailbox.py`, `test_channel.py`. Full mailboxes,
wrong messages, dead targets and cycles of asks are in `test_ref.py`; what goes wrong around a supervisor's own work is
in `test_cases_faults.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from actors import (
    Actor,
    ActorCrashed,
    ActorStopped,
    ChildSpec,
    DeadLetter,
    NullObserver,
    StartFailed,
    StartTimeout,
    State,
    StopReason,
    StopTimeout,
    StrayCancellation,
    TooManyRestarts,
    WrongMessage,
    supervise,
)
from actors.testing import BACKENDS, Backend, run, tasks_left


class Seen(NullObserver):
    """The ends of an actor's incarnations, and its dead letters."""

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.ends: list[tuple[str, str]] = []
        self.unkillable_names: list[str] = []
        self.letters: list[DeadLetter] = []

    def crashed(self, ref: Any, incarnation: int, cause: BaseException) -> None:
        self.crashes.append(cause)

    def stopped(self, ref: Any, reason: StopReason) -> None:
        self.ends.append((ref.name, reason.kind))

    def unkillable(self, ref: Any) -> None:
        self.unkillable_names.append(ref.name)

    def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


@pytest.fixture
def seen() -> Seen:
    return Seen()


class Scripted(Actor[Any]):
    """Each message is what to do with it; the first incarnation only may also be told how to start and stop."""

    def __init__(self, on_start: Any = None, on_stop: Any = None) -> None:
        self.start = on_start
        self.stop = on_stop

    async def on_start(self) -> None:
        if self.start is not None:
            await self.start(self)

    async def receive(self, message: Callable[[], Awaitable[Any]]) -> Any:
        return await message()

    async def on_stop(self, reason: StopReason) -> None:
        if self.stop is not None:
            await self.stop(self)


async def answer() -> str:
    return "answer"


# Factories


async def test_a_factory_that_raises_is_a_failed_start_that_names_child_and_cause() -> None:
    def factory() -> Actor[Any]:
        raise LookupError("no such thing")

    with pytest.raises(StartFailed, match=r"child 'a' did not start: LookupError\('no such thing'\)") as failed:
        async with supervise([ChildSpec("a", factory)]):
            pytest.fail("it has not started")

    assert failed.value.child == "a"
    assert isinstance(failed.value.__cause__, LookupError)


@pytest.mark.parametrize("product", [None, "actor", Actor])
async def test_a_factory_that_makes_no_actor_is_a_failed_start(product: Any) -> None:
    with pytest.raises(StartFailed, match=r"the factory of 'root/a' made .*, which is no Actor"):
        async with supervise([ChildSpec("a", lambda: product)]):
            pytest.fail("it has not started")


async def test_a_factory_that_is_called_with_wrong_arguments_is_a_failed_start() -> None:
    with pytest.raises(
        StartFailed, match=r"the factory Scripted of 'root/a' cannot be called with \(1, 2, 3\): .* takes from 1 to 3"
    ):
        async with supervise([ChildSpec("a", Scripted, [1, 2, 3])]):
            pytest.fail("it has not started")


async def test_a_type_error_within_a_factory_is_left_as_it_is() -> None:
    def factory() -> Actor[Any]:
        raise TypeError("not yours")

    with pytest.raises(StartFailed, match=r"did not start: TypeError\('not yours'\)"):
        async with supervise([ChildSpec("a", factory)]):
            pytest.fail("it has not started")


async def test_an_async_factory_is_a_failed_start_with_the_cure() -> None:
    async def factory() -> Actor[Any]:
        return Scripted()

    with pytest.raises(StartFailed, match=r"the factory of 'root/a' is async: .* do what waits in on_start"):
        async with supervise([ChildSpec("a", factory)]):
            pytest.fail("it has not started")


async def test_a_factory_that_makes_one_actor_for_two_children_is_a_failed_start() -> None:
    actor = Scripted()

    with pytest.raises(StartFailed, match="the factory of 'root/b' made an actor that has run as 'root/a': it makes a"):
        async with supervise([ChildSpec("a", lambda: actor), ChildSpec("b", lambda: actor)]):
            pytest.fail("it has not started")


async def test_a_factory_that_returns_the_same_actor_again_is_no_restart() -> None:
    actor = Scripted()

    async def fail() -> None:
        raise LookupError

    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012 # it comes out of the block's end
        async with supervise([ChildSpec("a", lambda: actor)]) as root:
            root.child("a").tell_nowait(fail)
            await anyio.sleep_forever()
    assert "has run as 'root/a'" in str(caught.value.__cause__)


async def test_a_context_in_init_is_a_failed_start_with_the_cure() -> None:
    class Early(Actor[Any]):
        def __init__(self) -> None:
            self.me = self.context.ref

    with pytest.raises(StartFailed, match=r"Early.context is there from on_start on, not in __init__ yet"):
        async with supervise([ChildSpec("a", Early)]):
            pytest.fail("it has not started")


async def test_a_factory_that_raises_at_a_restart_is_tried_until_the_budget_is_spent() -> None:
    made: list[int] = []

    def factory() -> Actor[Any]:
        made.append(1)
        if len(made) > 1:
            raise LookupError
        return Scripted()

    with pytest.raises(TooManyRestarts) as caught:  # noqa: PT012 # it comes out of the block's end
        async with supervise([ChildSpec("a", factory, max_restarts=3)]) as root:
            root.child("a").tell_nowait("not callable")
            await anyio.sleep_forever()

    assert isinstance(caught.value.__cause__, LookupError)
    assert len(made) == 4


# on_start


async def test_an_on_start_that_hangs_is_a_failed_start_at_its_time() -> None:
    async def hang(_actor: Any) -> None:
        await anyio.sleep_forever()

    began = anyio.current_time()
    with pytest.raises(StartFailed, match=r"did not start within 2 s") as failed:
        async with supervise([ChildSpec("a", Scripted, [hang], start_timeout=2)]):
            pytest.fail("it has not started")

    assert isinstance(failed.value.__cause__, StartTimeout)
    assert anyio.current_time() - began == pytest.approx(2)


async def test_an_on_start_without_a_limit_may_take_its_time() -> None:
    async def slow(_actor: Any) -> None:
        await anyio.sleep(1000)

    async with supervise([ChildSpec("a", Scripted, [slow], start_timeout=float("inf"))]) as root:
        assert root.child("a").state is State.RUNNING


async def test_an_incarnation_that_did_not_start_is_not_stopped() -> None:
    stopped: list[str] = []

    async def fail(_actor: Any) -> None:
        raise LookupError

    async def stop(_actor: Any) -> None:
        stopped.append("stopped")

    with pytest.raises(StartFailed):
        async with supervise([ChildSpec("a", Scripted, [fail, stop])]):
            pytest.fail("it has not started")

    assert stopped == []


# Handlers that raise


async def test_an_actor_without_receive_refuses_messages_at_the_sender() -> None:
    class Empty(Actor[Any]):
        pass

    async with supervise([ChildSpec("a", Empty), ChildSpec("b", lambda: Empty())]) as root:
        for ref in (root.child("a"), root.child("b")):
            with pytest.raises(WrongMessage, match=r"takes no messages, got str: it has no receive\(\)"):
                await ref.ask("x")


async def test_what_an_actor_accepts_is_known_also_where_a_function_makes_it() -> None:
    class Adder(Actor[int]):
        accepts = int

        async def receive(self, message: int) -> int:
            return message + 1

    async with supervise([ChildSpec("a", lambda: Adder())]) as root:
        with pytest.raises(WrongMessage, match="actor 'root/a' takes int, got str: 'text'"):
            await root.child("a").ask("text")
        assert await root.child("a").ask(1) == 2


async def test_an_exception_without_a_repr_crashes_its_actor_and_nobody_else(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    async def fail() -> None:
        raise Bad

    async with supervise([ChildSpec("a", Scripted), ChildSpec("b", Scripted)], observer=seen) as root:
        with pytest.raises(ActorCrashed, match="before it answered: <Bad, whose repr raised RuntimeError>"):
            await root.child("a").ask(fail)

        assert await root.child("a").ask(answer) == "answer"
        assert root.child("b").incarnation == 1
    assert "it ended (crashed by <Bad, whose repr raised RuntimeError>)" in caplog.text


async def test_an_exception_without_a_repr_is_a_failed_start_like_any_other() -> None:
    class Bad(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    async def fail(_actor: Any) -> None:
        raise Bad

    with pytest.raises(StartFailed, match="child 'a' did not start: <Bad, whose repr raised RuntimeError>"):
        async with supervise([ChildSpec("a", Scripted, [fail])]):
            pytest.fail("it has not started")


async def test_a_dead_letter_without_a_repr_is_a_dead_letter_like_any_other(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    async with supervise([ChildSpec("a", Scripted, restart="temporary")], observer=seen) as root:
        ref = root.child("a")
        await root.terminate_child("a")
        await ref.tell(Bad())

    assert [type(letter.message) for letter in seen.letters] == [Bad]
    assert "(stopped): <Bad, whose repr raised RuntimeError>" in caplog.text


async def test_a_group_of_errors_from_a_handler_s_own_task_group_is_a_crash_like_any_other(seen: Seen) -> None:
    async def fail() -> None:
        raise LookupError("leaf")

    async def handler() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await anyio.sleep_forever()

    async with supervise([ChildSpec("a", Scripted)], observer=seen) as root:
        with pytest.raises(ActorCrashed) as crashed:
            await root.child("a").ask(handler)
        assert await root.child("a").ask(answer) == "answer"

    assert isinstance(crashed.value.__cause__, ExceptionGroup)
    assert seen.crashes == [crashed.value.__cause__]


async def test_a_handler_may_use_timeouts_of_its_own() -> None:
    async def handler() -> str:
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        with suppress(TimeoutError), anyio.fail_after(1):
            await anyio.sleep_forever()
        return "went on"

    async with supervise([ChildSpec("a", Scripted)]) as root:
        assert await root.child("a").ask(handler) == "went on"
        assert root.child("a").incarnation == 1


async def test_a_run_that_forgets_to_return_what_serve_did_is_told_so(seen: Seen) -> None:
    class Forgetful(Actor[Any]):
        async def around(self, serve: Any) -> Any:
            await serve()

    async with supervise([ChildSpec("a", Forgetful, restart="temporary")], observer=seen) as root:
        root.child("a").stop()
        await root.child("a").wait_stopped()

    assert [str(crash) for crash in seen.crashes] == [
        f"{Forgetful.__qualname__}.around() returned None, not what `await serve()` returned"
    ]


# Cancellations that nobody asked for


async def raise_stray() -> None:
    """Raise a cancellation that nobody asked this task for: of an asyncio future, or one kept from elsewhere."""
    try:
        future = asyncio.get_running_loop().create_future()
    except RuntimeError:
        raise await kept_cancellation() from None
    future.cancel()
    await future


async def kept_cancellation() -> BaseException:
    kept: list[BaseException] = []
    with CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except BaseException as cancellation:
            kept.append(cancellation)
            raise
    return kept[0]


async def raise_stray_in_a_group() -> None:
    raise BaseExceptionGroup("strays", [await caught_stray()])


async def raise_stray_among_others() -> None:
    raise BaseExceptionGroup("a stray among others", [LookupError("other"), await caught_stray()])


async def caught_stray() -> BaseException:
    try:
        await raise_stray()
    except BaseException as stray:
        return stray
    raise AssertionError("not reached")


@pytest.mark.parametrize("way", [raise_stray, raise_stray_in_a_group])
@pytest.mark.parametrize("where", ["receive", "on_start", "on_stop"])
async def test_a_cancellation_that_nobody_asked_for_is_a_crash_and_no_sibling_notices(
    way: Callable[[], Awaitable[None]], where: str, seen: Seen
) -> None:
    async def stray_at_restart(actor: Any) -> None:
        if actor.context.incarnation == 2:
            await way()

    async def stray(_actor: Any) -> None:
        await way()

    args = {"receive": [], "on_start": [stray_at_restart], "on_stop": [None, stray]}[where]
    specs = [ChildSpec("sibling", Scripted), ChildSpec("a", Scripted, args, restart="transient")]
    async with supervise(specs, observer=seen) as root:
        ref = root.child("a")
        if where == "receive":
            ref.tell_nowait(way)
        elif where == "on_start":
            ref.tell_nowait("not callable")
        else:
            ref.stop()
        await anyio.sleep(1)
        assert await root.child("sibling").ask(answer) == "answer"
        assert await ref.ask(answer) == "answer"
        assert root.child("sibling").incarnation == 1

    assert any(isinstance(crash, StrayCancellation) for crash in seen.crashes)


async def test_an_ask_on_which_the_handler_raises_a_stray_cancellation_raises_with_the_cause() -> None:
    async with supervise([ChildSpec("a", Scripted)]) as root:
        with pytest.raises(ActorCrashed) as crashed:
            await root.child("a").ask(raise_stray)

    assert isinstance(crashed.value.__cause__, StrayCancellation)
    assert str(crashed.value.__cause__) == "actor 'root/a' raised a cancellation that nobody asked for"
    assert crashed.value.__cause__.__cause__ is not None


async def test_policies_see_the_errors_beside_a_stray_cancellation(seen: Seen) -> None:
    async with supervise([ChildSpec("a", Scripted)], observer=seen) as root:
        root.child("a").tell_nowait(raise_stray_among_others)
        await anyio.sleep(1)
        assert await root.child("a").ask(answer) == "answer"

    (crash,) = seen.crashes
    assert isinstance(crash, ExceptionGroup)
    assert [type(leaf) for leaf in crash.exceptions] == [LookupError]


# Handlers that swallow a cancellation that was asked for


async def test_a_handler_that_swallows_its_cancellation_ends_killed(seen: Seen) -> None:
    async def swallow() -> str:
        try:
            await anyio.sleep_forever()
        except BaseException:
            return "swallowed"

    async with supervise([ChildSpec("a", Scripted, shutdown=1)], observer=seen) as root:
        ref = root.child("a")
        ref.tell_nowait(swallow)
        ref.tell_nowait(answer)
        await anyio.sleep(1)
        await root.terminate_child("a")
        reason = await ref.wait_stopped()

    assert reason.kind == "killed"


async def test_a_handler_that_turns_its_cancellation_into_an_error_ends_for_good_all_the_same() -> None:
    async def turn() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            raise LookupError("instead") from None

    async with supervise([ChildSpec("a", Scripted, shutdown=1)]) as root:
        root.child("a").tell_nowait(turn)
        await anyio.sleep(1)
        await root.terminate_child("a")
        assert root.child("a").incarnation == 1
        assert root.child("a").state is State.STOPPED


async def test_a_handler_that_cannot_be_killed_is_reported_and_waited_for(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async def hold_out() -> None:
        with CancelScope(shield=True):
            await anyio.sleep(100)

    began = anyio.current_time()
    async with supervise([ChildSpec("a", Scripted, shutdown=1, grace=2)], observer=seen) as root:
        root.child("a").tell_nowait(hold_out)
        await anyio.sleep(10)
        async with anyio.create_task_group() as group:
            group.start_soon(root.terminate_child, "a")
            await anyio.sleep(5)
            assert seen.unkillable_names == ["a"]
            assert root.unkillable == 1
            assert root.child("a").state is not State.STOPPED
            assert [child.name for child in root.status()] == ["a"]  # its supervisor answers

    assert anyio.current_time() - began == 100
    assert seen.ends[0] == ("a", "killed")
    assert "actor root/a was cancelled 2 s ago and still runs; waiting for it" in caplog.messages


async def test_a_handler_that_swallows_one_cancellation_after_the_other_is_reported_and_waited_for(
    seen: Seen,
) -> None:
    async def swallow() -> None:
        finish = anyio.current_time() + 10
        while anyio.current_time() < finish:
            with suppress(BaseException):
                await anyio.sleep(1)
            with CancelScope(shield=True):
                await anyio.sleep(0.1)  # on its own, it would spin and no time would ever pass

    async with supervise([ChildSpec("a", Scripted, shutdown=1, grace=1)], observer=seen) as root:
        root.child("a").tell_nowait(swallow)
        await anyio.sleep(1)
        await root.terminate_child("a")

    assert seen.unkillable_names == ["a"]
    assert seen.ends[0] == ("a", "killed")


# on_stop


async def test_an_on_stop_that_hangs_is_cancelled_at_its_time(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    async def hang(_actor: Any) -> None:
        await anyio.sleep_forever()

    async with supervise([ChildSpec("a", Scripted, [None, hang], stop_timeout=2)], observer=seen) as root:
        began = anyio.current_time()
        await root.terminate_child("a")
        assert anyio.current_time() - began == pytest.approx(2)

    assert isinstance(seen.crashes[0], StopTimeout)
    assert seen.ends[0] == ("a", "crashed")
    assert any("on_stop did not return within 2 s" in line for line in caplog.messages)


async def test_an_on_stop_that_raises_makes_a_crash_of_a_good_end(seen: Seen) -> None:
    async def fail(_actor: Any) -> None:
        raise LookupError

    async with supervise([ChildSpec("a", Scripted, [None, fail], restart="temporary")], observer=seen) as root:
        root.child("a").stop()
        assert (await root.child("a").wait_stopped()).kind == "crashed"

    assert isinstance(seen.crashes[0], LookupError)


async def test_an_on_stop_that_raises_after_a_crash_does_not_hide_its_cause(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_actor: Any) -> None:
        raise LookupError("in on_stop")

    async def crash() -> None:
        raise RuntimeError("in receive")

    async with supervise([ChildSpec("a", Scripted, [None, fail], restart="temporary")], observer=seen) as root:
        root.child("a").tell_nowait(crash)
        await root.child("a").wait_stopped()

    assert [str(cause) for cause in seen.crashes] == ["in receive"]
    assert "on_stop of root/a raised LookupError('in on_stop')" in caplog.messages


async def test_an_on_stop_may_ask_an_actor_that_waited_for_it() -> None:
    outcomes: list[Any] = []
    refs: list[Any] = []

    async def ask_b(_actor: Any) -> None:
        outcomes.append(await refs[1].ask(answer))

    async def ask_a() -> None:
        with suppress(ActorStopped):
            await refs[0].ask(anyio.sleep_forever)
        outcomes.append("a has stopped")

    async with supervise([ChildSpec("a", Scripted, [None, ask_b], shutdown=0), ChildSpec("b", Scripted)]) as root:
        refs = [root.child("a"), root.child("b")]
        refs[1].tell_nowait(ask_a)
        await anyio.sleep(1)
        began = anyio.current_time()
        await root.terminate_child("a")
        assert anyio.current_time() == began

    assert outcomes == ["a has stopped", "answer"]


# Interrupts


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["alone", "in a task group of the handler's own"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_brings_the_tree_down_and_the_siblings_clean_up(
    backend: Backend, way: str, interrupt: type[BaseException]
) -> None:
    stopped: list[str] = []

    async def note(actor: Any) -> None:
        await checkpoint()
        stopped.append(actor.context.ref.name)

    async def raise_it() -> None:
        raise interrupt

    async def raise_it_in_a_group() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(raise_it)
            await anyio.sleep_forever()

    async def main() -> None:
        specs = [ChildSpec(name, Scripted, [None, note]) for name in "abc"]
        async with supervise(specs) as root:
            root.child("b").tell_nowait(raise_it if way == "alone" else raise_it_in_a_group)
            await anyio.sleep_forever()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 # trio wraps it in groups, asyncio does not
        run(main, backend=backend, virtual_time=True)

    assert caught.type is interrupt or caught.group_contains(interrupt)
    assert sorted(stopped) == ["a", "b", "c"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_among_errors_is_an_interrupt(backend: Backend) -> None:
    async def both() -> None:
        raise BaseExceptionGroup("both", [LookupError(), KeyboardInterrupt()])

    async def main() -> None:
        async with supervise([ChildSpec("a", Scripted)]) as root:
            root.child("a").tell_nowait(both)
            await anyio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main, backend=backend, virtual_time=True)

    assert caught.group_contains(KeyboardInterrupt)


# From outside


async def test_a_tree_cancelled_from_outside_settles_all_that_waits(seen: Seen) -> None:
    failed: list[str] = []

    async def ask(ref: Any) -> None:
        try:
            await ref.ask(anyio.sleep_forever, timeout=None)
        except ActorStopped:
            failed.append(ref.name)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(1):
            async with supervise([ChildSpec("a", Scripted), ChildSpec("b", Scripted)], observer=seen) as root:
                group.start_soon(ask, root.child("a"))
                group.start_soon(ask, root.child("b"))
                await anyio.sleep(0.5)
                root.child("a").tell_nowait("left")
                await anyio.sleep_forever()

    assert sorted(failed) == ["a", "b"]
    assert sorted(seen.ends) == [("a", "killed"), ("b", "killed"), ("root", "killed")]
    assert seen.letters == [DeadLetter("left", "root/a", None, "cancelled")]


async def test_an_error_raised_while_a_tree_is_cancelled_does_not_escape_its_scope(seen: Seen) -> None:
    async def fail_late() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(raise_when_cancelled)
            await anyio.sleep_forever()

    async def raise_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("late")

    with anyio.move_on_after(1) as scope:
        async with supervise([ChildSpec("a", Scripted)], observer=seen) as root:
            root.child("a").tell_nowait(fail_late)
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert [str(leaf) for crash in seen.crashes for leaf in getattr(crash, "exceptions", [crash])] == ["late"]


async def test_no_task_is_left_when_a_tree_has_ended_badly() -> None:
    before = tasks_left()

    async def hold_out() -> None:
        with CancelScope(shield=True):
            await anyio.sleep(100)

    with suppress(RuntimeError):
        async with supervise([ChildSpec("a", Scripted, shutdown=1, grace=1)]) as root:
            root.child("a").tell_nowait(hold_out)
            await anyio.sleep(1)
            raise RuntimeError("the body failed")

    assert tasks_left() == before
