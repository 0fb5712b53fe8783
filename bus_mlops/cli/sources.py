"""`bus-mlops sources ...`: check what is there, download what may be downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bus_mlops.logs import are_shown
from bus_mlops.sources.registry import SOURCES

if TYPE_CHECKING:
    from rich.table import Table

    from bus_mlops.sources.fetch import Fetched, ListedImage
    from bus_mlops.sources.inspection import Inspected
    from bus_mlops.sources.source import Source
    from bus_mlops.sources.verify import Report

sources_app = typer.Typer(
    name="sources", help="The sources of images: check them, download what may be.", no_args_is_help=True
)
_RAW = Path("data/raw")
_SHOWN = 20


# Made from the registry, so that --help lists them; what cannot be downloaded is told why.
Named = StrEnum("Named", {name: name for name in SOURCES})  # type: ignore[misc]  # computed
_FETCHABLE = ", ".join(name for name, source in SOURCES.items() if source.download)
_OFFERED = ", ".join(name for name, source in SOURCES.items() if source.release)


@sources_app.command()
def verify(
    root: Annotated[
        Path | None,
        typer.Option(help="Folder with one folder per source. Default: data.root of params.yaml, else data/raw."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")] = False,
) -> None:
    """Compare the sources with the official counts; opens every image.

    Exits with 1 for errors, which would stop the assembly; a smaller set, label conflicts and duplicates are
    notes.
    """
    from bus_mlops.sources import verify as checks

    report = checks.verify(root or _configured_root(), _track)
    if as_json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_report(report)
    if report.errors:
        raise typer.Exit(1)


@sources_app.command()
def fetch(
    source: Annotated[
        Named,
        typer.Argument(
            help=f"The source. Offered under a licence: {_OFFERED}. A table says where the images are of: {_FETCHABLE}."
        ),
    ],
    metadata: Annotated[
        Path | None, typer.Option(help="Your copy of the source's table, where that says where each image is.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder with one folder per source. Default: data.root of params.yaml, else data/raw."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=10, help="Requests a second, at most.")] = 1.0,
    i_have_permission: Annotated[
        bool, typer.Option("--i-have-permission", help="You have the owner's permission; do not ask.")
    ] = False,
    i_accept_the_licence: Annotated[
        bool, typer.Option("--i-accept-the-licence", help="You accept the licence that is shown; do not ask.")
    ] = False,
) -> None:
    """Download what an owner offers under a licence, or the images that a table lists.

    Run it again to go on where it stopped.

    Exits with 1 unless everything is there and whole.
    """
    from bus_mlops.errors import ConfigError
    from bus_mlops.sources import fetch as fetching
    from bus_mlops.sources.download import Client, Manners

    chosen = SOURCES[source.value]
    if chosen.download is None:
        _fetch_release(chosen, metadata, root, i_accept_the_licence)
        return
    if metadata is None:
        raise ConfigError(
            f"{chosen.name} is downloaded by its owner's table. Name your copy: --metadata {chosen.download.table}"
        )
    images = fetching.read_list(metadata, chosen)
    _require_permission(chosen, images, rate, i_have_permission)
    target = root or _configured_root(real=True)
    try:
        with _Ticker(len(images)) as ticker:
            result = fetching.fetch(chosen, metadata, target, Client(Manners(rate=rate)), ticker.tick)
    except KeyboardInterrupt:
        typer.echo("stopped. What arrived is kept; run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    _print_fetched(result, target / chosen.name)
    if not result.complete:
        raise typer.Exit(1)


def _fetch_release(source: Source, metadata: Path | None, root: Path | None, accepted: bool) -> None:
    from bus_mlops.errors import ConfigError
    from bus_mlops.sources.release import fetch_release, require_release

    release = require_release(source)
    if metadata is not None:
        raise ConfigError(f"{source.name} is downloaded as a whole, not by a table: leave --metadata out.")
    typer.echo(
        f"{source.title}, licence: {release.licence}.\nRead {release.page}\nCite: {release.cite}\n"
        + "\n".join(f"From {each.url}" for each in release.files)
    )
    if not (accepted or _confirmed("Do you accept the licence?")):
        raise ConfigError(
            "nothing was downloaded: it may be used on these terms only. Answer y, or add --i-accept-the-licence."
        )
    target = root or _configured_root(real=True)
    try:
        with _Bytes() as ticker:
            arrived = fetch_release(source, target, progress=ticker.tick)
    except KeyboardInterrupt:
        typer.echo("stopped. What arrived is kept; run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    for each in arrived:
        what = "as known beforehand" if each.known else "of what arrived: nobody publishes one to compare it with"
        typer.echo(f"{each.name}: sha256 {each.sha256}, {what}")
    typer.echo(f"{target / source.name} is there. Next: bus-mlops sources verify")


def _configured_root(real: bool = False) -> Path:
    """data.root of params.yaml; data/raw where there is none, or where it is the phantoms' and `real` is asked."""
    from bus_mlops.paths import PARAMS
    from bus_mlops.project import load_config

    if not PARAMS.is_file():
        return _RAW
    data = load_config().data
    return _RAW if real and data.kind == "phantom" else data.root


def _require_permission(source: Source, images: list[ListedImage], rate: float, given: bool) -> None:
    from bus_mlops.errors import ConfigError
    from bus_mlops.sources.fetch import hosts

    minutes = max(1, round(len(images) / rate / 60))
    typer.echo(
        f"{source.title}: {len(images):,} images listed, from {', '.join(hosts(images)) or 'nowhere'}, "
        f"at most {rate:g} a second (about {minutes} min).\n"
        "The images belong to their owner. Downloading and using them needs the owner's permission, which neither "
        "this program nor the benchmark can give."
    )
    if given:
        return
    if not _confirmed("Do you have the owner's permission?"):
        raise ConfigError(
            "nothing was downloaded: without the owner's permission it must not be. Once you have it, answer y, or "
            "add --i-have-permission."
        )


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False


def _track(items: Iterable[Inspected], total: int) -> Iterable[Inspected]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not (console.is_terminal and are_shown())
    return track(items, "looking at the images", total, console=console, transient=True, disable=hidden)


class _Ticker:
    """A progress bar on a terminal; a line every hundred images elsewhere."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not (console.is_terminal and are_shown())
        )
        self.task = self.bar.add_task("downloading", total=total)
        self.total, self.count, self.silent = total, 0, console.is_terminal or not are_shown()

    def __enter__(self) -> _Ticker:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def tick(self, image: ListedImage) -> None:
        self.count += 1
        self.bar.update(self.task, completed=self.count - 1, description=image.name)
        if not self.silent and self.count % 100 == 0:
            typer.echo(f"{self.count} of {self.total}", err=True)


class _Bytes:
    """A progress bar of bytes on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not (console.is_terminal and are_shown())
        )
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> _Bytes:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def tick(self, name: str, have: int, total: int) -> None:
        self.bar.update(self.task, completed=have, total=total or None, description=name)


def _print_report(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if report.synthetic:
        console.print("SYNTHETIC images (phantoms): compared with no official counts.", markup=False)
    console.print(_table(report))
    for each in report.sources:
        for kind, messages in (("error", each.errors), ("note", each.notes)):
            for message in messages[:_SHOWN]:
                console.print(f"{kind}: {each.source}: {message}", markup=False, soft_wrap=True)
            if len(messages) > _SHOWN:
                console.print(f"{kind}: {each.source}: and {len(messages) - _SHOWN} more (--json lists all)")
        for what, count in each.left_out.items():
            console.print(f"left out: {each.source}: {count} {what}", markup=False, soft_wrap=True)
    for group in report.duplicates[:_SHOWN]:
        labels = ", benign as well as malignant" if group.conflicting else ""
        line = f"note: identical pixels{labels}: {' = '.join(group.image_ids)}"
        console.print(line, markup=False, soft_wrap=True)
    if len(report.duplicates) > _SHOWN:
        console.print(f"note: and {len(report.duplicates) - _SHOWN} more groups of identical images (--json lists all)")
    for note in report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    if report.absent:
        console.print(f"not there: {', '.join(report.absent)}")
    console.print(f"{report.errors} error{'' if report.errors == 1 else 's'}")


def _table(report: Report) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from bus_mlops.sources.verify import Counts

    def cells(found: Counts, expected: Counts | None) -> list[str]:
        pairs = [(getattr(found, name), getattr(expected, name, None)) for name in fields]
        return [f"{have:,}" if want in (None, have) else f"{have:,} of {want:,}" for have, want in pairs]

    fields = ("images", "benign", "malignant", "cases", "with_mask")
    table = Table(
        title=escape(str(report.root)), caption="" if report.synthetic else "'of': what the official list has"
    )
    table.add_column("source", no_wrap=True)
    for name in fields:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("status")
    for each in report.sources:
        table.add_row(each.title, *cells(each.found, each.expected), each.status)
    table.add_section()
    total = Counts.total(each.found for each in report.sources)
    official = [each.expected for each in report.sources if each.expected]
    table.add_row("all", *cells(total, Counts.total(official) if len(official) == len(report.sources) else None))
    return table


def _print_fetched(result: Fetched, folder: Path) -> None:
    for failure in result.failures[:_SHOWN]:
        typer.echo(f"failed: {failure.image.name} ({failure.image.where}): {failure.reason}", err=True)
    if len(result.failures) > _SHOWN:
        typer.echo(f"failed: and {len(result.failures) - _SHOWN} more", err=True)
    replaced = f" ({result.replaced} in place of a damaged file)" if result.replaced else ""
    typer.echo(
        f"{result.listed} listed: {result.there} were there, {result.downloaded} downloaded{replaced}, "
        f"{len(result.failures)} failed, {result.not_tried} not tried."
    )
    if result.stopped:
        typer.echo(f"stopped: {result.stopped}.", err=True)
    if result.complete:
        typer.echo(f"{folder} is complete. Next: bus-mlops sources verify")
    else:
        typer.echo("Run the same command again: what is there is kept, the rest is tried anew.", err=True)
