"""The service: HTTP, WebSocket, and what keeps it safe and running."""
