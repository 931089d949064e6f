"""A stand-in for a language model: as slow, as moody and as forgetful as one, but the same every time.

What it answers follows from the prompt alone, so a run can be repeated, tested and gone on with. To use a real model,
write a class with the same `complete`.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any, Final

import anyio

FACTS: Final = {
    "height of the Eiffel Tower": 330,
    "height of the Ulm Minster": 161,
    "height of the Cologne Cathedral": 157,
    "height of the Great Pyramid": 139,
    "height of the Tokyo Tower": 333,
}
"""What the search tool can find."""


class Overloaded(ConnectionError):
    """The model is busy: try again."""


class Refused(Exception):
    """The model will not answer this, however often it is asked."""


class Model:
    """Answers prompts."""

    def __init__(self) -> None:
        self.calls = 0
        self.most: Counter[str] = Counter()
        """How many calls of each kind there were at once, at most."""
        self._now: Counter[str] = Counter()
        self._asked: dict[tuple[str, str], int] = {}

    async def complete(self, prompt: str, conversation: str) -> str:
        """The answer; raises `Overloaded` now and then, and `Refused` for what it does not like."""
        role, _, rest = prompt.partition(": ")
        self.calls += 1
        self._now[role] += 1
        self.most[role] = max(self.most[role], self._now[role])
        try:
            await anyio.sleep(0.002 * (1 + zlib.crc32(prompt.encode()) % 5))
        finally:
            self._now[role] -= 1
        times = self._asked[conversation, prompt] = self._asked.get((conversation, prompt), 0) + 1
        if times == 1 and zlib.crc32(prompt.encode()) % 3 == 0:
            raise Overloaded("too many requests")
        match role:
            case "plan":
                return _plan(json.loads(rest))
            case "ask":
                return _ask(rest, times)
            case _:
                return _write(rest)


def _plan(given: dict[str, Any]) -> str:
    """The questions that are open; at first it is vague, as planners are."""
    missing = [fact for fact in given["about"] if fact not in given["known"]]
    return json.dumps([f"the {fact}" if given["round"] > 1 else fact.split()[-1] for fact in missing])


def _ask(question: str, times: int) -> str:
    """What to search for. The first time it is asked of something far away it chats, and forgets to answer in JSON."""
    if "Babel" in question and times == 1:
        return "What a fine question! People have wondered about that for ages."
    return json.dumps({"search": question.removeprefix("the ")})


def _write(rest: str) -> str:
    if "Pyramid" in rest:
        raise Refused("I do not write about tombs")
    names, _, total = rest.rpartition(": ")
    return f"{names}: {total} in all."
