"""`workflow-engine metrics`: numbers of an engine that runs somewhere, as it tells them."""

from __future__ import annotations

from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import click

from .faults import SUCCESS, Refusal
from .setup import Setup, prepared

_SECONDS = 10.0


@click.command()
@click.argument("url", default="http://127.0.0.1:8000")
@prepared
def metrics(setup: Setup, url: str) -> int:
    """Print the metrics of a running service, as Prometheus scrapes them.

    Metrics count what one process does: how many runs it has in flight, how long nodes take. A store does not know
    them, so this asks the service at URL (by default http://127.0.0.1:8000). What a store does know is in `runs ls`.

    \b
    Examples:
        workflow-engine metrics
        workflow-engine metrics http://workflows.example:8000 | grep runs_in_flight
    """
    if not url.startswith(("http://", "https://")):
        raise Refusal(f"{url!r} is no address of a service", "write http://127.0.0.1:8000")
    address = url if url.rstrip("/").endswith("/metrics") else url.rstrip("/") + "/metrics"
    try:
        with urlopen(address, timeout=_SECONDS) as answer:
            setup.terminal.data(answer.read())
    except HTTPError as error:
        raise Refusal(f"{address} answered {error.code} {error.reason}") from error
    except (URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise Refusal(
            f"no service answers at {address}: {reason}",
            "metrics are those of a running process: of a service, or of a program by `engine.metrics`",
            "what a store knows of its runs: workflow-engine runs ls",
        ) from error
    return SUCCESS
