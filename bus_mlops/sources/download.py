"""One image over HTTP: politely, with retries, and only if what arrives is a whole image.

Standard library only. Nothing is written here; `fetch` does that.
"""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from bus_mlops import __version__
from bus_mlops.errors import ImageError, SourceError
from bus_mlops.images.decode import decode_image

MAX_BYTES = 50_000_000
_CHUNK = 65_536
_LONGEST_WAIT_SECONDS = 120.0
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"BM": ".bmp"}
_HEADERS = {"User-Agent": f"bus-mlops/{__version__}", "Accept": "image/jpeg, image/png, image/bmp, image/*;q=0.5"}


class Cause(Enum):
    """Why an image did not arrive: GONE is about that image alone, the others may be about the server."""

    GONE = "gone"
    REFUSED = "refused"
    SILENT = "silent"


class DownloadError(SourceError):
    """An image did not arrive, after as many attempts as made sense."""

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


class _TemporaryError(Exception):
    """Worth another attempt, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, cause: Cause = Cause.REFUSED, wait: float | None = None) -> None:
        super().__init__(reason)
        self.cause = cause
        self.wait = wait


@dataclass(frozen=True)
class Manners:
    """How a server is treated.

    Attributes:
        rate: Requests a second.
        attempts: An image.
        backoff: The pause in seconds before the second attempt; doubles with each further one.
        timeout: How many seconds the server may be silent.
        deadline: How many seconds one attempt may take in all.
    """

    rate: float = 1.0
    attempts: int = 5
    backoff: float = 2.0
    timeout: float = 30.0
    deadline: float = 300.0


@dataclass(frozen=True, slots=True)
class Download:
    """The bytes of a whole image, and the suffix that its content asks for."""

    data: bytes
    suffix: str


@dataclass
class Client:
    """Gets images one after another, never faster than `manners.rate` requests a second, retries included."""

    manners: Manners = field(default_factory=Manners)
    sleep: Callable[[float], None] = time.sleep
    _opener: urllib.request.OpenerDirector = field(default_factory=lambda: _http_only(), repr=False)
    _next: float = 0.0

    def image(self, url: str) -> Download:
        """The image at a URL.

        Server errors, closed connections, silence and truncated bodies are tried again; a page instead of an
        image and other refusals are not.

        Raises:
            DownloadError: Says why there is none.
        """
        pause = self.manners.backoff
        for attempt in range(1, self.manners.attempts + 1):
            self._wait_for_turn()
            try:
                return self._attempt(_quoted(url))
            except _TemporaryError as problem:
                if attempt == self.manners.attempts:
                    raise DownloadError(f"{problem} (after {attempt} attempts)", problem.cause) from None
                jitter = random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                wait = pause * jitter if problem.wait is None else problem.wait
                self.sleep(min(wait, _LONGEST_WAIT_SECONDS))
                pause *= 2
        raise AssertionError("attempts must be 1 or more")

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        if now < self._next:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.manners.rate

    def _attempt(self, url: str) -> Download:
        try:
            request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - `_quoted` lets http(s) through only
            with self._opener.open(request, timeout=self.manners.timeout) as got:
                kind = got.headers.get_content_type()
                if kind.startswith("text/"):
                    raise DownloadError(f"the server sent {kind} instead of an image", Cause.REFUSED)
                data = self._body(got)
        except urllib.error.HTTPError as error:
            raise _http_error(error) from None
        except urllib.error.URLError as error:
            raise _TemporaryError(f"the server cannot be reached: {error.reason}", Cause.SILENT) from None
        except TimeoutError:
            reason = f"the server was silent for {self.manners.timeout:g} seconds"
            raise _TemporaryError(reason, Cause.SILENT) from None
        except (http.client.HTTPException, OSError) as error:
            raise _TemporaryError(f"the connection broke: {error or type(error).__name__}", Cause.SILENT) from None
        return _checked(data)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        end, data = time.monotonic() + self.manners.deadline, bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > MAX_BYTES:
                raise DownloadError(f"the server sent more than {MAX_BYTES:,} bytes", Cause.REFUSED)
            if time.monotonic() > end:
                raise _TemporaryError(f"it was not finished after {self.manners.deadline:g} seconds")
        if expected is not None and len(data) < expected:
            raise _TemporaryError(f"the connection ended after {len(data):,} of {expected:,} bytes", Cause.SILENT)
        return bytes(data)


def _http_only() -> urllib.request.OpenerDirector:
    """An opener without file: and ftp:, which a table from elsewhere could otherwise ask for."""
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener


def _quoted(url: str) -> str:
    """The URL with spaces and letters beyond ASCII escaped; raises DownloadError if it is not http(s)."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        netloc = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
    except ValueError as error:
        raise DownloadError(f"{url!r} is not a URL ({error})", Cause.GONE) from None
    if parts.scheme not in ("http", "https") or not host:
        raise DownloadError(f"{url!r} is not an http or https URL", Cause.GONE)
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return urllib.parse.urlunsplit((parts.scheme, netloc, path, query, ""))


def _http_error(error: urllib.error.HTTPError) -> Exception:
    reason = f"the server answered {error.code} {error.reason or ''}".rstrip()
    with error:
        if error.code in (408, 425, 429) or error.code >= 500:
            after = error.headers.get("Retry-After", "")
            return _TemporaryError(reason, wait=float(after) if after.isdecimal() else None)
    return DownloadError(reason, Cause.GONE if error.code in (404, 410) else Cause.REFUSED)


def _checked(data: bytes) -> Download:
    suffix = next((s for signature, s in _SIGNATURES.items() if data.startswith(signature)), None)
    if not data:
        raise _TemporaryError("the server sent an empty body")
    if suffix is None:
        raise DownloadError(f"what the server sent is no JPEG, PNG or BMP (it begins {data[:12]!r})", Cause.REFUSED)
    try:
        decode_image(data, "rgb")
    except ImageError as error:
        raise _TemporaryError(str(error).split(". ")[0]) from None
    return Download(data, suffix)
