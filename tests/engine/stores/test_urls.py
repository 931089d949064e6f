"""A store by its address."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.stores import MemoryStore, open_store

DRIVERS = ["sqlite3", "psycopg", "coredis", "redis", "asyncpg"]


def test_memory_is_an_address() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize("form", ["sqlite:///runs.db", "sqlite:////{folder}/runs.db"])
async def test_a_file_is_an_address_relative_or_absolute(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store(form.format(folder=str(tmp_path).lstrip("/"))) as store:
        assert store.facts.url == f"sqlite:///{tmp_path}/runs.db"

    assert set(os.listdir(tmp_path)) == {"runs.db", "runs.db.lock"}


@pytest.mark.parametrize("url", ["mysql://host/db", "", "runs.db", "sqlite", "sqlite:/runs.db", "://", "memory:"])
def test_an_address_of_no_store_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"known are memory://, sqlite:///file.db, postgresql://.*, redis://"
    ) as raised:
        open_store(url)

    assert repr(url) in str(raised.value)


def test_a_refused_address_is_shown_without_its_password() -> None:
    with pytest.raises(ValueError, match="known are") as raised:
        open_store("mysql://me:secret@host/db")

    assert "mysql://me:***@host/db" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://runs.db"])
def test_an_address_without_a_file_is_refused_with_how_to_write_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no file; write sqlite:///file\.db"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "name", "driver"),
    [("postgresql://h/d", "PostgresStore", "psycopg"), ("redis://h", "RedisStore", "coredis")],
)
def test_a_missing_driver_is_named_with_the_extra_that_brings_it(
    url: str, name: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"psycopg": "postgres", "coredis": "redis"}[driver]

    def missing(_name: str, _package: str) -> None:
        raise ModuleNotFoundError(f"No module named {driver!r}", name=driver)

    monkeypatch.setattr("importlib.import_module", missing)

    with pytest.raises(ImportError, match=rf"{name} needs {driver}.*pip install 'workflow-engine\[{module}\]'"):
        open_store(url)


def test_no_driver_is_imported_before_it_is_asked_for() -> None:
    code = f"import sys, engine, engine.stores; print([name for name in {DRIVERS} if name in sys.modules])"
    folder = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "url",
    [
        "nothing://me:s3cret@host/runs",
        "nothing://me@host/runs?password=s3cret",
        "nothing://host?a=1&sslpassword=s3cret",
    ],
)
def test_an_address_that_is_refused_shows_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="no store has the address") as refused:
        open_store(url)
    assert "s3cret" not in str(refused.value)
