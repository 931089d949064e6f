"""What PostgreSQL says is wrong, for the operator: where, what was found, and the cure where it is known."""

from __future__ import annotations

import psycopg
from psycopg import errors

from ...errors import StoreUnavailable

# A connection that could not be made has no code, only words: those of the server, in English, or of libpq.
_CURES_OF_CONNECTING = {
    # Before "database", which is what the server calls itself then.
    "starting up": "it will be back in a moment",
    "shutting down": "it will be back once it is started again",
    "password authentication failed": "check the user and the password in the address",
    "no password supplied": "give a password in the address, PGPASSWORD or ~/.pgpass",
    "no pg_hba.conf entry": "let this user in from here, in the server's pg_hba.conf",
    "database": "create the database, or name another in the address",
    "role": "create the user, or name another in the address",
    "Connection refused": "is the server running, and at this address?",
    "could not translate host name": "check the host in the address",
    "failed to resolve host": "check the host in the address",
    "timeout expired": "is the server running, and reachable from here?",
    "read-only": "name the server that takes writes: this one is a standby, or set to be read only",
    "too many clients": "close other connections, or raise the server's max_connections",
    "remaining connection slots": "close other connections, or raise the server's max_connections",
    "invalid response to SSL negotiation": "is it PostgreSQL that answers at this address?",
    "SSL": "check sslmode and the certificates in the address",
}
_CURE_OF_THE_REST = "is the server running, and is it PostgreSQL that answers at this address?"
_CURES: dict[type[psycopg.Error], str] = {
    errors.DiskFull: "make space on the server's disk",
    errors.OutOfMemory: "the server has not enough memory",
    errors.InsufficientPrivilege: "grant the user its rights on the schema",
    errors.UndefinedTable: "was the schema dropped? restart the engine, and it is made again",
    errors.InvalidSchemaName: "was the schema dropped? restart the engine, and it is made again",
    errors.ReadOnlySqlTransaction: "name the server that takes writes: this one is a standby, or set to be read only",
}
# These may pass at once: the other transaction is over by then.
PASSING = (errors.SerializationFailure, errors.DeadlockDetected)


def unreachable(error: psycopg.Error, shown: str) -> StoreUnavailable:
    """No connection could be made."""
    said = _said(error)
    cure = next((cure for words, cure in _CURES_OF_CONNECTING.items() if words in said), _CURE_OF_THE_REST)
    return _unavailable(f"cannot connect to {shown}", said, cure, shown, error)


def refused(error: psycopg.Error, shown: str) -> StoreUnavailable:
    """A connection was cut, or the server did not do what it was asked."""
    cure = next((cure for kind, cure in _CURES.items() if isinstance(error, kind)), "")
    return _unavailable(f"PostgreSQL at {shown} did not answer as it should", _said(error), cure, shown, error)


def _said(error: psycopg.Error) -> str:
    # The first is what went wrong; the rest may quote what is stored.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return "; ".join(lines)
    return lines[0] if lines else type(error).__name__


def _unavailable(where: str, said: str, cure: str, shown: str, error: psycopg.Error) -> StoreUnavailable:
    message = f"{where}: {said}" + (f" ({cure})" if cure else "")
    return StoreUnavailable(message, facts={"url": shown, "sqlstate": error.sqlstate})
