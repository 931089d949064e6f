"""The host: an ordinary FastAPI application that has an engine, uses it in its own routes, and mounts its API.

The engine is entered and left in the lifespan of the host. It cannot be in that of the mounted application: what is
mounted is never asked to start or to end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, ProcessCollector, generate_latest
from pydantic import BaseModel, Field

from engine import Engine, EngineBusy, EngineClosed, EngineError, Kept, Run, RunNotFound, StoreUnavailable
from engine.web import create_app
from engine.web.draining import Draining

from .graphs import Order, Takings, orders, takings
from .schedule import Schedule, keep_time
from .shop import Till

MAX_RUNS: Final = 500
MAX_QUEUED: Final = 2_000
"""More than these are refused, with 429: who cannot be served soon is told so at once."""
KEPT: Final = Kept(seconds=7 * 86_400, count=100_000)
STATUSES: Final[dict[type[EngineError], int]] = {
    EngineBusy: 429,
    EngineClosed: 503,
    StoreUnavailable: 503,
    RunNotFound: 404,
}


class NewOrder(BaseModel):
    """What a customer sends."""

    number: str = Field(pattern=r"^[\w-]{1,60}$")
    item: str = Field(min_length=1, max_length=100)
    quantity: int = Field(default=1, ge=1, le=1_000)
    price: int = Field(default=0, ge=0)


def create(
    folder: Path,
    *,
    every: float = 10.0,
    draining: Draining | None = None,
    ready: Callable[[], object] = lambda: None,
) -> FastAPI:
    """The application, with its runs and its till in a folder; takings are counted every so many seconds."""
    engine = Engine(f"sqlite:///{folder / 'runs.db'}", max_runs=MAX_RUNS, max_queued=MAX_QUEUED, keep=KEPT)
    counting = Schedule(name="takings", graph="takings", every=every, state=Takings)

    # The host's own numbers, in the registry that Prometheus scrapes anyway.
    taken = Counter("shop_orders", "Orders that were accepted", registry=engine.metrics)
    last = Gauge("shop_schedule_last_tick_seconds", "When a tick was submitted", ["schedule"], registry=engine.metrics)
    period = Gauge("shop_schedule_period_seconds", "How often there is one", ["schedule"], registry=engine.metrics)
    period.labels(counting.name).set(counting.every)
    ProcessCollector(registry=engine.metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        till = Till(folder / "till.db")
        try:
            async with engine, anyio.create_task_group() as tasks:
                for graph in (orders(till), takings(till)):
                    engine.register(graph)  # unfinished runs go on
                tasks.start_soon(keep_time, engine, counting, lambda run: last.labels("takings").set_to_current_time())
                ready()
                yield
                tasks.cancel_scope.cancel()
        finally:
            till.close()

    app = FastAPI(title="A shop", lifespan=lifespan)

    @app.post("/orders", status_code=202)
    async def order(new: NewOrder) -> dict[str, Any]:
        """Accepted once it is on disk. The same number again is the same order, whatever was lost on the way."""
        state = Order(number=new.number, item=new.item, quantity=new.quantity, price=new.price)
        run = await engine.submit("order", state, run_id=f"order-{new.number}", idempotency_key=f"order {new.number}")
        taken.inc()
        return shown(run)

    @app.get("/orders/{number}")
    async def look(number: str, wait: Annotated[float, Query(ge=0, le=30)] = 0) -> dict[str, Any]:
        run = await engine.get(f"order-{number}")
        with anyio.move_on_after(wait):
            await run.wait()
        return shown(run)

    @app.get("/takings")
    async def counted(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        runs = await engine.runs(graph="takings", status="succeeded", limit=limit)
        return [{"until": run.state.until, "orders": run.state.orders, "cents": run.state.cents} for run in runs]

    @app.get("/metrics")
    def metrics() -> Response:  # a plain function: FastAPI calls it in a thread, and the loop stays free
        return Response(generate_latest(engine.metrics), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(EngineError)
    async def refused(request: Request, error: EngineError) -> JSONResponse:
        status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 409)
        after = {"Retry-After": "1"} if status in (429, 503) else {}
        return JSONResponse({"detail": str(error)}, status, after)

    # All that the engine's own service can do, below a path of the host's; who must not do it is kept out here, or by
    # `keys=Keys.read("keys.toml")`.
    app.mount("/workflows", create_app(engine, draining=draining))
    return app


def shown(run: Run) -> dict[str, Any]:
    """An order, for the customer."""
    return {
        "number": run.state.number,
        "status": run.status,
        "paid": run.state.paid,
        "steps": run.state.steps,
        "events": f"/workflows/api/runs/{run.id}/events",
    }
