"""The web service of one model: scoring for programs, a page for people, and what those who watch it need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bus_mlops
from bus_mlops.errors import AnswerLogError, RegistryError
from bus_mlops.serving.answers import answer
from bus_mlops.serving.guard import Guard, Message, Receive, Scope, Send
from bus_mlops.serving.limits import Limits
from bus_mlops.serving.metrics import CONTENT_TYPE, Metrics
from bus_mlops.serving.requests import RefusedError, parse
from bus_mlops.serving.work import ClientLeftError, Request, Work

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bus_mlops.consumer.client import BusModel

PAGE = Path(__file__).with_name("page")
TOLERANCE = 1e-4
BODY_SECONDS = 60
SENDING_SECONDS = 60
# A body up to this size is read by the quick thread: it takes less than a tenth of a second.
SMALL_BODY = 8 * 2**20
# So much of any body is always taken: it is what single images need, and connections are few.
FREE_BYTES = 2**20
# As others count requests that nobody waited for.
CLIENT_LEFT = 499
RETRY = {"Retry-After": "2"}
UNLOGGED = "the log of answers cannot be written, and no answer is given without its line."
# So long after a failed write no work is asked for; then the next request tries again.
UNLOGGED_SECONDS = 10.0
LOG = logging.getLogger(__name__)


def create_app(model: BusModel, limits: Limits, hosts: Iterable[str] = ()) -> Guard:
    """The service of one model.

    Args:
        model: What answers.
        limits: What one request, and all of them, may ask.
        hosts: Names by which the service is called, beside localhost, this machine's name and addresses of numbers.

    Raises:
        RegistryError: This machine does not reproduce the package's own example prediction to 1e-4.
    """
    difference = model.check_example()
    if not difference <= TOLERANCE:
        raise RegistryError(
            f"this machine answers the example of {model.folder} with a probability that is {difference:.2g} away from "
            f"the stored one (allowed: {TOLERANCE:g}). Do not serve it here; try another version of onnxruntime."
        )
    return Guard(_routes(model, limits, Work(limits)), hosts)


def _routes(model: BusModel, limits: Limits, work: Work) -> Starlette:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Asking
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    about = describe(model, limits)
    metrics = Metrics(model)
    scoring = Scoring(model, work, metrics)

    async def version(_: Asking) -> Response:
        return JSONResponse(about)

    async def alive(_: Asking) -> Response:
        return Response("\n")

    async def ready(_: Asking) -> Response:
        return Response("\n") if scoring.is_ready() else JSONResponse({"error": "not ready to answer."}, 503, RETRY)

    async def counted(_: Asking) -> Response:
        return Response(metrics.text(work.requests.held, scoring.is_ready()), headers={"Content-Type": CONTENT_TYPE})

    async def not_known(_: Asking, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail.lower()}, error.status_code, error.headers)

    def page(name: str) -> Route:
        async def respond(_: Asking) -> FileResponse:
            return FileResponse(PAGE / (name or "index.html"))

        return Route(f"/{name}", respond)

    return Starlette(
        routes=[
            *map(page, ("", "page.js", "page.css")),
            Route("/version", version),
            Route("/health", alive),
            Route("/ping", alive),
            Route("/ready", ready),
            Route("/metrics", counted),
            Route("/invocations", scoring, methods=["POST"]),
        ],
        exception_handlers={404: not_known, 405: not_known},  # type: ignore[dict-item]  # any exception, it says
    )


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
        "limits": {
            "images": limits.images,
            "megabytes": limits.megabytes,
            "megapixels": limits.megapixels,
            "requests": limits.requests,
            "seconds": limits.seconds,
        },
    }


class Scoring:
    """`POST /invocations`: read the body, count it, have it worked on, answer; or say with 4xx or 5xx why not."""

    def __init__(self, model: BusModel, work: Work, metrics: Metrics) -> None:
        self.model = model
        self.metrics = metrics
        self.work = work
        self.limits = work.limits
        self._unlogged = float("-inf")

    def is_ready(self) -> bool:
        """Whether a request of one image would be answered soon."""
        return self.work.is_ready() and time.monotonic() - self._unlogged > UNLOGGED_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what it took of the budgets is given back when nothing is done for it any more."""
        from starlette.responses import JSONResponse, Response

        request = Request(self.work)
        try:
            body = await self._answer(dict(scope["headers"]), receive, request)
            response = Response(body, media_type="application/json")
        except RefusedError as error:
            # What was not read of the body would be taken for the next request.
            headers = {"Connection": "close", **(RETRY if error.status == 503 else {})}
            response = JSONResponse({"error": error.message}, error.status, headers)
        except AnswerLogError as error:
            # The message names a path of this machine: it is for who runs the service.
            LOG.error("%s", error)
            self._unlogged = time.monotonic()
            self.metrics.count_unlogged()
            response = JSONResponse({"error": UNLOGGED}, 503, {"Connection": "close", **RETRY})
        except ClientLeftError:
            self.metrics.count_request(CLIENT_LEFT)
            return
        except Exception:
            self.metrics.count_request(500)
            raise
        finally:
            # Before the last byte leaves: a client that has its answer may ask again at once.
            request.end()
        self.metrics.count_request(response.status_code)
        async with asyncio.timeout(SENDING_SECONDS):
            await response(scope, receive, send)

    async def _answer(self, headers: dict[bytes, bytes], receive: Receive, request: Request) -> bytes:
        _require_json(headers)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(headers, receive, request)
        except TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {BODY_SECONDS} s.") from None
        request.begin()
        asked = await request.run(len(body) <= SMALL_BODY, partial(parse, body, self.limits), receive)
        if asked.masks and not self.model.package.has_mask:
            raise RefusedError(400, f"{self.model.name} has no mask output: it only classifies. Ask without masks.")
        request.take(self.work.pixels, asked.pixels)
        is_single = len(asked.images) == 1 and not asked.explanations
        work = partial(answer, self.model, asked, request.require_wanted, self.metrics.observe)
        return await request.run(is_single, work, receive)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, request: Request) -> bytes:
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.limits.bytes:
            raise self._too_large()
        body = bytearray()
        counted = FREE_BYTES
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            body += message.get("body", b"")
            if len(body) > self.limits.bytes:
                raise self._too_large()
            if len(body) > counted:
                request.take(self.work.bytes, len(body) - counted)
                counted = len(body)
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self.limits.megabytes} MB. Send the images in parts.")


def _require_json(headers: dict[bytes, bytes]) -> None:
    kind, *details = headers.get(b"content-type", b"").decode("latin-1").lower().split(";")
    charset = [each.strip() for each in details if each.strip()]
    if kind.strip() != "application/json" or charset not in ([], ["charset=utf-8"]):
        raise RefusedError(415, "the Content-Type must be application/json, in UTF-8.")
