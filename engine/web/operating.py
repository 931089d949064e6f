"""What operators and tools ask: metrics, and the description of the API."""

from __future__ import annotations

import anyio.to_thread
from prometheus_client.exposition import choose_encoder

from .health import Checked, health
from .table import Call
from .wire import Answer


async def get_health(call: Call) -> Answer:
    """`GET /health`."""
    return _checked(health(call.service.engine))


async def get_ready(call: Call) -> Answer:
    """`GET /ready`."""
    return _checked(await call.service.readiness.check())


def _checked(found: Checked) -> Answer:
    status, document = found
    return Answer(status, document, {"Retry-After": "5"} if status == 503 else {})


async def get_metrics(call: Call) -> Answer:
    """`GET /metrics`: in text, or as OpenMetrics where that is accepted."""
    encode, content_type = choose_encoder(call.header(b"accept") or "")
    registry = call.service.engine.metrics
    body = await anyio.to_thread.run_sync(encode, registry)  # a thousand nodes take 0.1 s
    return Answer(data=body, content_type=content_type)
