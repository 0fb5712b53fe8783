"""Who may ask: what foreign pages send is refused, and every answer says what browsers may do with it.

A page from elsewhere, open in the browser of somebody who may reach the service, could otherwise ask it in that
person's place: by an address of its own that it points at this machine (`Host` tells), or across origins (`Origin`).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The page needs nothing but this server: no script, style or picture from anywhere else.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """In front of an application: its hosts, its origins, its headers."""

    def __init__(self, app: App, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with 400 (foreign host) or 403 (foreign origin)."""
        from starlette.responses import JSONResponse

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in own]
                message = {**message, "headers": [*kept, *own.items()]}
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers.get(b"host", ""), headers.get(b"origin"))
        app = self.app if refusal is None else JSONResponse({"error": refusal[1]}, refusal[0], {"Connection": "close"})
        await app(scope, receive, sending)

    def _refusal(self, host: str, origin: str | None) -> tuple[int, str] | None:
        if not self._is_own(host):
            return 400, f"this service is not called {host[:80]!r}: it was started without --allow-host of that name."
        if origin is not None and not self._is_own(origin.partition("://")[2]):
            return 403, f"a page of {origin[:80]!r} may not ask this service."
        return None

    def _is_own(self, address: str) -> bool:
        """Whether a name is one that this service goes by; an address of numbers cannot be pointed elsewhere."""
        name = ""
        try:
            name = urlsplit(f"//{address}").hostname or ""
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True
