"""Records -> the benchmark's folder: memory-mapped arrays, manifest and flow counts, written atomically."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.config import Config
from bus_mlops.dataset.benchmark import (
    COLUMNS,
    FORMAT_VERSION,
    INFO_FILE,
    MANIFEST_FILE,
    Benchmark,
    flow_notes,
    validate_manifest,
)
from bus_mlops.dataset.convert import (
    THUMBNAIL,
    THUMBNAILS_FILE,
    Chunk,
    Converted,
    convert_chunk,
    images_file,
    masks_file,
)
from bus_mlops.errors import DatasetError, ImageError
from bus_mlops.files import printable, replaced_folder
from bus_mlops.images.geometry import GEOMETRY_VERSION
from bus_mlops.limits import core_count
from bus_mlops.sources.record import MALIGNANT, Record, label_conflicts
from bus_mlops.sources.registry import read_each
from bus_mlops.sources.source import Reading

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 32
# Below this, starting processes takes longer than the images do.
_WORTH_A_WORKER = 150


def assemble(config: Config, sizes: Sequence[int], folder: Path, workers: int | None = None) -> Benchmark:
    """Read the configured sources and write the benchmark: every image decoded once, for all sizes.

    Memory does not grow with the number of images.

    Args:
        config: Names the sources and where they are.
        sizes: Sides of the squares to write, in pixels.
        folder: Is replaced when all is done.
        workers: Processes; None for one a core where that pays. The bytes do not depend on it.

    Raises:
        SourceError: A source is not in order.
        ImageError: Names every image that cannot be used.
        DatasetError: There is no room on the disk.
    """
    if not sizes:
        raise DatasetError("no input size to assemble: the plan is empty. Run `dvc repro plan`.")
    readings = read_each(config.data)
    records = sorted(
        (record for reading in readings.values() for record in reading.records),
        key=lambda record: (record.source, record.name),
    )
    ordered = sorted(set(sizes))
    with replaced_folder(folder) as partial:
        _create_arrays(partial, len(records), ordered, config.data.color)
        chunks = [
            Chunk(start, records[start : start + _CHUNK], partial, ordered, config.data.color)
            for start in range(0, len(records), _CHUNK)
        ]
        results = _convert(chunks, _worker_count(len(records), workers))
        _stop_on_failures(results)
        frame = validate_manifest(_manifest(records, results, config.data.root))
        frame.to_csv(partial / MANIFEST_FILE, index=False, lineterminator="\n")
        text = json.dumps(_info(config, ordered, records, results, readings), indent=2, sort_keys=True)
        (partial / INFO_FILE).write_text(text + "\n", encoding="utf-8")
    return Benchmark.open(folder)


def describe(benchmark: Benchmark) -> str:
    """The flow counts and the label conflicts inside cases, as lines for people."""
    kind = "SYNTHETIC images (phantoms)" if benchmark.is_phantom else "images"
    lines = [f"{len(benchmark.frame)} {kind} at {', '.join(map(str, benchmark.sizes))} pixels"]
    for source, flow in benchmark.info["flow"].items():
        lines.append(
            f"  {source}: {flow['listed']} listed, {flow['kept']} kept ({flow['benign']} benign, "
            f"{flow['malignant']} malignant) in {flow['cases']} cases, {flow['with_mask']} with mask"
        )
        for reason, count in flow["excluded"].items():
            lines.append(f"  {source}: {count} left out: {reason}")
        lines += [f"  {line}" for line in flow_notes(benchmark.info, source)]
        if flow["empty_masks"]:
            lines.append(f"  {source}: {flow['empty_masks']} masks are empty")
    lines += [
        f"  case {conflict['case_id']} holds benign and malignant images, kept as the source says"
        for conflict in benchmark.info["label_conflicts"]
    ]
    return "\n".join(lines)


def _worker_count(images: int, workers: int | None) -> int:
    if workers is not None:
        return max(1, workers)
    return max(1, min(core_count(), images // _WORTH_A_WORKER))


def _convert(chunks: Sequence[Chunk], workers: int) -> list[Converted]:
    if workers == 1:
        return list(chain.from_iterable(map(convert_chunk, chunks)))
    # spawn, since the parent may have threads (TensorFlow, BLAS) that a fork would cut in the middle
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(chain.from_iterable(pool.map(convert_chunk, chunks)))
    except BrokenProcessPool as error:
        raise DatasetError(
            "a worker process of the assembly was killed, most likely for want of memory. Run it again."
        ) from error


def _create_arrays(folder: Path, count: int, sizes: Sequence[int], color: str) -> None:
    channels = (3,) if color == "rgb" else ()
    shapes: dict[str, tuple[int, ...]] = {THUMBNAILS_FILE: (count, THUMBNAIL, THUMBNAIL)}
    for size in sizes:
        shapes[images_file(size)] = (count, size, size, *channels)
        shapes[masks_file(size)] = (count, size, size)
    for name, shape in shapes.items():
        path = folder / name
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        del array
        _reserve(path)


def _reserve(path: Path) -> None:
    """Take the file's blocks now: a full disk would otherwise kill the process when it writes to the map."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise DatasetError(
                f"no room for {path.stat().st_size / 2**20:.0f} MiB in {path.parent}: {error.strerror}. "
                "Free some space and run it again."
            ) from error


def _stop_on_failures(results: Sequence[Converted]) -> None:
    failures = [result.failure for result in results if result.failure]
    if len(failures) == 1:
        raise ImageError(failures[0])
    if failures:
        lines = "\n  ".join(failures)
        raise ImageError(f"{len(failures)} images cannot be used:\n  {lines}")


def _manifest(records: Sequence[Record], results: Sequence[Converted], root: Path) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "index": result.index,
            "image_id": record.image_id,
            "source": record.source,
            "name": record.name,
            "case_id": record.case_id,
            "label": record.label,
            "has_mask": int(bool(record.masks)),
            "width": result.width,
            "height": result.height,
            "path": printable(record.image.relative_to(root).as_posix()),
            "digest": result.digest,
            "pixel_digest": result.pixel_digest,
            "scanner": record.findings.scanner,
            "birads": record.findings.birads,
            "lesion_box": " ".join(map(str, record.findings.lesion_box or ())),
        }
        for record, result in zip(records, results, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _info(
    config: Config,
    sizes: Sequence[int],
    records: Sequence[Record],
    results: Sequence[Converted],
    readings: Mapping[str, Reading],
) -> dict[str, Any]:
    sources = sorted({record.source for record in records})
    return {
        "version": FORMAT_VERSION,
        "geometry": GEOMETRY_VERSION,
        "kind": config.data.kind,
        "color": config.data.color,
        "sizes": list(sizes),
        "sources": sources,
        "flow": {source: _flow(source, records, results, readings[source].left_out) for source in sources},
        "left_out": {source: dict(reading.beside) for source, reading in readings.items() if reading.beside},
        "notes": {source: list(reading.notes) for source, reading in readings.items() if reading.notes},
        "label_conflicts": [conflict._asdict() for conflict in label_conflicts(records)],
    }


def _flow(
    source: str, records: Sequence[Record], results: Sequence[Converted], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """Flow counts as STARD asks; a run stops at an image that cannot be read, so only absent files are excluded yet."""
    mine = [(record, result) for record, result in zip(records, results, strict=True) if record.source == source]
    malignant = sum(record.label == MALIGNANT for record, _ in mine)
    return {
        "listed": len(mine) + sum(left_out.values()),
        "read": len(mine),
        "excluded": dict(left_out),
        "kept": len(mine),
        "benign": len(mine) - malignant,
        "malignant": malignant,
        "cases": len({record.case_id for record, _ in mine}),
        "with_mask": sum(bool(record.masks) for record, _ in mine),
        "empty_masks": sum(result.empty_mask for _, result in mine),
    }
