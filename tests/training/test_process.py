"""A worker process is set up before TensorFlow runs, and keeps quiet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_threads_are_set_once_and_nothing_is_said() -> None:
    done = python(
        "from bus_mlops.training.process import configure_process; configure_process(1); "
        "import keras, tensorflow as tf; tf.constant(1.0) + 1; configure_process(1); "
        "print(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_threads_cannot_change_once_tensorflow_runs() -> None:
    done = python(
        "from bus_mlops.training.process import configure_process; configure_process(1); "
        "import tensorflow as tf; tf.constant(1.0) + 1; configure_process(2)"
    )
    assert "TrainingError: engine.threads = 2" in done.stderr


def test_other_words_on_standard_error_are_passed_on() -> None:
    done = python(
        "import os; from bus_mlops.training import process\n"
        "with process.without_chatter(): os.write(2, b'oneDNN custom operations are on\\nsomething else\\n')"
    )
    assert done.stderr == "something else\n"
