"""What can be set for all commands, and where it comes from: flags, then `WORKFLOW_*` variables, then `workflow.toml`.

One table: a field of `Settings` is a flag, a variable and a key of the file at once. Everything that is wrong is told
together, each with the place that said so. What is secret (a password in a store's address) is shown nowhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import attrs

from ..blocking import Backend
from ..keeping import Durability
from ..logging_json import LogFormat
from ..schema import did_you_mean
from ..settings import Settings as EngineSettings
from ..sharing import Sharing
from ..stores.urls import without_password
from .faults import Refusal
from .files import MOST_SETTINGS_BYTES, read_file

PREFIX: Final = "WORKFLOW_"
FILE: Final = "workflow.toml"
GRACE_SECONDS: Final = 20.0
"""Less than the 30 that Kubernetes gives, and systemd's 90."""
MEMORY: Final = "memory:"
"""The store that is none: runs in memory, at full speed, gone with the process."""

LogLevel = Literal["debug", "info", "warning", "error"]
_MOST_DIGITS: Final = 18
_SHOWN: Final = 100
Reader = Callable[[Any], Any]


# --- what a value must be; each raises ValueError with what it should have been -------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if type(value) is not int or value < 1:
        raise ValueError("must be a whole number of at least 1")
    return value


def _port(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if type(value) is not int or not 0 <= value < 65536:
        raise ValueError("must be a port, or 0 for any that is free")
    return value


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds < 86_400:
        raise ValueError("must be seconds, more than 0 and less than a day")
    return seconds


def _switch(value: Any) -> bool:
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, str) and value.lower() in found:
        return found[value.lower()]
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise ValueError("must be a list of names, or names with commas between them")
    return tuple(value)


def _one_of(choices: Sequence[str]) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        hint = did_you_mean(value, choices)
        raise ValueError(f"must be {' or '.join(choices)}" + (f"; {hint}" if hint.startswith("did") else ""))

    return read


def _store(value: Any) -> str:
    address = _text(value)
    if address in (MEMORY, "memory"):
        return MEMORY
    if "://" not in address:
        hint = f"; did you mean 'sqlite:///{address}'?" if ":" not in address else ""
        raise ValueError(f"must be an address: sqlite:///runs.db, postgresql://…, redis://… or {MEMORY}{hint}")
    return address


def _address(value: Any) -> str:
    address = _text(value)
    if not address.startswith(("http://", "https://")) or "@" in address:
        raise ValueError("must be the address of a service: http://127.0.0.1:8000, with no name or password in it")
    return address


def setting(default: Any, read: Reader, secret: Callable[[Any], str] | None = None) -> Any:
    return attrs.field(default=default, repr=secret or repr, metadata={"read": read, "shown": secret or repr})


# --- the table ------------------------------------------------------------------------------------------


def shown_store(address: Any) -> str:
    """An address as it may be seen by anybody; nothing of what cannot be read as one, since who knows what it holds."""
    if isinstance(address, str) and ("://" in address or "@" not in address):
        return repr(without_password(address))
    return f"what is not shown, since it may hold a password ({type(address).__name__})"


def _shown_files(address: Any) -> str:
    """Without its settings, among which may be keys."""
    return repr(str(address).partition("?")[0])


def _hidden(value: Any) -> str:
    return "what is not shown"


@attrs.frozen(kw_only=True)
class Settings:
    """What all commands go by."""

    store: str = setting("sqlite:///runs.db", _store, shown_store)
    """Where runs are kept."""
    files: str | None = setting(None, _text, _shown_files)
    """Where the contents of files are kept, if not beside the store."""
    graphs: tuple[str, ...] = setting((), _names)
    """Files and `module:attribute`s of the graphs whose runs may go on."""
    tools: tuple[str, ...] = setting((), _names)
    """Modules, or `module:attribute`s, that bring tools."""
    backend: Backend = setting("asyncio", _one_of(get_args(Backend)))
    durability: Durability = setting("standard", _one_of(get_args(Durability)))
    max_runs: int | None = setting(None, _count)
    """Runs at once; more wait."""
    max_queued: int | None = setting(None, _count)
    """Runs that may wait; more are refused."""
    max_iterations: int | None = setting(None, _count)
    """The limit of cycles in graphs that leave `Graph(max_iterations=)` at its default."""
    threads: int | None = setting(None, _count)
    processes: int | None = setting(None, _count)
    keep_runs: int | None = setting(None, _count)
    """Ended runs that a service keeps in memory; the engine's own default if it is left out."""
    prune: bool = setting(True, _switch)
    """Whether records of long runs are dropped that a snapshot stands for."""
    log_level: LogLevel = setting("warning", _one_of(get_args(LogLevel)))
    host: str = setting("127.0.0.1", _text)
    """Where a service listens."""
    port: int = setting(8000, _port)
    """0 for any that is free."""
    keys: str | None = setting(None, _text)
    """The file of API keys."""
    api_key: str | None = setting(None, _text, _hidden)
    """A key itself: of a service that is asked; or the one that may do everything, of one that is started."""
    server: str | None = setting(None, _address, shown_store)
    """A service whose runs the commands are about, instead of those of a store."""
    insecure: bool = setting(False, _switch)
    """Whether other machines may reach it without a key."""
    cors: tuple[str, ...] = setting((), _names)
    """Sites whose pages may use it."""
    grace: float = setting(GRACE_SECONDS, _seconds)
    """How long it may take to end."""
    slow_reader: float = setting(20.0, _seconds)
    """How long somebody who watches a run may take none of what is sent, until they are cut off."""
    fallback: bool = setting(False, _switch)
    """Whether it keeps runs in memory if the store cannot be reached when it starts."""
    shared: bool = setting(False, _switch)
    """Whether other engines have the store at the same time."""
    lease: float = setting(Sharing().lease, _seconds)
    """How long one of them may be silent before the others go on with its runs."""
    takeovers: int = setting(100, _count)
    """How many of them in a row may be lost with a run that gets no further, before it is failed."""
    reload: bool = setting(False, _switch)
    """Whether new runs get the tools of modules that have changed."""
    log_format: LogFormat = setting("text", _one_of(get_args(LogFormat)))
    config: str | None = None
    """The file that was asked for."""
    origins: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Where each that was given came from: `--store`, `WORKFLOW_STORE`, `workflow.toml`."""

    @property
    def in_memory(self) -> bool:
        """Whether runs are gone with the process."""
        return self.store == MEMORY

    @property
    def sharing(self) -> bool | Sharing:
        """How the store is shared, if it is; raises `Refusal` for one that cannot be."""
        if not self.shared:
            return False
        if not self.store.startswith(("postgresql://", "postgres://")):
            raise Refusal(f"--shared is for postgresql://… only, found {shown_store(self.store)}")
        usual = Sharing()
        return Sharing(
            lease=self.lease,
            renew=self.lease * usual.renew / usual.lease,
            poll=min(usual.poll, self.lease / 10),
            takeovers=self.takeovers,
        )

    @property
    def for_engine(self) -> EngineSettings:
        """Those of an engine that drives single runs, and leaves all others of its store alone."""
        return EngineSettings(threads=self.threads, processes=self.processes, prune=self.prune, recover=False)


_FIELDS: Final[Mapping[str, attrs.Attribute[Any]]] = {
    field.name: field for field in attrs.fields(Settings) if field.metadata
}


@attrs.frozen
class Source:
    """One place that settings come from: how it calls a setting, what it gives, and names that it should not."""

    call: Callable[[str], str]
    given: Mapping[str, Any]
    unknown: Sequence[str] = ()


def gather(sources: Sequence[Source]) -> Settings:
    """The settings of these places, the first that has one deciding; raises `Refusal` with all that is wrong."""
    faults = [fault for source in sources for fault in source.unknown]
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source in sources:
        for name, value in source.given.items():
            field = _FIELDS[name]
            try:
                read = field.metadata["read"](value)
            except ValueError as error:
                faults.append(f"{source.call(name)} {error}, found {_brief(field.metadata['shown'](value))}")
            else:
                if name not in found:
                    found[name], origins[name] = read, source.call(name)
    if faults:
        raise Refusal("\n  ".join(["the settings are wrong:", *faults]) if len(faults) > 1 else faults[0])
    return Settings(**found, origins=origins)


def _brief(shown: str) -> str:
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(shown):,} characters)"


def from_flags(flags: Mapping[str, Any]) -> Source:
    """Those that were given on the command line; `None` and `()` mean that one was not."""
    given = {name: value for name, value in flags.items() if name in _FIELDS and value not in (None, ())}
    return Source(lambda name: f"--{name.replace('_', '-')}", given)


def from_environment(environment: Mapping[str, str]) -> Source:
    """Those of the environment; an empty variable is one that is not there."""
    names = {variable.removeprefix(PREFIX).lower(): value for variable, value in _ours(environment)}
    return Source(lambda name: PREFIX + name.upper(), {name: value for name, value in names.items() if name in _FIELDS})


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """What is to be said of variables that look like settings and are none: others may have them, too."""
    for variable, _ in _ours(environment):
        if variable.removeprefix(PREFIX).lower() not in _FIELDS:
            hint = did_you_mean(variable, [PREFIX + name.upper() for name in _FIELDS])
            yield f"{variable} is no setting" + (f"; {hint}" if hint else "")


def _ours(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in sorted(environment.items()) if name.startswith(PREFIX) and value)


def from_table(table: Mapping[str, Any], file: str) -> Source:
    """Those of a file, whose keys are the settings' names."""
    unknown = []
    for key in table:
        if key not in _FIELDS:
            hint = did_you_mean(key, _FIELDS)
            unknown.append(f"{file}: there is no setting {key!r}" + (f"; {hint}" if hint else ""))
    given = {key: value for key, value in table.items() if key in _FIELDS}
    return Source(lambda name: f"{name} in {file}", given, unknown)


def from_file(path: str | None) -> Source:
    """Those of a file, by default of `workflow.toml` in the working directory, if it is there."""
    file = Path(path or FILE)
    try:
        text = read_file(file, MOST_SETTINGS_BYTES)
    except FileNotFoundError:
        if path is None:
            return from_table({}, FILE)
        raise Refusal(f"--config: there is no file {path!r}") from None
    try:
        return from_table(tomllib.loads(text.decode()), str(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} is not TOML: {error}") from None
    except ValueError:  # Python's own, which only speaks of itself
        raise Refusal(f"{file}: a number has too many digits") from None
    except RecursionError:
        raise Refusal(f"{file} is nested too deep") from None
