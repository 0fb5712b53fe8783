"""Keras and TensorFlow, as this project needs them: every module of ours takes them from here.

The user's `keras.json` (channels first, another float type, epsilon or backend) is for their own programs; it is
neither read nor written. If somebody has loaded Keras before, its settings become ours.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bus_mlops.environment import replaced
from bus_mlops.errors import NetworkError

__all__ = ["keras", "layers", "ops", "tf"]

_KERAS_HOME = Path("~/.keras").expanduser()

with (
    tempfile.TemporaryDirectory(prefix="bus-keras-") as _home,
    replaced({"KERAS_HOME": _home, "KERAS_BACKEND": "tensorflow"}) as _users,
):
    _was_loaded = "keras" in sys.modules
    # TensorFlow loads Keras, and Keras reads `keras.json` there, and writes it.
    import keras
    import tensorflow as tf
    from keras import layers, ops

if not _was_loaded:
    # Where it looks for downloaded weights.
    keras.src.backend.config._KERAS_DIR = str(_users["KERAS_HOME"] or _KERAS_HOME)  # noqa: SLF001 - Keras asks once only
if keras.config.backend() != "tensorflow":
    raise NetworkError(
        f"Keras was loaded with the backend {keras.config.backend()!r} before bus_mlops, which needs 'tensorflow': "
        "set the variable KERAS_BACKEND to tensorflow."
    )
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
keras.config.set_dtype_policy("float32")
