"""`bus-mlops serve`: a promoted model over HTTP, for programs and, on its page, for people."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bus_mlops.errors import RegistryError


def serve(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@champion, models:/NAME/VERSION, a package folder or s3://...")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    max_images: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Of one request's body.")] = 64,
    max_requests: Annotated[int, typer.Option(min=1, help="Under way at once; more get status 503.")] = 32,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow store. Default: MLFLOW_TRACKING_URI, else params.yaml, else ./mlflow.db."),
    ] = None,
) -> None:
    """Serve a model: REST at /invocations, a page at /, /health and /version. Research use only.

    There is no password: listen on other addresses than this machine's own only behind a proxy that asks for one.
    """
    if importlib.util.find_spec("pandas") is None:
        raise RegistryError("serving needs pandas, which MLflow's scoring server uses: pip install 'bus-mlops[serve]'.")
    import uvicorn

    from bus_mlops.consumer.client import load_model
    from bus_mlops.serving.app import create_app
    from bus_mlops.serving.requests import Limits

    loaded = load_model(model, tracking_uri)
    limits = Limits(max_images, max_megabytes, max_requests)
    with tempfile.TemporaryDirectory(prefix="bus-serving-") as folder:
        app = create_app(loaded, Path(folder), limits)
        which = f"version {loaded.version}" if loaded.version else loaded.digest[:12]
        print(f"{loaded.name} {which}: http://{host}:{port} (Ctrl-C to stop). {loaded.package.notice}", flush=True)
        uvicorn.run(app, host=host, port=port, log_level="warning")
