"""TensorFlow as in a worker process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def deterministic() -> None:
    """As in a worker process, but for the threads, which other tests may have set already."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
