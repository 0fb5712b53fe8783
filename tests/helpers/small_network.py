"""A network of a few layers, for tests of the machinery around a training: MobileNet takes half a minute to compile."""

from __future__ import annotations

from pathlib import Path

import yaml
from projects import run_stage_script

EXTENSION = '''"""A network of a few layers."""

from bus_mlops.models.extensions import network


@network(label="Small", task="classification", input_size=64, source="a test")
def small(*, input_size, scaling, dropout):
    import keras
    from keras import layers

    from bus_mlops.models.blocks import malignancy_head

    image = keras.Input((input_size, input_size, 3), name="image")
    features = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    pooled = layers.GlobalAveragePooling2D()(features)
    return keras.Model(image, {"malignancy": malignancy_head(pooled, (8, 4), (dropout, 0))})
'''


def use_small_network(project: Path) -> None:
    """Let the strategy `losses` of a project train this network instead of MobileNet, and plan that."""
    extensions = project / "extensions"
    extensions.mkdir()
    (extensions / "small.py").write_text(EXTENSION)
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["networks"]["small"] = {"weights": "random", "scaling": "unit"}
    values["strategy_settings"]["losses"]["networks"] = ["small"]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    done = run_stage_script("plan", project)
    assert done.returncode == 0, done.stderr
