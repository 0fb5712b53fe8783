"""The web service: MLflow's scoring server on our model, behind limits, with a page for people in front."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bus_mlops
from bus_mlops.errors import RegistryError
from bus_mlops.serving.requests import Limits, RefusedError, check

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bus_mlops.consumer.client import BusModel

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PAGE = Path(__file__).with_name("page")
SCORING = "/invocations"
HEALTH = ("/health", "/ping")
TOLERANCE = 1e-4
BODY_SECONDS = 60
# The page needs nothing but this server: no script, style or picture from anywhere else.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(model: BusModel, folder: Path, limits: Limits) -> Starlette:
    """The service of one model.

    Args:
        model: What answers.
        folder: Gets MLflow's few small files about it.
        limits: What one request may hold.

    Raises:
        RegistryError: This machine does not reproduce the package's own example prediction to 1e-4.
    """
    from mlflow.pyfunc import scoring_server
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Mount, Route

    from bus_mlops.packaging.pyfunc import as_pyfunc

    difference = model.check_example()
    if not difference <= TOLERANCE:
        raise RegistryError(
            f"this machine answers the example of {model.folder} with a probability that is {difference:.2g} away from "
            f"the stored one (allowed: {TOLERANCE:g}). Do not serve it here; try another version of onnxruntime."
        )
    about = describe(model, limits)

    async def describing(_: Request) -> JSONResponse:
        return JSONResponse(about, headers=HEADERS)

    def file(name: str) -> Route:
        async def respond(_: Request) -> FileResponse:
            return FileResponse(PAGE / (name or "index.html"), headers=HEADERS)

        return Route(f"/{name}", respond)

    scoring = scoring_server.init(as_pyfunc(model, folder))
    routes = [file(""), file("page.js"), file("page.css"), Route("/version", describing)]
    return Starlette(routes=[*routes, Mount("/", Guarded(scoring, limits))])


def describe(model: BusModel, limits: Limits) -> dict[str, Any]:
    """What `/version` answers: which model this is, how it decides, what one request may hold."""
    package = model.package
    return {
        "model": model.name,
        "version": model.version,
        "digest": model.digest,
        "standing": model.standing.to_dict(),
        "threshold": package.threshold,
        "members": len(package.members),
        "mask": package.has_mask,
        "phantom": package.phantom,
        "judged": package.judged.model_dump(mode="json") if package.judged else None,
        "notice": package.notice,
        "bus_mlops": bus_mlops.__version__,
        "limits": {"images": limits.images, "megabytes": limits.megabytes, "requests": limits.requests},
    }


class Guarded:
    """Lets only complete, well-formed, not too large scoring requests through to the application behind it."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.under_way: set[int] = set()
        self.numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a 4xx status, or 503, and `{"error": ...}`."""
        from starlette.responses import JSONResponse

        if scope["type"] != "http" or (scope["path"], scope["method"]) != (SCORING, "POST"):
            # MLflow's server also has pages of documentation, which load scripts from elsewhere.
            known = scope["type"] != "http" or scope["path"] in (SCORING, *HEALTH)
            await (self.app if known else JSONResponse({"error": "not found"}, 404))(scope, receive, send)
            return
        number = next(self.numbers)
        self.under_way.add(number)

        async def sending(message: MutableMapping[str, Any]) -> None:
            # Before the last byte leaves: a client that has its answer may ask again at once.
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.under_way.discard(number)
            await send(message)

        try:
            body = await self._checked_body(dict(scope["headers"]), receive)
            await self.app(scope, _replay(body, receive), sending)
        except RefusedError as error:
            # What was not read of the body would be taken for the next request.
            headers = {"Connection": "close"}
            await JSONResponse({"error": error.message}, error.status, headers)(scope, receive, sending)
        finally:
            self.under_way.discard(number)

    async def _checked_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        if len(self.under_way) > self.limits.requests:
            raise RefusedError(503, f"{self.limits.requests} requests are under way. Try again in a moment.")
        _require_json(headers)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(headers, receive)
        except TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {BODY_SECONDS} s.") from None
        await asyncio.to_thread(check, body, self.limits)
        return body

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.limits.bytes:
            raise self._too_large()
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the request was cut off.")
            parts.append(message.get("body", b""))
            if sum(map(len, parts)) > self.limits.bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self.limits.megabytes} MB. Send the images in parts.")


def _require_json(headers: dict[bytes, bytes]) -> None:
    kind, *details = headers.get(b"content-type", b"").decode("latin-1").lower().split(";")
    charset = [each.strip() for each in details if each.strip()]
    if kind.strip() != "application/json" or charset not in ([], ["charset=utf-8"]):
        raise RefusedError(415, "the Content-Type must be application/json, in UTF-8.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out the body that was read already, once, and then what the connection has to say."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replayed
