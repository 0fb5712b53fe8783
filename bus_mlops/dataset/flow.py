"""What the flow counts of an assembled benchmark say of sources that are not complete."""

from __future__ import annotations

from pathlib import Path

from bus_mlops.errors import DatasetError
from bus_mlops.files import read_json
from bus_mlops.sources.record import IMAGE_ABSENT, MASK_ABSENT, MASK_UNFIT


def incomplete_sources(info: Path) -> dict[str, str]:
    """Of each source of which files are not there, how many images were kept: `1003 of 2006 images`.

    Args:
        info: The benchmark's `benchmark.json`.

    Raises:
        DatasetError: It is missing or cannot be read.
    """
    try:
        flow = read_json(info)["flow"]
        absent = {
            source: sum(counts.get("excluded", {}).get(reason, 0) for reason in (IMAGE_ABSENT, MASK_ABSENT, MASK_UNFIT))
            for source, counts in flow.items()
        }
        return {
            source: f"{flow[source]['kept']} of {flow[source]['kept'] + count} images"
            for source, count in absent.items()
            if count
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DatasetError(f"{info} cannot be read: {error!r}. Run `dvc repro assemble`.") from error
