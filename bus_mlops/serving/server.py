"""The service on a port, by uvicorn: its connections bounded, its end within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.serving.limits import Limits

if TYPE_CHECKING:
    from bus_mlops.serving.guard import Guard

# What is under way gets so long when the service is told to end; then it is stopped.
GRACE_SECONDS = 4


def run(app: Guard, host: str, port: int, limits: Limits) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        app: The service.
        host: Address to listen on.
        port: Its port.
        limits: Of connections.
    """
    import uvicorn

    from bus_mlops.serving.connections import BoundedProtocol, possible_connections

    class Protocol(BoundedProtocol):
        most = possible_connections(limits.connections)

    uvicorn.run(
        app,
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
