"""Keras has this project's settings, whatever the user has in their home; nothing is written there."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import keras
from projects import ROOT

from bus_mlops.models import framework

SHOW = """
import json, sys
from bus_mlops.models.framework import keras
config = keras.config
found = [config.backend(), config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy().name]
print(json.dumps([*found, keras.src.backend.config.keras_home()]))
"""
OURS = ["tensorflow", "float32", 1e-7, "channels_last", "float32"]


def test_the_users_own_settings_are_neither_read_nor_written(tmp_path):
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    text = json.dumps({"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1, "backend": "jax"})
    (home / ".keras/keras.json").write_text(text)
    without = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    environment = {**without, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [*OURS, str(home / ".keras")]
    assert [path.name for path in home.rglob("*") if "keras" in str(path)] == [".keras", "keras.json"]
    assert (home / ".keras/keras.json").read_text() == text


def test_settings_of_a_keras_that_was_loaded_before_become_ours():
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_epsilon(1e-3)
    importlib.reload(framework)
    found = [keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()]
    assert [*found, keras.config.dtype_policy().name] == OURS
