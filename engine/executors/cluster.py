"""Functions on the machines of a Ray cluster.

The node's actor stays in the engine's process as supervisor and proxy; only the body travels. Retries, time-outs,
limits and the journal are the engine's: to Ray each attempt is a task of its own that it never runs twice.
"""

from __future__ import annotations

import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio

from actors import Waker, new_waker
from actors.waker import Poster, new_poster, outside

from ..errors import ClusterLost, NotTransferable, WorkerLost
from ..logs import about
from . import worker as wire
from .places import BaseExecutor, _closed
from .ray_link import CLOSE_SECONDS, RayLink, imported_ray, link_to
from .remote import Remote, hunt, run_guarded, unpacked
from .work import Capabilities, Health, Work

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger("engine")

# In flight at once: more only fill the queues of Ray, where time-outs run already: nothing tells when a body begins.
IN_FLIGHT: Final = 64
# An order to exit is carried out within milliseconds, or not at all.
KILL_SECONDS: Final = 0.5
# Who is sent after a process may have to be started first, itself a process of its own.
HUNT_SECONDS: Final = 20.0
# Functions whose pickles are kept on the cluster.
FUNCTIONS_KEPT: Final = 1_000
# Node resources that Ray knows by names of its own.
OPTIONS: Final = ("num_cpus", "num_gpus", "memory", "accelerator_type", "label_selector")


class RayExecutor(BaseExecutor):
    """An `Executor` on a Ray cluster: `Engine(executors={"cluster": RayExecutor(address="host:port")})`.

    A node asks for what it needs with `resources={"num_cpus": 1, "gpu_a": 1}`. Client and cluster have the same version
    of Python, of Ray and of the engine, and can import the same modules; functions without a module travel as they are.
    """

    capabilities = Capabilities(
        stops=True, loses_workers=True, any_function=True, keeps_remote=True, takes_resources=True
    )

    def __init__(
        self,
        address: str,
        limit: int = IN_FLIGHT,
        *,
        grace: float = 1.0,
        lost_after: float | None = 300.0,
        log_to_driver: bool = False,
        **init: Any,
    ) -> None:
        """Run at most `limit` calls at once, on the cluster at `host:port`; more of Ray's options go to `ray.init`.

        A call that is cancelled has `grace` seconds for its clean-up, then its process is killed. When the control
        plane has been silent for `lost_after` seconds, calls fail with `ClusterLost`; None lets them wait for ever.
        """
        super().__init__(limit)
        if address.startswith("ray://"):
            raise ValueError(
                f"{address!r} is Ray's own client, which blocks the event loop for as long as it is cut off; "
                f"give the cluster's own address, such as 'host:6379', and run the engine on one of its machines"
            )
        self.address: Final = address
        self.grace: Final = grace
        self.lost_after: Final = lost_after
        self._init = {"log_to_driver": log_to_driver, **init}
        self._link: RayLink | None = None
        self._post: Poster | None = None
        self._calls: dict[Work, _Call] = {}
        self._abandoned = 0
        self._runner: Any = None
        self._functions: OrderedDict[Callable[..., Any], Any] = OrderedDict()

    @property
    def abandoned(self) -> int:
        """Calls that did not end though they were cancelled, killed and waited for; most likely their host is gone."""
        return self._abandoned

    def health(self) -> Health:
        """How it is; in trouble while the control plane is silent."""
        silence = self._link.silence if self._link is not None else 0.0
        trouble = f"the control plane at {self.address} has not answered for {silence:.0f} s" if silence else ""
        return Health(
            trouble=trouble,
            running=self.running,
            waiting=self.waiting,
            started=self.started,
            killed=self.killed,
            abandoned=self.abandoned,
        )

    # -- its life

    async def start(self) -> None:
        """Connect to the cluster; raises `ClusterLost` if it cannot be reached."""
        self._post = new_poster()
        self._link = link_to(self.address, self._init)
        self._abandoned = 0
        try:
            await _done(self._link.open(), self._post)
        except BaseException:
            await self._leave()
            raise
        self._open()

    async def close(self) -> None:
        """Stop the calls still going, which fail with `EngineClosed`, and disconnect: Ray ends their bodies."""
        self._close()
        for call in list(self._calls.values()):
            call.settle("closed", None)
            call.kill()
        await self._leave()

    async def _leave(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        assert self._post is not None
        self._runner = None
        self._functions.clear()
        left = False
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await _done(link.close(), self._post)
            left = True
        if not left:
            logger.warning("the cluster at %s does not answer; its connection is given up", self.address, extra=about())

    # -- calls

    async def submit(self, work: Work) -> Any:
        """Call the function on the cluster; see `Executor.submit`."""
        free = await self._take()
        call = None
        try:
            link, post = self._link, self._post
            if link is None or post is None:
                raise _closed(self)
            if self.lost_after is not None and link.silence >= self.lost_after:
                raise self._lost()
            call = self._calls[work] = _Call(self, work, link, post)
            link.do(call.start)
            await call.wait(self._watched)
        except anyio.get_cancelled_exc_class():
            if call is None:
                free.release()
            else:
                call.give_place_back = free.release  # once `cancel` is through with it
            raise
        except BaseException:
            self._calls.pop(work, None)
            free.release()
            raise
        self._calls.pop(work, None)
        free.release()
        return call.outcome()

    def _watched(self) -> float | None:
        """Seconds until a call that waits should look at the cluster again, or fails with `ClusterLost`."""
        link = self._link
        if self.lost_after is None or link is None:
            return None
        if link.silence >= self.lost_after:
            raise self._lost()
        return max(0.05, min(self.lost_after / 4, 5.0))

    def _lost(self) -> ClusterLost:
        return ClusterLost(self.address, f"its control plane has been silent for more than {self.lost_after:g} s")

    async def cancel(self, work: Work) -> bool:
        """Stop the body: as Python can be interrupted, and if that does not end it in time, by killing its process."""
        call = self._calls.pop(work, None)
        if call is None:
            return True
        try:
            steps = ((call.stop, self.grace), (call.kill, KILL_SECONDS), (call.hunt_down, HUNT_SECONDS))
            for step, seconds in steps:
                step()
                with anyio.move_on_after(seconds):
                    await call.wait()
                if call.how:
                    self.killed += step != call.stop
                    return True
            self._abandoned += 1
            call.when_over = self._not_abandoned_any_more
            logger.warning(
                "%s did not end on the cluster though it was cancelled, killed and hunted; it is given up",
                work.name,
                extra=about(),
            )
            return False
        finally:
            call.give_place_back()

    def _not_abandoned_any_more(self) -> None:
        self._abandoned -= 1

    async def fetched(self, remotes: list[Remote], function: str) -> list[Any]:
        """What stands for values on the cluster, as the values; raises `WorkerLost` if they are gone."""
        link, post = self._link, self._post
        if link is None or post is None:
            raise _closed(self)
        from concurrent.futures import Future  # it brings much along

        found = []
        for remote in remotes:
            asked: Future[Any] = Future()
            link.do(partial(_ask, remote.ref, asked))
            try:
                parts = await _done(asked, post)
            except Exception as error:
                raise _translated(error, function) from None
            found.append(unpacked(parts[remote.name]))
        return found

    # -- on Ray's thread

    def runner(self) -> Any:
        """The guarded runner as Ray's remote function."""
        if self._runner is None:
            self._runner = imported_ray().remote(max_retries=0, num_returns=2, retry_exceptions=False)(run_guarded)
        return self._runner

    def shipped(self, function: Callable[..., Any]) -> Any:
        """A reference to a function's pickle on the cluster: it travels once, however often it is called."""
        try:
            known = self._functions.get(function)
        except TypeError:
            return _pickled(function)  # not hashable
        if known is None:
            known = self._functions[function] = imported_ray().put(_pickled(function))
            while len(self._functions) > FUNCTIONS_KEPT:
                self._functions.popitem(last=False)
        return known


class _Call:
    """One attempt, from its submission to its outcome."""

    def __init__(self, executor: RayExecutor, work: Work, link: RayLink, post: Poster) -> None:
        self.how = ""
        """How it went: empty as long as it goes on."""
        self.give_place_back: Callable[[], object] = _nothing
        self.when_over: Callable[[], object] = _nothing
        self._executor = executor
        self._work = work
        # Of its own, so that its process can be told from all others.
        self._name = f"{work.name} {uuid4().hex[:12]}"
        self._link = link
        self._post = post
        self._value: Any = None
        self._refs: tuple[Any, Any] | None = None
        self._stopped = False
        self._waker: Waker = new_waker()

    # -- in the loop

    async def wait(self, look: Callable[[], float | None] | None = None) -> None:
        """Wait until it is over; `look` is asked how long to wait at most before it is asked again."""
        outside.add(self)
        try:
            while not self.how:
                with anyio.move_on_after(look() if look is not None else None):
                    await self._waker.park()
        finally:
            outside.discard(self)

    def settle(self, how: str, value: Any) -> None:
        """It is over, if it was not yet."""
        if not self.how:
            self.how, self._value = how, value
            self._waker.wake()
            self.when_over()

    def stop(self) -> None:
        """Have Ray interrupt it."""
        self._stopped = True
        self._link.do(partial(self._cancel, False))

    def kill(self) -> None:
        """Have Ray end its process."""
        self._stopped = True
        self._link.do(partial(self._cancel, True))

    def hunt_down(self) -> None:
        """Have somebody look for its process on every machine, to kill it."""
        self._link.do(self._hunt)

    def outcome(self) -> Any:
        """What the function gave; or raises what it raised."""
        how, value, self._value = self.how, self._value, None
        function = self._work.name
        if how == "returned":
            return value
        if how == "closed":
            raise _closed(self._executor)
        if how == "refused":
            what, where, text = value
            raise NotTransferable(function, what, text, where)
        if how == "raised":
            error, text = value
            error.add_note(f"on the cluster:\n{text}")
            try:
                raise error
            finally:
                del error, value  # or this frame and the error would keep each other
        raise value

    # -- on Ray's thread, and those that it calls back on

    def start(self) -> None:
        """Hand it to Ray."""
        if self._stopped:
            self._tell("closed", None)
            return
        work = self._work
        function = work.function
        observed = None
        if isinstance(function, wire.Observed):
            observed = (function.where, function.many, function.isolation, function.reducers)
            function = function.function
        try:
            shipped = self._executor.shipped(function)
        except Exception as error:
            self._tell("refused", ("function", "", str(error)))
            return
        options = options_of(work.resources)
        runner = self._executor.runner()
        arguments = (list(work.args), dict(work.kwargs))
        try:
            outcome, payload = runner.options(name=self._name, **options).remote(
                shipped, observed, arguments, work.keep_remote, work.backend
            )
        except (TypeError, pickle.PicklingError) as error:
            self._tell("refused", ("arguments", *_culprit(work, error)))
            return
        except Exception as error:
            self._tell("failed", error)
            return
        self._refs = (outcome, payload)
        outcome.future().add_done_callback(self._came)

    def _came(self, future: Future[Any]) -> None:
        try:
            how, value, more = future.result()
        except BaseException as error:
            self._tell("failed", _translated(error, self._work.name))
            return
        try:
            self._take_in(how, value, more)
        except Exception as error:
            self._tell("refused", ("result", "", f"{type(error).__name__}: {error}"))

    def _take_in(self, how: str, value: Any, more: Any) -> None:
        refs = self._refs
        assert refs is not None
        if how == "large":
            refs[1].future().add_done_callback(self._large_came)
        elif how == "returned":
            buffers, has_kept = more
            result = unpacked([value, *buffers])
            self._tell("returned", _with_refs(result, refs[1]) if has_kept else result)
        elif how == "raised":
            _, error, text = pickle.loads(value)
            self._tell("raised", (error, text))
        else:
            self._tell("refused", (*value, more))

    def _large_came(self, future: Future[Any]) -> None:
        try:
            parts = future.result()
        except BaseException as error:
            self._tell("failed", _translated(error, self._work.name))
            return
        try:
            self._tell("returned", unpacked(parts))
        except Exception as error:
            self._tell("refused", ("result", "", f"{type(error).__name__}: {error}"))

    def _cancel(self, force: bool) -> None:
        if self._refs is None:
            return
        try:
            imported_ray().cancel(self._refs[0], force=force, recursive=True)
        except Exception as error:
            logger.warning("%s could not be cancelled on the cluster: %s", self._work.name, error)

    def _hunt(self) -> None:
        ray = imported_ray()
        at = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        hunter = ray.remote(num_cpus=0, max_retries=0)(hunt)
        try:
            for node in ray.nodes():
                if node["Alive"]:
                    hunter.options(scheduling_strategy=at(node["NodeID"], soft=False)).remote(self._name)
        except Exception as error:
            logger.warning("nobody could be sent after %s: %s", self._name, error)

    def _tell(self, how: str, value: Any) -> None:
        try:
            self._post(partial(self.settle, how, value))
        except RuntimeError:
            return  # the loop is gone, and whoever waited with it


def options_of(resources: Mapping[str, float]) -> dict[str, Any]:
    """What a node asks for, as Ray wants it: its own words, and the names of custom resources."""
    known = {name: amount for name, amount in resources.items() if name in OPTIONS}
    custom = {name: amount for name, amount in resources.items() if name not in OPTIONS}
    return {**known, "resources": custom} if custom else known


def _nothing() -> None:
    """For a call that nobody waits for any more."""


def _pickled(function: Callable[..., Any]) -> bytes:
    data: bytes = import_module("ray.cloudpickle").dumps(function)
    return data


def _culprit(work: Work, error: Exception) -> tuple[str, str]:
    """Where in the arguments is what cannot be pickled, and why: Ray tells that on a page of its own."""
    for value, name in ((work.args, "args"), (work.kwargs, "kwargs")):
        try:
            pickle.dumps(value, wire.PROTOCOL)
        except Exception as why:
            return wire.culprit(value, name), str(why)
    return "", str(error).strip().partition("\n")[0]


def _with_refs(told: Any, ref: Any) -> Any:
    """What was done to a state, with the object that its large values are in."""
    changed, gone, mutated, passed_on, returned = told
    update = getattr(returned, "update", returned) if wire.is_goto(returned) else returned
    for values in (changed, update):
        for value in wire.values_in(values).values():
            if isinstance(value, Remote) and value.ref is None:
                value.ref = ref
    return changed, gone, mutated, passed_on, returned


def _ask(ref: Any, asked: Future[Any]) -> None:
    def came(future: Future[Any]) -> None:
        try:
            asked.set_result(future.result())
        except BaseException as error:
            asked.set_exception(error)

    try:
        ref.future().add_done_callback(came)
    except Exception as error:
        asked.set_exception(error)


async def _done(future: Future[Any], post: Poster) -> Any:
    """Wait for what another thread brings."""
    waker = new_waker()

    def came(_: Future[Any]) -> None:
        try:
            post(waker.wake)
        except RuntimeError:
            return  # the loop is gone, and whoever waited with it

    future.add_done_callback(came)
    outside.add(future)
    try:
        while not future.done():
            await waker.park()
    finally:
        outside.discard(future)
    return future.result()


def _translated(error: BaseException, function: str) -> BaseException:
    """An error of Ray's own as one of the engine's."""
    exceptions = import_module("ray.exceptions")
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, exceptions.RayTaskError):
        # Nothing gets out of the runner but what happens around it: of reading what it is to be called with.
        cause = getattr(error, "cause", error)
        return NotTransferable(function, "arguments", f"{type(cause).__name__}: {cause}".partition("\n")[0])
    lost = (
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,
        exceptions.ObjectFetchTimedOutError,
        exceptions.TaskCancelledError,
    )
    if isinstance(error, lost):
        return WorkerLost(function, None, None, said or type(error).__name__)
    return error
