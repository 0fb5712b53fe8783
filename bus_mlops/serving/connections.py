"""Connections that say nothing do not keep others out: they get seconds for a head, and make room when all are taken.

uvicorn closes a connection that is idle between two requests, but waits for ever for the rest of a request's head.
"""

from __future__ import annotations

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bus_mlops.serving.guard import HEADERS

HEAD_SECONDS = 10.0
# Beside connections: files of the model, the log, the loop's own.
OTHER_FILES = 64


def possible_connections(wanted: int) -> int:
    """How many connections this process may have open, once it has asked the system for as many as it may get."""
    if sys.platform == "win32":  # which has no such limit
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OTHER_FILES))


class BoundedProtocol(H11Protocol):
    """One connection, which knows the others by uvicorn's own set of them."""

    most = 256

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place of the oldest that has not sent a whole request, where there is no other."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self.head: asyncio.TimerHandle | None = None
        if len(self.connections) > self.most:
            others = [each for each in self.connections if isinstance(each, BoundedProtocol) and each.is_incomplete()]
            min(others, key=lambda each: (each is self, each.since)).transport.abort()
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Of a request, or of a part of it."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        super().connection_lost(exc)
        self._forget_head()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all never reaches the application: its answer gets the same headers here."""
        send = self.conn.send

        def sending(event: h11.Event) -> bytes | None:
            if isinstance(event, h11.Response):
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                event = h11.Response(status_code=event.status_code, headers=[*event.headers, *own], reason=event.reason)
            return send(event)

        self.conn.send = sending  # type: ignore[method-assign,assignment]  # it is overloaded
        super().send_400_response(msg)

    def is_incomplete(self) -> bool:
        """Whether nobody is at work for this connection, since its request is not there, or not whole."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self.head is None:
            self.head = self.loop.call_later(HEAD_SECONDS, self._late)

    def _forget_head(self) -> None:
        if self.head is not None:
            self.head.cancel()
            self.head = None

    def _late(self) -> None:
        self.head = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
