"""What the commands share: settings, streams, loaded graphs; and the options by which these are given."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import attrs
import click

from ..app import Engine
from ..handle import Run
from ..kept import KeptRun
from ..schema import did_you_mean
from ..stores.urls import without_password
from .driving import Driven, Show, logging_to, signals_of
from .faults import Refusal
from .loading import Loaded, Loader, load_tools
from .results import saved, told
from .settings import (
    LogLevel,
    Settings,
    from_environment,
    from_file,
    from_flags,
    gather,
    unknown_variables,
)
from .streams import OutputLost
from .terminal import Terminal

F = TypeVar("F", bound=Callable[..., Any])

NAME: Final = "workflow-engine"
_LOOKING: Final = ("tools", "store", "server", "config")
_DRIVING: Final = ("tools", "store", "files", "server", "backend", "durability", "max_iterations", "config")
"""What commands that look at runs, or drive them, have to be told anew."""
_SETTINGS: Final = {field.name for field in attrs.fields(Settings)}


@attrs.frozen
class Setup:
    """What a command works with."""

    settings: Settings
    terminal: Terminal

    @functools.cached_property
    def loader(self) -> Loader:
        """Loads graphs, with the tools that were asked for."""
        load_tools(self.settings.tools)
        return Loader(self.settings.max_iterations)

    def graphs(self) -> list[Loaded]:
        """Those whose runs may go on."""
        return self.loader.all(self.settings.graphs)

    def engine(self, graphs: Sequence[Loaded] = ()) -> Engine:
        """An engine on the store, for single runs."""
        settings = self.settings
        engine = Engine(
            None if settings.in_memory else settings.store,
            files=settings.files,
            max_runs=settings.max_runs,
            max_queued=settings.max_queued,
            durability=settings.durability,
            settings=settings.for_engine,
            shared=settings.sharing,
        )
        for loaded in graphs:
            engine.register(loaded.graph)
        return engine

    def stored(self) -> Settings:
        """The settings, of which the store must be one that is there already."""
        if self.settings.in_memory:
            raise Refusal("runs in memory are gone with their process", "name a store: --store sqlite:///runs.db")
        file = self.settings.store.removeprefix("sqlite:///")
        if file != self.settings.store and not Path(file).exists():
            raise Refusal(
                f"there is no store {self.settings.store}",
                "name another with --store or WORKFLOW_STORE; `workflow-engine run` makes one",
            )
        return self.settings

    def show(self, *, quiet: bool, progress: bool) -> Show:
        """How a run is to be shown."""
        if quiet:
            return "nothing"
        if not progress or not self.terminal.is_drawn_on:
            return "lines"
        self.terminal.ready_to_draw()
        return "drawing"

    def again(self, run: Run, graphs: Sequence[str]) -> str:
        """The command by which a run of the store goes on."""
        signals = [] if isinstance(run, KeptRun) or run.status != "waiting" else signals_of(run)
        if signals:
            return self.command("runs", "signal", run.id, signals[0], graphs=graphs)
        return self.command("runs", "resume", run.id, graphs=graphs)

    def tell_result(self, driven: Driven, graphs: Sequence[str], out: str | None = None) -> None:
        """Write a run's result, or say where it is since it could not be written; raises `OutputLost`.

        The files of one that succeeded go to the folder `out`, if there is one.
        """
        try:
            files = driven.files
            result = driven.to_dict()
            if files:
                result["files"] = saved(files, out) if out and driven.status == "succeeded" else told(files)
            self.terminal.result(result)
        except OutputLost as lost:
            where = "it was in memory only, and is gone"
            if not self.settings.in_memory:
                where = f"to see it again:\n  {self.command('runs', 'show', driven.run.id, graphs=graphs, of=_LOOKING)}"
            raise OutputLost(str(lost), f"run {driven.run.id}: {driven.status}; {where}", code=lost.code) from lost

    def command(self, *words: str, graphs: Sequence[str] = (), of: Sequence[str] = _DRIVING) -> str:
        """A command line that works on the same store, as one can paste it: no more than is needed, and no secret."""
        settings, line = self.settings, [*_called(), *words]
        for source in graphs:
            line += ["--graphs", source]
        for name in of:
            flag = f"--{name.replace('_', '-')}"
            if settings.origins.get(name) == flag:
                value = getattr(settings, name)
                for one in value if isinstance(value, tuple) else [value]:
                    shown = str(one).partition("?")[0] if name == "files" else without_password(str(one))
                    line += [flag, shown]
        return shlex.join(line)


def _called() -> list[str]:
    return ["python", "-m", "engine"] if Path(sys.argv[0]).name == "__main__.py" else [NAME]


# --- options --------------------------------------------------------------------------------------------


def _debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and context.obj is not None:
        context.obj["debug"] = True


_COMMON = (
    click.option("--config", metavar="FILE", help="Settings to go by.  [default: workflow.toml, if it is there]"),
    click.option("--log-level", type=click.Choice(get_args(LogLevel)), help="Of what is logged to stderr."),
    click.option("--debug", is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks."),
)

store_option = click.option(
    "--store", metavar="URL", help="sqlite:///runs.db, postgresql://…, redis://… or memory:  [env: WORKFLOW_STORE]"
)
files_option = click.option(
    "--files",
    metavar="URL|DIR",
    help="Where files are kept: s3://bucket, a folder.  [default: beside the store; env: WORKFLOW_FILES]",
)
server_option = click.option(
    "--server", metavar="URL", help="A service, whose runs these are then.  [env: WORKFLOW_SERVER]"
)
key_option = click.option(
    "--key", "api_key", metavar="KEY", help="For that service; better in the environment.  [env: WORKFLOW_API_KEY]"
)
graphs_option = click.option(
    "--graphs", multiple=True, metavar="FILE|MODULE:ATTR", help="Where the run's graph is.  [env: WORKFLOW_GRAPHS]"
)
tools_option = click.option(
    "--tools", multiple=True, metavar="MODULE[:ATTR]", help="Tools that definitions may name.  [env: WORKFLOW_TOOLS]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, on a terminal too.")


def options(*given: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator."""

    def add(function: F) -> F:
        for option in reversed(given):
            function = option(function)
        return function

    return add


of_runs_option = options(store_option, server_option, key_option)
"""Where the runs are that a command is about."""

driving_options = options(
    click.option("--backend", type=click.Choice(["asyncio", "trio"]), help="What runs it.  [default: asyncio]"),
    click.option("--durability", type=click.Choice(["standard", "strict", "relaxed"]), help="How safe is safe."),
    click.option("--max-runs", type=int, metavar="N", help="Runs at once, of those that nodes submit too."),
    click.option("--max-iterations", type=int, metavar="N", help="Limit of cycles that have none of their own."),
    click.option("-q", "--quiet", is_flag=True, help="Show nothing but the result."),
    click.option("--no-progress", is_flag=True, help="Plain lines, on a terminal too."),
)


def prepared(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """A command that gets a `Setup` of the settings among its options, and whose stdout is for results only."""

    @functools.wraps(function)
    def command(config: str | None, log_level: str | None, **given: Any) -> int | None:
        flags = {name: given.pop(name) for name in list(given) if name in _SETTINGS}
        terminal = Terminal()
        sources = [from_flags({**flags, "log_level": log_level}), from_environment(os.environ), from_file(config)]
        settings = gather(sources)
        if config is not None:
            settings = attrs.evolve(settings, origins={**settings.origins, "config": "--config"}, config=config)
        if settings.backend == "trio" and find_spec("trio") is None:
            raise Refusal("trio is not installed", f"pip install '{NAME}[trio]', or --backend asyncio")
        for unknown in unknown_variables(os.environ):
            terminal.say(f"{NAME}: {unknown}")
        setup = Setup(settings, terminal)
        with logging_to(terminal, settings), terminal.stdout_kept_clean():
            return function(setup, **given)

    decorated: Callable[..., int | None] = options(*_COMMON)(command)
    return decorated


class Verbs(click.Group):
    """Commands; one that is not known is told with the nearest that is."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find it."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}; {did_you_mean(args[0], self.commands) or 'see --help'}")
        return super().resolve_command(ctx, args)
