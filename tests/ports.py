"""Ports for servers of tests."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

# Above those of Ray's workers, and below those that systems give to whoever asks for any: such a one might be taken,
# by a connection or by another test's server, while the server that it is meant for is down.
FIRST, COUNT = 20_000, 12_000


def free_port() -> int:
    """A port that nobody uses, and that nobody comes to use who does not ask for this very one."""
    while True:
        port = FIRST + secrets.randbelow(COUNT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def stranger(says: bytes) -> Iterator[int]:
    """The port of a server of another kind than is looked for: it says this to whoever speaks, and hangs up."""
    with socket.create_server(("127.0.0.1", free_port())) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # closed
                with connection:
                    if says:
                        connection.recv(1)
                        connection.sendall(says)

        serving = Thread(target=serve)
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
