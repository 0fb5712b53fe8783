"""TensorFlow as in a worker process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cells import small_in_the_zoo


@pytest.fixture(scope="session", autouse=True)
def deterministic() -> None:
    """As in a worker process, but for the threads, which other tests may have set already."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


@pytest.fixture(scope="module", autouse=True)
def _small_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The network of a few layers is in the zoo as long as a module's tests run."""
    with small_in_the_zoo(tmp_path_factory.mktemp("empty")):
        yield
