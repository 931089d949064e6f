"""The service: HTTP, server-sent events, WebSockets, and what keeps it safe and running."""

from .app import create_app

__all__ = ["create_app"]
