"""What Redis says is wrong, for the operator: where, what was found, and the cure where it is known."""

from __future__ import annotations

import coredis.exceptions

from ...errors import StoreUnavailable

_LOST = (coredis.exceptions.ConnectionError, OSError)
_CURE_OF_THE_LOST = "is the server running, and at this address?"

# By words of the answer, in the order in which they are looked for.
_CURES = {
    "WRONGPASS": "check the user and the password in the address",
    "invalid password": "check the user and the password in the address",
    "invalid username-password": "check the user and the password in the address",
    "NOAUTH": "give a password in the address: redis://:password@host",
    "HELLO must be called with the client already authenticated": "give a password in the address",
    "Authentication required": "give a password in the address: redis://:password@host",
    "NOPERM": "the store needs all commands on its keys, and scripts; see ACL SETUSER",
    "no permissions": "the store needs all commands on its keys, and scripts; see ACL SETUSER",
    "READONLY": "this is a replica; name the server that takes writes",
    "read only replica": "this is a replica; name the server that takes writes",
    "LOADING": "it reads its data into memory, and will be back in a moment",
    "loading the dataset": "it reads its data into memory, and will be back in a moment",
    "OOM": "raise its maxmemory, or remove what is no longer needed: compact the store",
    "used memory >": "raise its maxmemory, or remove what is no longer needed: compact the store",
    "MISCONF": "it cannot write to its disk; its log says why",
    "BUSY": "another script keeps it from answering",
    "DB index": "name a database that it has in the address: redis://host/0",
    "Invalid Database": "name a database that it has in the address: redis://host/0",
    "ertificate": "check its certificate, or whether it speaks TLS there",
    "No address associated": "check the host in the address",
    "Temporary failure in name resolution": "check the host in the address",
    "Name or service not known": "check the host in the address",
    "Protocol Error": "is it Redis that answers at this address?",
}


def unavailable(error: BaseException, shown: str) -> StoreUnavailable:
    """It could not be reached, or did not do what it was asked."""
    said = "; ".join(dict.fromkeys(_chain(error)))
    # A connection is lost in many ways, and at any step of a request: each has words of its own.
    rest = _CURE_OF_THE_LOST if isinstance(error, _LOST) else ""
    cure = next((cure for words, cure in _CURES.items() if words in said), rest)
    message = f"Redis at {shown} did not answer as it should: {said}" + (f" ({cure})" if cure else "")
    return StoreUnavailable(message, facts={"url": shown})


def _chain(error: BaseException | None) -> list[str]:
    """What each error on the way says; the last says most, but the first says what of."""
    said = []
    while error is not None:
        if isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        said.append(str(error).partition("\n")[0] or type(error).__name__)
        error = error.__cause__
    return said
