"""The command that shows a store in MLflow's user interface: its port, its arguments, and the pages to begin with."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

from bus_mlops.errors import LedgerError
from bus_mlops.files import anchored

# What MLflow allows as long as it is told nothing: this machine, and addresses of private networks.
ALLOWED_BY_ITSELF = (
    *(f"{host}{port}" for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0") for port in ("", ":*")),  # noqa: S104 - as a name, no address to bind
    "10.*",
    "192.168.*",
    *(f"172.{second}.*" for second in range(16, 32)),
)


def ui_arguments(uri: str, host: str, port: int, names: str | None = None) -> list[str]:
    """Arguments of `mlflow ui`, for one user at a time.

    Args:
        uri: The store; its registry is the same whatever MLflow's variables say.
        host: Address to listen on.
        port: On this machine.
        names: Names by which other machines call this one, with commas between; may have a port, or be `*`. MLflow
            answers others with status 403, and refuses what pages under other names send.
    """
    store = anchored(uri)
    arguments = ["--backend-store-uri", store, "--registry-store-uri", store, "--workers", "1"]
    arguments += ["--host", host, "--port", str(port)]
    if names is None:
        return arguments
    called = [each for name in names.split(",") if (each := name.strip())]
    # Browsers leave out the port only where it is the protocol's own, as behind a proxy.
    called = [each for name in called for each in ([name] if ":" in name or name == "*" else [name, f"{name}:{port}"])]
    origins = [f"{protocol}://{name}" for name in called for protocol in ("http", "https")]
    hosts = ",".join((*ALLOWED_BY_ITSELF, *called))
    return [*arguments, "--allowed-hosts", hosts, "--cors-allowed-origins", ",".join(origins)]


def server_of(uri: str) -> str:
    """The address of the server that keeps a store, without a name and password in it; empty for a local store.

    >>> server_of("https://me:secret@lab.example.org:5000/"), server_of("sqlite:///mlflow.db")
    ('https://lab.example.org:5000', '')
    """
    if not uri.startswith(("http://", "https://")):
        return ""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def address_of(host: str, port: int) -> str:
    """Where a browser on this machine finds a server that listens on a host and port."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host  # noqa: S104 - compared only
    return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}"


def require_free(host: str, port: int) -> None:
    """Raise LedgerError, which says who is there and what to do, unless a server can listen on this host and port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As servers do: a port whose last connections are only fading is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except PermissionError as error:
            raise LedgerError(f"this account may not listen on port {port}: name one above 1023 (--port).") from error
        except OSError as error:
            if _answers(host, port):
                raise LedgerError(
                    f"port {port} is taken by {_who(host, port)}. Stop it, or take another one: "
                    f"`bus-mlops ui --port {_free(host, port)}`."
                ) from error
            raise LedgerError(
                f"nothing can listen on {host}:{port}: {error}. Is --host one of this machine?"
            ) from error


def _answers(host: str, port: int) -> bool:
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host.strip("[]"), port)) == 0  # noqa: S104 - as above


def _who(host: str, port: int) -> str:
    """Who answers on a port, as far as that is easy to tell: its process, or what it says itself."""
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                process = psutil.Process(each.pid)
                words = " ".join(process.cmdline())
                known = "an MLflow UI, " if "mlflow" in words else ""
                return f"{known}process {each.pid} of {process.username()} ({words[:80] or process.name()})"
    except (psutil.Error, OSError):  # of another user, or not to be asked here
        pass
    try:
        with urllib.request.urlopen(f"{address_of(host, port)}/version", timeout=2) as answer:  # noqa: S310 - http
            return f"an MLflow server, version {answer.read(20).decode('ascii', 'replace')}"
    except OSError:
        return "another program"


def _free(host: str, port: int) -> int:
    """The next port on which nobody answers."""
    return next((each for each in range(port + 1, min(port + 50, 65536)) if not _answers(host, each)), port + 1)


def has_screen() -> bool:
    """Whether a browser could be opened where somebody sees it: a terminal on a desktop, not a connection from afar."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"})


def opening(address: str, page: str) -> list[str]:
    """Arguments of a process of its own that opens a page as soon as the server answers, or gives up after a minute."""
    return [sys.executable, "-c", _OPEN, address, page]


_OPEN = """
import sys, time, urllib.request, webbrowser
for _ in range(120):
    try:
        urllib.request.urlopen(sys.argv[1] + "/health", timeout=2).close()
    except OSError:
        time.sleep(0.5)
    else:
        webbrowser.open(sys.argv[2])
        break
"""
