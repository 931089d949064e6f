"""How fast one may ask: a token bucket for each key, and for each address that has none.

The table is bounded. What is thrown out of a full one is who has not asked for longest, whose bucket is most likely
full again; so an attacker with many addresses gets a bucket for each, which they would anyway, and no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from time import monotonic
from typing import Final

import attrs

MOST_BUCKETS: Final = 10_000


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value > 0:
        raise ValueError(f"Rate({attribute.name}={value!r}): must be more than 0")


@attrs.frozen
class Rate:
    """So many a second in the long run, and at most so many at once."""

    per_second: float = attrs.field(validator=_positive)
    burst: float = attrs.field(validator=_positive)


class Buckets:
    """Buckets that fill at one rate."""

    def __init__(self, rate: Rate, *, most: int = MOST_BUCKETS, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, who: str) -> float:
        """Take a token; 0 if there was one, else how many seconds until there is."""
        now, rate = self._clock(), self._rate
        tokens, at = self._buckets.get(who, (rate.burst, now))
        tokens = min(rate.burst, tokens + (now - at) * rate.per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / rate.per_second
        self._buckets[who] = (tokens if wait else tokens - 1, now)
        self._buckets.move_to_end(who)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait

    def lacks(self, who: str) -> float:
        """As `take`, without taking: how many seconds until there is a token."""
        found = self._buckets.get(who)
        if found is None:
            return 0.0
        tokens = found[0] + (self._clock() - found[1]) * self._rate.per_second
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate.per_second


@lru_cache(maxsize=1_000)
def network_of(address: str) -> str:
    """What is counted for an address: of IPv6 the network, since one host may have all addresses in it."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if ip.version == 4:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return ip.exploded[:19]
