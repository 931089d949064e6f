"""A client of the service: the verbs of `Engine` and `Run` over HTTP, for asyncio, trio and programs that block."""

from ..web.models import AuditItem, GraphInfo, Health, RunInfo, ToolItem, Validation
from .asynchronous import AsyncClient, RemoteRun
from .blocking import BlockingRemoteRun, Client
from .faults import ServiceError, ServiceUnreachable
from .following import Events
from .patience import Patience
from .told import RemoteResult

__all__ = [
    "AsyncClient",
    "AuditItem",
    "BlockingRemoteRun",
    "Client",
    "Events",
    "GraphInfo",
    "Health",
    "Patience",
    "RemoteResult",
    "RemoteRun",
    "RunInfo",
    "ServiceError",
    "ServiceUnreachable",
    "ToolItem",
    "Validation",
]
