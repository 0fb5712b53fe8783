"""Prepares a worker process for training: threads, deterministic ops, and no chatter from TensorFlow.

Import this module before anything else that imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from bus_mlops.environment import fix_numbers
from bus_mlops.errors import TrainingError

# What TensorFlow's libraries print while they are loaded, before any log level applies.
_CHATTER = ("absl::InitializeLog()", "oneDNN custom operations are on")


def configure_process(threads: int) -> None:
    """Make this process ready for training: deterministic ops, no variables that change numbers, quiet logs.

    To be called before anything else touches TensorFlow.

    Args:
        threads: Numbers depend on it, so it is part of what makes a run repeatable.

    Raises:
        TrainingError: TensorFlow already runs with another number of threads.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    fix_numbers()
    # Otherwise the first process takes all memory of a GPU, whether it needs it or not.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with without_chatter():
        from bus_mlops.models.framework import tf
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1 if threads == 1 else 2)
    except RuntimeError as error:
        raise TrainingError(
            f"engine.threads = {threads} cannot be set: TensorFlow already runs in this process. "
            "Call configure_process before any other use of TensorFlow."
        ) from error
    tf.config.experimental.enable_op_determinism()
    # Graph optimisation costs a quarter to a third of the first step and gains at most 5 % of the later ones.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what is written to standard error, then pass on all but the known chatter."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not any(words in line for words in _CHATTER):
                    sys.stderr.write(line)
