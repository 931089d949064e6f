"""Server-sent events as they come over the wire, cut anywhere; pure."""

from __future__ import annotations

import attrs


@attrs.frozen
class Message:
    """One event: its type, its id if it has one, and its data."""

    type: str
    id: str | None
    data: bytes


class Parser:
    """Takes bytes, gives messages. What has no blank line behind it never happened: a stream may be cut within."""

    def __init__(self) -> None:
        self._rest = b""
        self._type = "message"
        self._id: str | None = None
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that these bytes complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [message for line in lines if (message := self._line(line.removesuffix(b"\r"))) is not None]

    def _line(self, line: bytes) -> Message | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._type = value.decode()
            case b"id":
                self._id = value.decode()
        return None  # a comment has no name, and of others nothing is known

    def _complete(self) -> Message | None:
        found = Message(self._type, self._id, b"\n".join(self._data)) if self._data else None
        self._type, self._id, self._data = "message", None, []
        return found
