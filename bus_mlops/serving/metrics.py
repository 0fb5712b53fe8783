"""What the service has answered so far, as Prometheus reads it: its text format 0.0.4, a few fixed labels.

Counters and histograms, which a server adds up over services and turns into rates; and quantiles of the latest answers,
for whoever looks at one service alone. No label takes a value that a client chooses.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel, Prediction

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("answered", "uncertain", "refused")
# Of errors, by class; of any other class, as `other`.
ERRORS = ("ImageError", "ImageSizeError", "ModelOutputError")
TENTHS = tuple(n / 10 for n in range(1, 11))
SPREADS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LATEST = 1000


class Histogram:
    """How many values lie at or below each bound, their sum and their number; and the latest of them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.latest: deque[float] = deque(maxlen=LATEST)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        self.latest.append(value)

    def lines(self, name: str, text: str) -> Iterable[str]:
        """As a histogram, and as a summary of the latest."""
        total = sum(self.counts)
        yield from _head(name, "histogram", text)
        for k, bound in enumerate(self.bounds, 1):
            yield f'{name}_bucket{{le="{bound}"}} {sum(self.counts[:k])}'
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self.sum!r}"
        yield f"{name}_count {total}"
        yield from _head(f"{name}_recent", "summary", f"{text} Of the latest {LATEST} answers.")
        latest = list(self.latest)
        found = np.quantile(latest, QUANTILES) if latest else [float("nan")] * len(QUANTILES)
        for quantile, value in zip(QUANTILES, found, strict=True):
            yield f'{name}_recent{{quantile="{quantile}"}} {_number(value)}'
        yield f"{name}_recent_sum {sum(latest)!r}"
        yield f"{name}_recent_count {len(latest)}"


class Metrics:
    """Of one running service; used from several threads."""

    def __init__(self, model: BusModel) -> None:
        self.model = model
        self.started = time.time()
        self.statuses = Counter(dict.fromkeys(STATUSES, 0))
        self.errors = Counter(dict.fromkeys((*ERRORS, "other"), 0))
        self.requests: Counter[str] = Counter({"200": 0})
        self.unlogged = 0
        self.score, self.spread, self.seconds = Histogram(TENTHS), Histogram(SPREADS), Histogram(SECONDS)
        self._lock = threading.Lock()

    def observe(self, row: Prediction) -> None:
        """Count the answer for one image."""
        with self._lock:
            self.statuses[row.status] += 1
            if row.error_type is not None:
                self.errors[row.error_type if row.error_type in ERRORS else "other"] += 1
            if row.probability is not None:
                self.score.add(row.probability)
            if row.spread is not None:
                self.spread.add(row.spread)
            if row.seconds is not None:
                self.seconds.add(row.seconds)

    def count_request(self, status: int) -> None:
        """Count a request for answers, by the HTTP status that it got."""
        with self._lock:
            self.requests[str(status)] += 1

    def count_unlogged(self) -> None:
        """Count a request that got no answer, since the log cannot be written."""
        with self._lock:
            self.unlogged += 1

    def text(self, under_way: int, is_ready: bool) -> str:
        """All of it.

        Args:
            under_way: Requests that are worked on.
            is_ready: As `/ready` says.
        """
        model, log = self.model, self.model.log
        which = f'digest="{model.digest}",version="{_escaped(model.version or "")}",name="{_escaped(model.name)}"'
        with self._lock:
            parts: list[Iterable[str]] = [
                _head("bus_mlops_model_info", "gauge", "Which model answers; always 1."),
                [f"bus_mlops_model_info{{{which}}} 1"],
                _single("start_time_seconds", "gauge", "When the service started, in Unix time.", self.started),
                _single("ready", "gauge", "Whether /ready says 200.", int(is_ready)),
                _single("requests_under_way", "gauge", "Requests that are worked on.", under_way),
                _by("requests_total", "status", "Requests for answers, by HTTP status.", self.requests),
                _by("answers_total", "status", "Images that were answered, were uncertain or refused.", self.statuses),
                _by("errors_total", "type", "Images without an answer that had an error, by its class.", self.errors),
                _single("log_lines_total", "counter", "Lines of the log of answers.", log.lines if log else 0),
                _single("log_failures_total", "counter", "Requests whose line could not be written.", self.unlogged),
                self.score.lines("bus_mlops_score", "Calibrated probability of malignancy, 0-1."),
                self.spread.lines("bus_mlops_spread", "Greatest minus least probability over the members, 0-1."),
                self.seconds.lines("bus_mlops_answer_seconds", "From reading an image to its answer."),
            ]
            return "\n".join(line for part in parts for line in part) + "\n"


def _head(name: str, kind: str, text: str) -> Iterable[str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _single(name: str, kind: str, text: str, value: float) -> Iterable[str]:
    return *_head(f"bus_mlops_{name}", kind, text), f"bus_mlops_{name} {value!r}"


def _by(name: str, label: str, text: str, values: Mapping[str, int]) -> Iterable[str]:
    yield from _head(f"bus_mlops_{name}", "counter", text)
    for value, count in sorted(values.items()):
        yield f'bus_mlops_{name}{{{label}="{value}"}} {count}'


def _escaped(value: str) -> str:
    r"""A label's value.

    >>> _escaped('a "b"')
    'a \\"b\\"'
    """
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "NaN" if np.isnan(value) else repr(float(value))
