"""One call that is to be made elsewhere, and how it is made: the same for every executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from .worker import Observed, backend_here, finished

if TYPE_CHECKING:
    from ..ports import Executor

_NOTHING: Final[Mapping[str, Any]] = {}


@attrs.define(eq=False)
class Work:
    """A function with what it is called with. Calling this makes the call, wherever that happens."""

    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = _NOTHING
    resources: Mapping[str, float] = _NOTHING
    """What the node asks for, in words of the executor's: `{"num_cpus": 1}`."""
    keep_remote: bool = False
    """Whether large values of the result may stay where they are made, as references."""
    backend: str = attrs.field(factory=backend_here)
    """Where an async function is awaited: in a new loop of this kind."""

    def __call__(self) -> Any:
        """Call the function, and await what it returns if it is an async one."""
        return finished(self.function(*self.args, **self.kwargs), self.backend)

    @property
    def name(self) -> str:
        """Which function it is, for people."""
        return shown_function(self.function)


@attrs.frozen
class Capabilities:
    """What an executor can do; what it says it can is tested by the contract suite."""

    stops: bool = False
    """`cancel` ends the work, whatever it is doing. Else it may go on for nobody, and `abandoned` counts it."""
    shares_memory: bool = False
    """Arguments and result are not copied on their way. Elsewhere they must be picklable."""
    sees_context: bool = False
    """The function sees the context variables of whoever called `submit`."""
    loses_workers: bool = False
    """What makes the call can die without us: `WorkerLost`."""
    any_function: bool = False
    """Functions that no module has, such as lambdas, can be called, though memory is not shared."""
    keeps_remote: bool = False
    """It heeds `Work.keep_remote`."""
    takes_resources: bool = False
    """It heeds `Work.resources`."""


@attrs.frozen
class Health:
    """How an executor is, in numbers since it was started; for metrics."""

    trouble: str = ""
    """Why nothing can be run at present; empty if it can."""
    running: int = 0
    waiting: int = 0
    """Calls that wait for one of `limit` places."""
    started: int = 0
    killed: int = 0
    """Workers killed because their call was cancelled."""
    abandoned: int = 0
    """Calls given up that go on all the same, now."""
    restarts: int = 0
    """Workers started in the place of one that was killed or died."""


async def done_by(executor: Executor, work: Work) -> Any:
    """Have an executor do it. Being cancelled stops it there, as far as the executor can, before this raises."""
    try:
        return await executor.submit(work)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await executor.cancel(work)
        raise


def shown_function(function: Callable[..., Any]) -> str:
    """A function's full name, if it has one."""
    if isinstance(function, Observed):
        function = function.function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(function)
