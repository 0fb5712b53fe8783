"""Networks of a few layers, for tests of the machinery around a training: MobileNet takes half a minute to compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from projects import run_stage_here

EXTENSION = '''"""A classifier of a few layers, the same with a mask, an approach, and a network for masks alone."""

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


@network(label="Heavy", task="classification", input_size=64, source="a test")
def heavy(*, input_size, scaling, dropout):
    """As many weights as MobileNet has, in a layer that is traced in no time."""
    import keras
    from keras import layers

    from bus_mlops.models.blocks import malignancy_head

    image = keras.Input((input_size, input_size, 3), name="image")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, strides=2, activation="relu")(image))
    wide = layers.Dense(3072, activation="relu")(layers.Dense(1024, activation="relu")(pooled))
    return keras.Model(image, {"malignancy": malignancy_head(wide, (8, 4), (dropout, 0))})


@network(label="Small", task="multitask", input_size=64, source="a test")
def small_multitask(*, input_size, scaling, dropout):
    import keras
    from keras import layers

    from bus_mlops.models.blocks import malignancy_head, mask_head, transposed

    image = keras.Input((input_size, input_size, 3), name="image")
    features = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    pooled = layers.GlobalAveragePooling2D()(features)
    malignancy = malignancy_head(pooled, (8, 4), (dropout, 0))
    return keras.Model(image, {"malignancy": malignancy, "mask": mask_head(transposed(features, 4, "up"))})


@network(label="Approach", task="multitask", input_size=64, source="a test")
def small_approach(*, input_size, scaling, dropout):
    return small_multitask(input_size=input_size, scaling=scaling, dropout=dropout)


@network(label="Small mask", task="segmentation", input_size=64, source="a test")
def small_mask(*, input_size, scaling, dropout):
    import keras
    from keras import layers

    from bus_mlops.models.blocks import mask_head

    image = keras.Input((input_size, input_size, 3), name="image")
    return keras.Model(image, {"mask": mask_head(layers.Conv2D(4, 3, padding="same", activation="relu")(image))})
'''


def add_small_networks(project: Path) -> None:
    """The file that brings the networks above."""
    extensions = project / "extensions"
    extensions.mkdir(exist_ok=True)
    (extensions / "small.py").write_text(EXTENSION)


def in_place_of_the_zoo(values: dict[str, Any]) -> None:
    """In the parameters of `tiny_values`, a small network for each of the zoo's; the candidate is the approach."""
    values["networks"] = {
        name: {"weights": "random", "scaling": "unit"}
        for name in ("small", "small_multitask", "small_approach", "small_mask")
    }
    (search,) = values["searches"].values()
    values["searches"] = {"loss": {**search, "network": ["small_approach"]}}
    values["promotion"].update(candidate_network="small_approach", candidates=["loss"])
    values["probes"]["cost"] = "probed"  # these are exported in no time
    for settings in values["strategy_settings"].values():
        if settings.get("networks") == ["mobilenet"]:
            settings["networks"] = ["small"]


def replace_the_zoo(project: Path) -> None:
    """Let a project of `tiny_values` train these networks instead of the zoo's, and plan that."""
    add_small_networks(project)
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    in_place_of_the_zoo(values)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    _plan(project)


def use_small_network(project: Path, network: str = "small") -> None:
    """Let the strategy `losses` of a project train this network instead of MobileNet, and plan that."""
    add_small_networks(project)
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["networks"][network] = {"weights": "random", "scaling": "unit"}
    values["strategy_settings"]["losses"]["networks"] = [network]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    _plan(project)


def _plan(project: Path) -> None:
    done = run_stage_here("plan", project)
    assert done.returncode == 0, done.stderr
