"""What holds for a node, over HTTP: look, and change it while runs go on."""

from __future__ import annotations

from typing import Any

import attrs

from ..limits import Limits
from ..options import Batch, Breaker, Cache
from ..submitting import OptionsRefused
from .models import LEFT_OUT, BatchLimit, BreakerLimit, CacheLimit, LimitsOrder, NodeLimits
from .problems import Detail, invalid
from .table import Call
from .wire import Answer


async def get_limits(call: Call) -> Answer:
    """`GET /api/graphs/{name}/nodes/{node}/limits`."""
    name, node, version = call.path["name"], call.path["node"], call.query["version"]
    return _answer(call, call.service.engine.limits(name, node, version=version))


async def change_limits(call: Call) -> Answer:
    """`PATCH /api/graphs/{name}/nodes/{node}/limits`."""
    name, node, version = call.path["name"], call.path["node"], call.query["version"]
    call.note(graph=name)
    try:
        limits = call.service.engine.set_limits(name, node, version=version, **_changes(call.body))
    except OptionsRefused as refused:
        found = [Detail(pointer=f"/{option}" if option else "", message=fault) for option, fault in refused.faults]
        raise invalid(found) from None
    return _answer(call, limits)


def _changes(order: LimitsOrder) -> Any:
    """What is to be changed, as the engine takes it; raises `Refused` for what cannot be."""
    given = {field.name: getattr(order, field.name) for field in attrs.fields(LimitsOrder)}
    faults: list[Detail] = []
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if value is LEFT_OUT:
            continue
        try:
            changes[name] = _policy(value)
        except ValueError as error:
            faults.append(Detail(pointer=f"/{name}", message=str(error)))
    if faults:
        raise invalid(faults)
    return changes


def _policy(value: Any) -> Any:
    match value:
        case BatchLimit():
            return Batch(value.size, value.wait)
        case BreakerLimit():
            return Breaker(value.failures, value.within, value.cooldown)
        case CacheLimit():
            return Cache(value.ttl, value.key, value.size)
        case _:
            return value


def _answer(call: Call, limits: Limits) -> Answer:
    plan = call.service.engine.plan(call.path["name"], call.query["version"])
    batch, breaker, cache = limits.batch, limits.breaker, limits.cache
    key = () if cache is None else cache.keys
    return Answer(
        data=NodeLimits(
            graph=plan.name,
            version=plan.version,
            node=call.path["node"],
            concurrency=limits.concurrency,
            rate=None if limits.rate is None else str(limits.rate),
            batch=None if batch is None else BatchLimit(size=batch.size, wait=batch.wait),
            breaker=None if breaker is None else BreakerLimit(**attrs.asdict(breaker)),
            cache=None if cache is None else CacheLimit(ttl=cache.ttl, key=list(key) or None, size=cache.size),
        )
    )
