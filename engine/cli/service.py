"""`workflow-engine serve`, and `workflow-engine keys`."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import attrs
import click

from ..app import Engine
from ..errors import EngineError
from ..logging_json import logging_to
from ..redaction import hide
from ..settings import Settings as EngineSettings
from .faults import SUCCESS, Refusal
from .loading import Loaded
from .settings import Settings
from .setup import NAME, Setup, Verbs, files_option, prepared, store_option, tools_option

if TYPE_CHECKING:
    from ..web.keys import Keys
    from ..web.wire import ASGIApp

logger = logging.getLogger("engine.web")

RELOAD_SECONDS: Final = 1.0
MOST_DAYS: Final = 36_500
"""A hundred years: dates end somewhere."""
_NEEDED: Final = {"asyncio": "uvicorn", "trio": "hypercorn"}


@click.command()
@click.option("--graphs", multiple=True, metavar="FILE|FOLDER|MODULE:ATTR", help="To serve.  [env: WORKFLOW_GRAPHS]")
@store_option
@files_option
@tools_option
@click.option("--host", metavar="ADDRESS", help="To listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, metavar="N", help="To listen on, 0 for any that is free.  [default: 8000]")
@click.option("--keys", metavar="FILE", help="API keys; `keys new` makes one.  [env: WORKFLOW_KEYS]")
@click.option("--insecure", is_flag=True, default=None, help="Let other machines in without a key.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="A site whose pages may use it.")
@click.option("--grace", type=float, metavar="SECONDS", help="For what runs when it is told to end.  [default: 20]")
@click.option("--slow-reader", type=float, metavar="SECONDS", help="Until who does not read is cut off.  [default: 20]")
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), help="What runs it.  [default: asyncio]")
@click.option("--durability", type=click.Choice(["standard", "strict", "relaxed"]), help="How safe is safe.")
@click.option("--max-runs", type=int, metavar="N", help="Runs at once; more wait.")
@click.option("--max-queued", type=int, metavar="N", help="Runs that may wait; more are refused.")
@click.option("--keep-runs", type=int, metavar="N", help="Ended runs to keep in memory.  [default: 10000]")
@click.option("--max-iterations", type=int, metavar="N", help="Limit of cycles that have none of their own.")
@click.option("--fallback", is_flag=True, default=None, help="Keep runs in memory if the store cannot be reached.")
@click.option("--shared", is_flag=True, default=None, help="Share a PostgreSQL store with other engines that do, too.")
@click.option("--lease", type=float, metavar="SECONDS", help="Of silence, until others take over.  [default: 15]")
@click.option("--takeovers", type=int, metavar="N", help="Of a run that gets nowhere, until it fails.  [default: 100]")
@click.option("--reload", is_flag=True, default=None, help="Take up changed tools, for new runs.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of the log on stderr.  [default: text]")
@prepared
def serve(setup: Setup) -> int:
    """Serve graphs over HTTP and WebSockets, until SIGTERM or Ctrl-C.

    Told to end, it takes no new runs, gives those that run up to --grace seconds, and leaves the rest to the store,
    from where the next start goes on. A second signal ends it at once.

    \b
    Examples:
        workflow-engine serve --graphs flows.py --tools my_tools
        workflow-engine serve --graphs definitions/ --store postgresql://… --log-format json
        workflow-engine serve --graphs flows.py --store postgresql://… --shared --max-runs 50
        workflow-engine keys new me --scope admin --file keys.toml
        workflow-engine serve --graphs my_package.flows:graphs --host 0.0.0.0 --keys keys.toml

    Without keys everybody who reaches it may do everything: so it listens to this machine only, unless --keys or
    --insecure are given. WORKFLOW_API_KEY may hold one key that may do everything. SIGHUP has the file of keys read
    again, so that one can be revoked.
    """
    from ..web import serving

    settings = setup.settings
    if find_spec(_NEEDED[settings.backend]) is None:
        raise Refusal(
            f"serving on {settings.backend} needs {_NEEDED[settings.backend]}", f"pip install '{NAME}[serve]'"
        )
    keys, graphs = _keys(settings), setup.graphs()
    service = serving.Service(
        engine=lambda: _engine(settings, serving.last_part(settings.grace) / 2),
        application=lambda engine, draining: _application(settings, keys, engine, draining),
        graphs=[loaded.graph for loaded in graphs],
        beside=list(_beside(settings)),
        host=settings.host,
        port=settings.port,
        backend=settings.backend,
        grace=settings.grace,
        has_keys=keys is not None,
        insecure=settings.insecure,
        reread=None if keys is None or settings.keys is None else partial(_reread, keys, settings.keys),
        started=lambda address: setup.terminal.say(*_welcome(settings, address, graphs)),
    )
    with _logging(settings):
        try:
            serving.serve(service)
        except serving.CannotServe as error:
            raise Refusal(str(error)) from error
    # Or Python looks through all that is left before it ends: a second for ten thousand runs, of a grace that is over.
    gc.freeze()
    return SUCCESS


def _engine(settings: Settings, close_seconds: float) -> Engine:
    return Engine(
        None if settings.in_memory else settings.store,
        files=settings.files,
        max_runs=settings.max_runs,
        max_queued=settings.max_queued,
        durability=settings.durability,
        fallback="memory" if settings.fallback and not settings.in_memory else None,
        shared=settings.sharing,
        settings=EngineSettings(
            threads=settings.threads,
            processes=settings.processes,
            prune=settings.prune,
            close_seconds=close_seconds,
            keep_runs=settings.keep_runs or EngineSettings().keep_runs,
        ),
    )


def _application(settings: Settings, keys: Keys | None, engine: Engine, draining: Any) -> ASGIApp:
    from prometheus_client import GCCollector, ProcessCollector

    from ..web import create_app
    from ..web.headers import LOOPBACK_NAMES
    from ..web.serving import is_loopback
    from ..web.streams import StreamLimits

    # Of the process: only a service is alone in it.
    ProcessCollector(registry=engine.metrics)
    GCCollector(registry=engine.metrics)
    # A page that has had its own name point here is told by the name that it asks for; with keys it has none to send.
    hosts = {*LOOPBACK_NAMES, settings.host.strip("[]")} if keys is None and is_loopback(settings.host) else None
    streams = StreamLimits(slow=settings.slow_reader)
    return create_app(engine, keys=keys, cors=settings.cors, draining=draining, hosts=hosts, streams=streams)


def _keys(settings: Settings) -> Keys | None:
    from ..web.keys import Keys

    if settings.keys is not None and settings.api_key is not None:
        raise Refusal("there are a file of keys and WORKFLOW_API_KEY", "put the key into the file, too")
    if settings.api_key is not None:
        hide(settings.api_key)
        return Keys.of_text(settings.api_key)
    if settings.keys is None:
        return None
    try:
        return Keys.read(settings.keys)
    except FileNotFoundError:
        raise Refusal(f"there is no file of keys {settings.keys!r}", f"{NAME} keys new NAME --file makes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"the file of keys {settings.keys!r} cannot be read: {error}") from None


def _reread(keys: Keys, file: str) -> None:
    """Have the file of keys count as it is now; one that cannot be used changes nothing."""
    from ..web.keys import Keys, KeysInvalid

    try:
        found = Keys.read(file)
    except (OSError, UnicodeDecodeError, KeysInvalid) as error:
        logger.error("the file of keys cannot be used, the keys that it had still count: %s", error)
        return
    come, gone = keys.become(found)
    logger.info(
        "the file of keys is read anew: %d keys; new: %s; gone: %s",
        len(keys),
        ", ".join(come) or "none",
        ", ".join(gone) or "none",
    )


@contextmanager
def _logging(settings: Settings) -> Iterator[None]:
    for secret in _secrets_in(settings.store):
        hide(secret)
    # A service is looked at by its log; the default is for commands, whose results speak for themselves.
    level = settings.log_level if "log_level" in settings.origins else "info"
    # What the other commands show on their terminal goes the way of all logs here.
    own = logging.getLogger("engine")
    handlers, own.handlers[:] = own.handlers[:], []
    own.setLevel(logging.NOTSET)  # whoever has set it sets it back
    with logging_to(sys.stderr, level, settings.log_format):
        try:
            yield
        finally:
            own.handlers[:] = handlers


def _secrets_in(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    if parts.password:
        yield from (parts.password, unquote(parts.password))
    yield from (value for name, value in parse_qsl(parts.query) if "password" in name.lower())


def _beside(settings: Settings) -> Iterator[Callable[[Engine], Coroutine[Any, Any, None]]]:
    if settings.reload:
        yield take_up_changes


async def take_up_changes(engine: Engine) -> None:
    """Have new runs use the tools of modules that have changed on disk; a module that is broken is told, once."""
    said = ""
    while True:
        await anyio.sleep(RELOAD_SECONDS)
        try:
            reloaded = await engine.reload_tools()
        except (EngineError, SyntaxError, ImportError) as error:
            if str(error) != said:
                logger.warning("the changed tools are not taken up, those from before stay: %s", error)
            said = str(error)
            continue
        said = ""
        if reloaded.modules:
            logger.info("taken up anew: %s", ", ".join(reloaded.modules))
        for refused in reloaded.refused:
            logger.warning("the changed tools do not fit a graph, which keeps those that it had: %s", refused)


def _welcome(settings: Settings, address: str, graphs: Sequence[Loaded]) -> Iterator[str]:
    if settings.log_format == "json":
        return  # the log says the same
    names = ", ".join(sorted({loaded.graph.name for loaded in graphs})) or "none yet"
    yield f"serving {address}  (API: {address}/docs; graphs: {names}; Ctrl-C ends it)"


# --- keys -----------------------------------------------------------------------------------------------


@click.group(cls=Verbs)
def keys() -> None:
    """Make API keys for a service.

    \b
    Examples:
        workflow-engine keys new me --scope admin --file keys.toml
        workflow-engine serve --keys keys.toml
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["read", "submit", "admin"]),
    help="What it may do: look; start runs and act on them; everything.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, max=MOST_DAYS, min_open=True),
    metavar="N",
    help="It is good for so long.",
)
@click.option("--file", type=click.Path(dir_okay=False), help="The file of keys to add it to.")
@prepared
def new(setup: Setup, name: str, scopes: Sequence[str], days: float | None, file: str | None) -> int:
    """Make a key. It is shown this once: what is kept is its hash.

    \b
    Examples:
        workflow-engine keys new ci --scope submit --days 90 --file keys.toml
        workflow-engine keys new prometheus --scope read >> keys.toml

    With --file the key is on stdout; without it the entry for a file of keys is, and the key on stderr.
    """
    from ..web.keys import Keys, new_key

    made = new_key(name, scopes, expires=float("inf") if days is None else time() + days * 86_400)
    if file is None:
        setup.terminal.say(f"the key of {name}, which is shown this once:", made.text)
        setup.terminal.data(made.entry().encode())
        return SUCCESS
    there = Path(file).read_text() if Path(file).exists() else ""
    entry = ("\n" if there else "") + made.entry()
    Keys.parse(there + entry, file)
    with open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as opened:
        opened.write(entry)
    setup.terminal.data(f"{made.text}\n".encode())
    return SUCCESS


@keys.command("ls")
@click.argument("file")
@prepared
def ls(setup: Setup, file: str) -> int:
    """Tell which keys a file has, without any secret.

    \b
    Examples:
        workflow-engine keys ls keys.toml | jq -r .name
    """
    found = _keys(attrs.evolve(setup.settings, keys=file, api_key=None))
    assert found is not None
    for key in found:
        expires = None if key.expires == float("inf") else key.expires
        told = {"name": key.principal.name, "id": key.id, "scopes": key.principal.shown_scopes(), "expires": expires}
        setup.terminal.result(told)
    return SUCCESS
