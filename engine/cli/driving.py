"""Driving one run to its end, with its progress shown, until it is over, only waits, or somebody presses Ctrl-C.

Other runs of the store are left alone (`Settings(recover=False)`): who asks for one run gets one. A run that only
waits for a signal is left in the store, since nobody can send one to a store that this process holds.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import time
from typing import Any, Final, Literal

import anyio
import attrs

from ..app import Engine
from ..errors import NodeFailed, RunFailed, said_by
from ..file import File
from ..handle import Run
from ..history import Event
from ..kept import KeptRun
from ..logs import handled
from ..underway import maps_under_way
from ..waits import names
from .faults import FAILED, INTERRUPTED, LEFT, SUCCESS, Refusal
from .interrupts import Interrupts
from .progress import Lines, Progress
from .safe import safe_text
from .settings import Settings
from .terminal import Drawing, Terminal

REFRESH_SECONDS: Final = 0.1

Show = Literal["drawing", "lines", "nothing"]
Ending = Literal["over", "waits", "interrupted", "unasked"]
Begin = Callable[[Engine], Awaitable[Run]]
"""Gives the run that is to be driven."""


@attrs.frozen
class Driven:
    """A run as it stood when it was left."""

    run: Run
    ending: Ending
    code: int
    """Of the exit."""

    @property
    def status(self) -> str:
        """`unfinished` is one that goes on when somebody drives it."""
        run, status = self.run, self.run.status
        return (
            "unfinished" if status in ("running", "queued") or (isinstance(run, KeptRun) and not run.over) else status
        )

    @property
    def files(self) -> tuple[File, ...]:
        """What it has made."""
        return () if isinstance(self.run, KeptRun) else self.run.files

    def to_dict(self) -> dict[str, Any]:
        """What there is to tell of it."""
        run = self.run
        found: dict[str, Any] = {"status": self.status, "run_id": run.id, "graph": run.graph, "version": run.version}
        if isinstance(run, KeptRun):
            return found  # without its graph no more is known
        found["state"] = run.state
        if errors := errors_of(run.machine.error):
            found["errors"] = errors
        return {**found, "counters": run.counters}


def errors_of(error: BaseException | None) -> list[dict[str, Any]]:
    """Why a run failed: one entry for each failure, with those of a subgraph inside it."""
    found = []
    for failure in error.exceptions if isinstance(error, RunFailed) else ():
        cause = failure.cause if isinstance(failure, NodeFailed) else failure
        entry: dict[str, Any] = {"type": type(cause).__name__, "message": said_by(cause)}
        if isinstance(failure, NodeFailed):
            place = {"node": failure.node, "activation": failure.activation, "attempts": failure.attempts}
            entry = {**place, **entry}
        if notes := getattr(cause, "__notes__", None):
            entry["notes"] = [str(note) for note in notes]
        if inside := errors_of(cause):
            entry["errors"] = inside
        found.append(entry)
    return found


class Driver:
    """Drives runs for a command."""

    def __init__(self, terminal: Terminal, settings: Settings, show: Show, again: Callable[[Run], str]) -> None:
        self._terminal = terminal
        self._settings = settings
        self._show = show
        self._again = again
        """The command by which a run goes on."""

    def drive(self, begin: Begin, engine: Callable[[], Engine], *, wait: bool = True) -> Driven:
        """Begin, and drive what that gives; without `wait` only let the store know, and leave it there."""
        return anyio.run(self._drive, begin, engine, wait, backend=self._settings.backend)

    async def _drive(self, begin: Begin, make: Callable[[], Engine], wait: bool) -> Driven:
        follower = Follower(self._terminal, self._show)
        found: list[Run] = []
        ending: Ending = "over"
        failed: Exception | None = None

        def last_words() -> None:
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # the cursor, which a drawing hides
            sys.stderr.write(safe_text("left at once" + (f"; {self._where(found[0])}\n" if found else "\n")))

        with Interrupts(last_words) as interrupts:
            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()
                group.start_soon(self._heed, interrupts, scope, found)
                with scope:
                    async with make() as engine:
                        try:
                            run = await follower.begin(engine, begin)
                            found.append(run)
                            if wait:
                                ending = await self._follow(follower, run)
                            else:
                                ending = "unasked"
                        except Exception as error:
                            failed = error
                        if failed is not None or ending in ("waits", "unasked"):
                            scope.cancel()  # leaves what is not over in the store, and waits for nothing
                            await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        if not found:
            raise Refusal("interrupted", code=interrupts.code)
        if interrupts.number and ending == "over" and (not found[0].over or found[0].status == "cancelled"):
            ending = "interrupted"
        return self._driven(found[0], ending, interrupts.code if interrupts.number else 0)

    async def _heed(self, interrupts: Interrupts, scope: anyio.CancelScope, found: list[Run]) -> None:
        await interrupts.wait()
        if self._settings.in_memory and found:
            self._terminal.say(f"cancelling run {found[0].id}; Ctrl-C again leaves at once")
            await found[0].cancel("interrupted")
        else:
            self._terminal.say("stopping; Ctrl-C again leaves at once")
            scope.cancel()

    async def _follow(self, follower: Follower, run: Run) -> Ending:
        """Show it until it is over, or goes no further by itself."""
        if isinstance(run, KeptRun) and not run.over:
            raise run.why
        waits = False
        async with anyio.create_task_group() as group:

            async def look() -> None:
                nonlocal waits
                with follower.showing():
                    while True:
                        await anyio.sleep(REFRESH_SECONDS)
                        follower.refresh()
                        if is_left_to_others(run):
                            waits = True
                            group.cancel_scope.cancel()

            group.start_soon(look)
            await run.wait()
            group.cancel_scope.cancel()
        if waits and self._settings.in_memory:
            await run.cancel(f"it {waits_for(run)}, which cannot come: it is in memory")
            await run.wait()
            waits = False
        return "waits" if waits else "over"

    def _driven(self, run: Run, ending: Ending, number: int) -> Driven:
        say = self._terminal.say
        code = SUCCESS
        if ending == "interrupted":
            code = number or INTERRUPTED
            say(f"run {run.id} was interrupted; {self._where(run)}")
        elif ending == "waits":
            code = LEFT
            say(f"run {run.id} {waits_for(run)}; {self._where(run)}")
        elif ending == "over" and run.status != "succeeded":
            code = FAILED
            error = run.machine.error
            if self._show != "nothing":
                say(error.message if isinstance(error, RunFailed) else str(error or f"run {run.id} {run.status}"))
        return Driven(run, ending, code)

    def _where(self, run: Run) -> str:
        if self._settings.in_memory:
            return "it was in memory only, and is gone"
        return f"it stays in the store, and goes on by\n  {self._again(run)}"


class Follower:
    """Shows the events of one run."""

    def __init__(self, terminal: Terminal, show: Show) -> None:
        self._terminal = terminal
        self._show = show
        self._run: Run | None = None
        self._progress = Progress()
        self._lines = Lines()
        self._early: list[tuple[Run, Event]] = []
        self._drawing: Drawing | None = None

    async def begin(self, engine: Engine, begin: Begin) -> Run:
        """Begin it, and miss nothing that happens from then on."""
        engine.subscribe(self._came)
        run = await begin(engine)
        self._run = run
        if isinstance(run, KeptRun):
            return run
        history = run.machine.history
        if self._show == "lines":
            self._terminal.say(f"run {run.id} of {run.graph!r}")
        self._progress = Progress(run.machine.plan)
        for event in history.events(history.first_kept - 1):
            self._progress.apply(event)
        # What was before this life was told in that one.
        for of, event in self._early:
            if of is run:
                self._tell(event)
        self._early.clear()
        return run

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Draw it, as long as this is entered, if that is how it is shown."""
        if self._show != "drawing":
            yield
            return
        with self._terminal.drawing() as self._drawing:
            try:
                self.refresh()
                yield
            finally:
                self.refresh()
                self._drawing = None

    def refresh(self) -> None:
        """Show how it stands."""
        run = self._run
        if run is None or self._show == "nothing":
            return
        under_way = list(maps_under_way(run.machine))
        if self._drawing is not None:
            self._progress.maps(under_way)
            self._drawing.show(self._progress, f"{run.graph} {run.id}")
        elif self._show == "lines":
            self._terminal.say(*self._lines.of_maps(under_way, time()))

    def _came(self, run: Run, event: Event) -> None:
        if self._run is None:
            self._early.append((run, event))
        elif run is self._run:
            self._progress.apply(event)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._show == "lines":
            self._terminal.say(*self._lines.of(event))


def is_left_to_others(run: Run) -> bool:
    """Whether it goes no further unless somebody does something: signals it, or lets it go on after a pause."""
    if not run.at_rest:
        return False
    return run.status == "paused" or all(node.timeout is None for node, _ in _parked(run))


def waits_for(run: Run) -> str:
    """What it waits for, in words."""
    if run.status == "paused":
        return "is paused"
    signals = dict.fromkeys(name for _, known in _parked(run) for name in known)
    return f"waits for the signal {' or '.join(map(repr, signals))}" if signals else "waits"


def signals_of(run: Run) -> list[str]:
    """The signals that it waits for now."""
    return list(dict.fromkeys(name for _, known in _parked(run) for name in known))


def _parked(run: Run) -> list[tuple[Any, tuple[str, ...]]]:
    parked = run.machine.tree.signals.parked
    return [(activation.node.decl.wait, names(activation.node)) for activation in parked]


def logging_to(terminal: Terminal, settings: Settings) -> AbstractContextManager[None]:
    """Have the engine's log, and the nodes', shown with all else that is for people, until this is left."""
    handler = _Handler(terminal)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    # The end of a run is told anyway.
    handler.addFilter(lambda record: record.name != "engine" or not hasattr(record, "status"))
    return handled(logging.getLogger("engine"), handler, settings.log_level)


class _Handler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._terminal.say(self.format(record))
        except Exception:
            self.handleError(record)
