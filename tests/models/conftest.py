"""What tests of networks share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import pytest

from bus_mlops.testing.networks import exporter


@pytest.fixture(scope="module")
def export_process() -> Iterator[Executor]:
    """One process for several exports of a module: each would import TensorFlow anew."""
    with exporter() as process:
        yield process
