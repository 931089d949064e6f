"""Results that are used again, and one computation for all who ask for the same at once: the decisions.

Who asks is told one of three things: the result is here, lead (compute it), or follow (somebody computes it). A leader
that fails fails its followers, each of which goes by its own retry policy; one that is cancelled hands over to the
first of them. No clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, Literal, TypeVar

import attrs

from .options import Cache

Who = TypeVar("Who", bound=Hashable)


@attrs.frozen
class Found:
    """The result is here."""

    value: Any


class Results(Generic[Who]):
    """The results of one node, of all runs, the one used last at the end."""

    __slots__ = ("_leaders", "_leads", "_results", "cache", "hits", "misses", "shared")

    def __init__(self, cache: Cache) -> None:
        self.cache: Cache | None = cache
        self.hits = 0
        self.misses = 0
        self.shared = 0
        self._results: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()
        self._leads: dict[bytes, Who] = {}
        # Who leads, with its key; and who follows, in order. A follower is in the dict of one leader.
        self._leaders: dict[Who, tuple[bytes, dict[Who, None]]] = {}

    def __len__(self) -> int:
        return len(self._results)

    def change(self, cache: Cache | None) -> None:
        """Go by another policy. Who follows is answered as it would have been."""
        if cache is None or self.cache is None or cache.key != self.cache.key:
            self._results.clear()
            self._leads.clear()
        self.cache = cache
        self._shrink()

    def ask(self, key: bytes, who: Who, now: float) -> Found | Literal["lead", "follow"]:
        """What one is to do who wants the result for this key."""
        cache = self.cache
        assert cache is not None, "without a cache nobody asks"
        kept = self._results.get(key)
        if kept is not None:
            since, value = kept
            if now - since < cache.ttl:
                self._results.move_to_end(key)
                self.hits += 1
                return Found(value)
            del self._results[key]
        leader = self._leads.get(key)
        if leader is not None:
            self._leaders[leader][1][who] = None
            self.shared += 1
            return "follow"
        self.misses += 1
        self._leads[key] = who
        self._leaders[who] = (key, {})
        return "lead"

    def leads(self, who: Who) -> bool:
        """Whether one was told to lead, and has not ended."""
        return who in self._leaders

    def following(self) -> list[Who]:
        """Those who follow."""
        return [who for _, followers in self._leaders.values() for who in followers]

    def succeeded(self, who: Who, value: Any, now: float) -> list[Who]:
        """A leader has the result: who gets it, too."""
        key, followers = self._leaders.pop(who)
        if self._leads.get(key) == who:
            # Otherwise the policy was changed meanwhile: nobody will ask for this key.
            del self._leads[key]
            self._results[key] = (now, value)
            self._results.move_to_end(key)
            self._shrink()
        return list(followers)

    def failed(self, who: Who) -> list[Who]:
        """A leader has failed: who fails with it."""
        key, followers = self._leaders.pop(who)
        if self._leads.get(key) == who:
            del self._leads[key]
        return list(followers)

    def dropped(self, who: Who) -> Who | None:
        """Somebody is gone: a follower, or a leader, whose first follower is the leader now and is returned."""
        found = self._leaders.pop(who, None)
        if found is None:
            for _, followers in self._leaders.values():
                followers.pop(who, None)
            return None
        key, followers = found
        heir = next(iter(followers), None)
        if heir is not None:
            del followers[heir]
            self._leaders[heir] = (key, followers)
        if self._leads.get(key) == who:
            if heir is None:
                del self._leads[key]
            else:
                self._leads[key] = heir
        return heir

    def _shrink(self) -> None:
        while self._results and (self.cache is None or len(self._results) > self.cache.size):
            self._results.popitem(last=False)
