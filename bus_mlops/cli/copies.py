"""`bus-mlops export` and `bus-mlops pull`: models where no registry can be reached."""

from __future__ import annotations

from typing import Annotated

import typer

VERSION_HELP = "models:/NAME/VERSION, models:/NAME@champion, or a number if only one model is registered."
Store = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="MLflow store. Default: MLFLOW_TRACKING_URI, else params.yaml, else ./mlflow.db."
    ),
]


def export(
    version: Annotated[str, typer.Argument(help=VERSION_HELP)],
    target: Annotated[str, typer.Argument(metavar="DIR_OR_S3", help="A folder, or s3://BUCKET/PREFIX.")],
    tracking_uri: Store = None,
) -> None:
    """Copy a version with its checksums to a folder or an S3 bucket, for machines without the registry.

    Stopped half way, the same command goes on where it stopped.
    """
    from bus_mlops.consumer import export as bundle
    from bus_mlops.consumer.resolve import version_uri

    origin = bundle.export(version_uri(version, tracking_uri), target, tracking_uri)
    print(f"{origin.name} version {origin.version or 'unregistered'} is in {target}")
    print(f"sha256 of its SHA256SUMS: {origin.digest}")
    print(f"Use it: bus-mlops predict --model {target} scan.png")


def pull(
    model: Annotated[str, typer.Argument(help=f"{VERSION_HELP[:-1]}, or s3://BUCKET/PREFIX.")],
    tracking_uri: Store = None,
) -> None:
    """Keep a model on this machine, so that it can be used when the registry cannot be reached."""
    from bus_mlops.consumer import export as bundle
    from bus_mlops.consumer.resolve import version_uri

    uri = version_uri(model, tracking_uri)
    folder, pulled = bundle.pull(uri, tracking_uri)
    print(f"{pulled.name} version {pulled.version or 'unregistered'} ({pulled.digest[:12]}) is in {folder}")
    print(f"Use it, also offline: bus-mlops predict --model {uri} scan.png")
