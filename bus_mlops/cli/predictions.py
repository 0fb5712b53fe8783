"""What `bus-mlops predict` reads and writes: image files in; a table or JSON, and masks, out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.image_files import SUFFIXES, images_in
from bus_mlops.errors import ImageError
from bus_mlops.files import printable

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel, Prediction

# Columns of a table that no terminal shows.
_WIDE = 1000


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders replaced by the image files directly in them.

    Masks beside scans, other systems' files and what is no image are skipped; a line on standard error counts them.

    Raises:
        ImageError: There are none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found, skipped = images_in(path)
        if skipped:
            print(f"note: skipped in {printable(path)}: {skipped}", file=sys.stderr)
        if not found:
            raise ImageError(
                f"{printable(path)} holds no image directly ({', '.join(SUFFIXES)}). Name a folder that does, or files."
            )
        files += found
    return files


def mask_paths(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Where each image's mask goes: `<stem>_mask.png`.

    Raises:
        ImageError: Two images would share one.
    """
    if folder.exists() and not folder.is_dir():
        raise ImageError(f"--mask-dir {folder} is a file. Name a folder.")
    targets: dict[str, Path] = {}
    owner: dict[Path, Path] = {}
    for file in files:
        target = folder / f"{file.stem}_mask.png"
        first = owner.setdefault(target, file)
        if first != file:
            both = f"{printable(first)} and {printable(file)}"
            raise ImageError(f"{both} would both write {printable(target)}. Predict them into two folders.")
        targets[str(file)] = target
    return targets


def with_masks(
    rows: Iterable[Prediction], targets: dict[str, Path], force: bool
) -> Iterator[tuple[Prediction, str | None, str | None]]:
    """Each prediction with the mask file written for it and the reason if it failed, one at a time."""
    from bus_mlops.images.model_input import mask_png

    for row in rows:
        written, problem = None, row.error
        if row.mask is not None:
            target = targets[row.source]
            problem = _write_mask(target, mask_png(row.mask), force)
            written = None if problem else printable(target)
        yield row, written, problem


def _write_mask(target: Path, content: bytes, force: bool) -> str | None:
    from bus_mlops.files import replacing

    if target.exists() and not force and target.read_bytes() != content:
        return f"{printable(target)} is there with other content; --force replaces it."
    with replacing(target) as temporary:
        temporary.write_bytes(content)
    return None


def print_json(rows: Iterable[tuple[Prediction, str | None, str | None]], details: Mapping[str, dict[str, Any]]) -> int:
    """Print a JSON list, an object an image.

    Args:
        rows: As `with_masks` gives them.
        details: By source, what is told of DICOM images beside the row; filled while the rows come.

    Returns:
        How many images failed.
    """
    answers: list[dict[str, Any]] = []
    failed = 0
    for row, written, problem in rows:
        failed += problem is not None
        answers.append(
            {
                "file": printable(row.source),
                "status": row.status,
                "reasons": row.reasons,
                "probability": row.probability,
                "label": row.label,
                "threshold": row.threshold,
                "spread": row.spread,
                "members": row.members,
                "oddness": row.oddness,
                "triage": row.triage,
                "model": row.model,
                "version": row.version,
                "standing": row.standing.to_dict(),
                "mask": written,
                "error": problem,
                "error_type": row.error_type,
                "dicom": details.get(row.source),
            }
        )
    sys.stdout.write(json.dumps(answers, indent=2) + "\n")
    return failed


def print_table(model: BusModel, rows: Iterable[tuple[Prediction, str | None, str | None]], count: int) -> int:
    """Print a table, then what failed on standard error.

    Returns:
        How many of the `count` images did.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{model.name} version {model.version}" if model.version else f"{model.name} from a folder"
    table = Table(title=f"{title}: malignant from a probability of {model.package.threshold:.3f} on")
    table.add_column("file", overflow="fold")
    for column in ("probability of malignancy", "spread"):
        table.add_column(column, justify="right")
    table.add_column("label")
    table.add_column("triage")
    failures, unsure = list[str](), list[str]()
    for row, _, problem in rows:
        name = printable(row.source)
        if problem is not None:
            failures.append(problem if name in problem else f"{name}: {problem}")
        if row.probability is None or row.spread is None or row.label is None:
            cells = ["", "", "[red]refused[/red]" if problem is None else "[red]no answer[/red]"]
        else:
            cells = [f"{row.probability:.3f}", f"{row.spread:.3f}", row.label]
        if problem is None:
            unsure += [f"{name}: {row.status}. {reason}" for reason in row.reasons]
        cells.append(row.triage or "")
        table.add_row(escape(name), *cells)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE  # a program reads line by line: no name is folded
    console.print(table)
    # Loud where the gate refused it: whoever reads the table alone must not take it for a promoted model's.
    style = "bold red" if model.standing.is_refused else None
    console.print(escape(str(model.standing)), style=style, highlight=False, soft_wrap=True)
    if model.package.judged is not None:
        console.print(escape(model.package.judged.in_words), highlight=False, soft_wrap=True)
    console.print(escape(model.package.notice), highlight=False, soft_wrap=True)
    if model.package.phantom:
        console.print("This model was trained on synthetic images (phantoms): its answers mean nothing for patients.")
    for each in unsure:
        console.print(escape(each), highlight=False, soft_wrap=True)
    if model.package.refusal is None:
        console.print("This package was made before models could refuse: it answers to any picture.", highlight=False)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {count} images failed.", file=sys.stderr)
    return len(failures)
