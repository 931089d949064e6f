"""The engine as an ASGI application: HTTP, server-sent events and WebSockets."""

from .app import create_app

__all__ = ["create_app"]
