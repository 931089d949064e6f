"""A store by its address. Drivers are imported here only, and only when one of theirs is asked for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from ..ports import Store
from .memory import MemoryStore

_PASSWORD = re.compile(r"([?&][a-z]*password=)[^&#]*", re.IGNORECASE)
_KNOWN = "memory://, sqlite:///file.db, postgresql://user@host/database, redis://host"


def open_store(url: str) -> Store:
    """Make the store at an address; nothing is opened before it is entered.

    Raises `ValueError` for an address that names no store, `ImportError` if the driver for it is not installed.
    """
    scheme, colon, rest = url.partition("://")
    match scheme if colon else "":
        case "memory":
            return MemoryStore()
        case "sqlite":
            file = _file(url, rest)
            from .sqlite import SqliteStore

            return SqliteStore(file)
        case "postgresql" | "postgres":
            return _of_driver("postgres", "PostgresStore", "psycopg")(url)
        case "redis" | "rediss":
            return _of_driver("redis", "RedisStore", "coredis")(url)
    raise ValueError(f"no store has the address {without_password(url)!r}; known are {_KNOWN}")


def without_password(url: str) -> str:
    """The address as it may be shown: without a password, wherever it stands."""
    parts = urlsplit(url)
    if parts.password is not None:
        url = url.replace(f":{parts.password}@", ":***@", 1)
    return _PASSWORD.sub(r"\1***", url)


def _file(url: str, rest: str) -> str:
    if not rest.startswith("/") or rest == "/":
        raise ValueError(
            f"{url!r} names no file; write sqlite:///file.db for one in the current folder, "
            f"sqlite:////folder/file.db for any other"
        )
    return rest[1:]


def _of_driver(module: str, name: str, driver: str) -> Callable[[str], Store]:
    try:
        found = importlib.import_module(f".{module}", __package__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != driver:
            raise
        raise ImportError(
            f"{name} needs {driver}, which is not installed: pip install 'workflow-engine[{module}]'", name=driver
        ) from error
    # The module cannot be named here: its driver has no types where it is not installed.
    return cast(Callable[[str], Store], getattr(found, name))
