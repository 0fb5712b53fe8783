"""How long the missing cells will take, from the speed of the runs recorded so far."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from bus_mlops.spec import RunSpec, network_title
from bus_mlops.tracking.finished import RecordedRun


class Forecast:
    """The speed of each network and input size (pixels), as the median over the recorded runs."""

    def __init__(self, runs: Iterable[RecordedRun]) -> None:
        speeds: dict[str, dict[int, list[float]]] = {}
        for run in runs:
            if run.images_per_second:
                speeds.setdefault(run.network, {}).setdefault(run.input_size, []).append(run.images_per_second)
        self._speeds: Mapping[str, Mapping[int, float]] = {
            network: {size: statistics.median(values) for size, values in sizes.items()}
            for network, sizes in speeds.items()
        }

    def seconds(self, spec: RunSpec, images: int) -> float | None:
        """The seconds of one worker for a cell with that many training images; None if its network never ran.

        An input size that never ran takes the speed of the nearest one that did, scaled by the number of pixels.
        """
        sizes = self._speeds.get(network_title(spec.network, spec.options))
        if not sizes:
            return None
        size = spec.training.input_size
        nearest = min(sizes, key=lambda known: abs(known - size))
        seen = spec.training.images_per_epoch(images) * spec.training.epochs
        return seen / (sizes[nearest] * (nearest / size) ** 2)
