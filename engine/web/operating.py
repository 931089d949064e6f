"""What operators and tools ask: metrics, and the description of the API."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
import attrs
from prometheus_client.exposition import choose_encoder

from ..exposition import exposed
from .health import Checked, health
from .models import AuditItem, AuditList
from .service import moment
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


async def list_audit(call: Call) -> Answer:
    """`GET /api/audit`."""
    query = call.query
    page = await call.service.engine.audit_page(
        query["run_id"],
        who=query["who"],
        since=query["since"],
        after=query["after"],
        limit=query["limit"],
        newest_first=query["order"] == "newest",
    )
    lines = [AuditItem(number=number, timestamp=moment(line.at), **attrs.asdict(line)) for number, line in page.lines]
    return Answer(data=AuditList(lines=lines, next=page.next))


async def get_metrics(call: Call) -> Answer:
    """`GET /metrics`: in text, or as OpenMetrics where that is accepted."""
    encode, content_type = choose_encoder(call.header(b"accept") or "")
    write = partial(exposed, open_metrics=content_type.startswith("application/openmetrics-text"))
    body = await anyio.to_thread.run_sync(write, call.service.engine.metrics, encode)  # many nodes take a while
    return Answer(data=body, content_type=content_type)
