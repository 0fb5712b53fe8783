"""`bus-mlops predict`, `watch`, `serve`, `export` and `pull`: using a promoted model. Heavy imports happen inside."""

from __future__ import annotations

import importlib.util
import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bus_mlops.errors import DicomError, RegistryError

LOG = logging.getLogger(__name__)
VERSION_HELP = "models:/NAME/VERSION, models:/NAME@champion, or a number if only one model is registered."
FRAMES_HELP = "Frames of a DICOM clip to look at, at most, evenly spaced."
Store = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", help="MLflow store. Default: MLFLOW_TRACKING_URI, else params.yaml, else ./mlflow.db."
    ),
]
TriageFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Triage by this triage.json of `bus-mlops accept` instead of by the package's."),
]
Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Add a line for every answer to this file: no pixels, no names."),
]


def predict(
    images: Annotated[
        list[Path],
        # What cannot be read is one image's error: the others are answered.
        typer.Argument(
            readable=False, help="Image files as the scanner wrote them, or folders (the images directly in them)."
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="models:/NAME@champion, models:/NAME/VERSION, a package folder or s3://..."),
    ],
    mask_dir: Annotated[
        Path | None,
        typer.Option(help="Write the lesion masks here: PNG, 0 and 255, of the image's own size."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list on standard output, nothing else.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace masks that are there and differ.")] = False,
    dicom_out: Annotated[
        Path | None,
        typer.Option(help="Answer DICOM (files, or folders however deep) in DICOM: SR and SEG are written here."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="TITLE@HOST:PORT", help="Send what --dicom-out writes there, too (C-STORE)."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help=FRAMES_HELP)] = 32,
    log: Log = None,
    triage: TriageFile = None,
    tracking_uri: Store = None,
) -> None:
    """Predict malignancy with a registered model. Research use only.

    DICOM images of ultrasound are read where bus-mlops is installed with its extra `dicom`.

    Exits with 1 if any image could not be read; the others are answered all the same.
    """
    from bus_mlops.cli import predictions
    from bus_mlops.consumer.client import load_model
    from bus_mlops.dicom.files import FileAnswers
    from bus_mlops.dicom.sending import Receiver
    from bus_mlops.environment import IMPATIENT, settings

    if store is not None and dicom_out is None:
        raise DicomError("--store sends what --dicom-out writes: name a folder with it, too.")
    if mask_dir is not None and dicom_out is not None:
        raise DicomError("--dicom-out writes masks as segmentations (SEG): leave --mask-dir out.")
    receiver = None if store is None else Receiver.parsed(store)
    files = images if dicom_out is not None else predictions.expand(images)
    targets = predictions.mask_paths(files, mask_dir) if mask_dir is not None else {}
    with settings(IMPATIENT):
        loaded = load_model(model, tracking_uri, log=log, triage=triage)
    answers = FileAnswers(loaded, frames, dicom_out, None if receiver is None else receiver.store)
    found = answers.stream(files, masks=bool(targets)) if dicom_out is None else answers.stream_studies(files)
    rows = predictions.with_masks(found, targets, force)
    if as_json:
        failed = predictions.print_json(rows, answers.details)
    else:
        failed = predictions.print_table(loaded, rows, len(files))
        for line in answers.studies:
            print(line)
    if answers.left_out:
        print(f"note: skipped: {answers.left_out}", file=sys.stderr)
    if dicom_out is not None and not answers.details and not failed:
        raise DicomError("there is no ultrasound image among them, so nothing was answered. Name the study's folder.")
    if failed:
        raise typer.Exit(1)


def watch(
    dicomweb: Annotated[
        str, typer.Option(metavar="URL", help="The archive's DICOMweb root: http(s)://HOST:PORT/dicom-web.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="models:/NAME@champion, models:/NAME/VERSION, a package folder or s3://..."),
    ],
    store: Annotated[
        str | None,
        typer.Option(metavar="TITLE@HOST:PORT", help="Send the answers there (C-STORE) instead of over DICOMweb."),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 3,
    days: Annotated[int, typer.Option(min=0, help="Age of a study by its date, at most; 0: any, dated or not.")] = 1,
    frames: Annotated[int, typer.Option(min=1, help=FRAMES_HELP)] = 32,
    log: Log = None,
    triage: TriageFile = None,
    tracking_uri: Store = None,
) -> None:
    """Answer ultrasound images that come into a DICOM archive. Research use only.

    Each gets a report (SR) and, where a lesion was marked, a segmentation (SEG) in its own study, once for each model.

    A login stands in BUS_MLOPS_DICOMWEB_USERNAME and _PASSWORD, or BUS_MLOPS_DICOMWEB_TOKEN. SIGTERM or Ctrl-C ends it.
    """
    from bus_mlops.dicom.libraries import require_libraries

    require_libraries()
    import signal
    import threading

    from bus_mlops.consumer.client import load_model
    from bus_mlops.dicom.archive import Archive
    from bus_mlops.dicom.sending import Receiver
    from bus_mlops.dicom.watch import Watch

    archive = Archive(dicomweb)
    deliver = archive.store if store is None else Receiver.parsed(store).store
    loaded = load_model(model, tracking_uri, log=log, triage=triage)
    watched = Watch(loaded, archive, deliver, interval, frames, days)
    watched.prepare()
    for number in (signal.SIGTERM, signal.SIGINT):
        # By a thread: a signal may come while this one holds the event's own lock.
        signal.signal(number, lambda *_: threading.Thread(target=watched.stop.set).start())
    which = f"version {loaded.version}" if loaded.version else loaded.digest[:12]
    LOG.info("%s %s watches %s (Ctrl-C to stop). %s", loaded.name, which, archive.url, loaded.package.notice)
    watched.run()
    LOG.info("Stopped; %d images were answered.", watched.answered)


def export(
    version: Annotated[str, typer.Argument(help=VERSION_HELP)],
    target: Annotated[str, typer.Argument(metavar="DIR_OR_S3", help="A folder, or s3://BUCKET/PREFIX.")],
    tracking_uri: Store = None,
) -> None:
    """Copy a version with its checksums to a folder or an S3 bucket.

    For machines without the registry.
    Stopped half way, the same command goes on where it stopped.
    """
    from bus_mlops.consumer import export as bundle
    from bus_mlops.consumer.resolve import version_uri

    origin = bundle.export(version_uri(version, tracking_uri), target, tracking_uri)
    print(f"{origin.name} version {origin.version or 'unregistered'} is in {target}")
    print(f"sha256 of its SHA256SUMS: {origin.digest}")
    print(f"Use it: bus-mlops predict --model {shlex.quote(target)} scan.png")


def pull(
    model: Annotated[str, typer.Argument(help=f"{VERSION_HELP[:-1]}, or s3://BUCKET/PREFIX.")],
    tracking_uri: Store = None,
) -> None:
    """Keep a model on this machine, for when the registry is away."""
    from bus_mlops.consumer import export as bundle
    from bus_mlops.consumer.resolve import version_uri
    from bus_mlops.environment import IMPATIENT, settings

    with settings(IMPATIENT):
        uri = version_uri(model, tracking_uri)
        folder, pulled = bundle.pull(uri, tracking_uri)
    print(f"{pulled.name} version {pulled.version or 'unregistered'} ({pulled.digest[:12]}) is in {folder}")
    print(f"Use it, also offline: bus-mlops predict --model {shlex.quote(uri)} scan.png")


def serve(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@champion, models:/NAME/VERSION, a package folder or s3://...")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    max_images: Annotated[int, typer.Option(min=1, help="Images of one request, at most.")] = 64,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Megabytes of one request's body, at most.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Millions of pixels of one request, at most.")] = 32,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests under way at once; more get status 503.")] = 32,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Of one request; then its work ends, status 504.")] = 60,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which it is reached, beside this machine's own; may be given again."),
    ] = None,
    log: Log = None,
    triage: TriageFile = None,
    tracking_uri: Store = None,
) -> None:
    """Serve a model over HTTP: REST, and a page. Research use only.

    REST at /invocations, the page at /, and /health, /ready and /version for those who watch it.

    There is no password: listen on other addresses than this machine's own only behind a proxy that asks for one.
    """
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
        raise RegistryError("serving needs uvicorn and starlette: pip install 'bus-mlops[serve]'.")
    from bus_mlops.consumer.client import load_model
    from bus_mlops.serving.app import create_app
    from bus_mlops.serving.limits import Limits
    from bus_mlops.serving.server import run

    loaded = load_model(model, tracking_uri, log=log, triage=triage)
    limits = Limits(max_images, max_megabytes, max_megapixels, max_requests, max_seconds)
    app = create_app(loaded, limits, [host, *(allow_host or [])])
    which = f"version {loaded.version}" if loaded.version else loaded.digest[:12]
    LOG.info("%s %s: http://%s:%d (Ctrl-C to stop). %s", loaded.name, which, host, port, loaded.package.notice)
    run(app, host, port, limits)
