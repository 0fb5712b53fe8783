"""The command that shows a store in MLflow's user interface."""

from __future__ import annotations

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
