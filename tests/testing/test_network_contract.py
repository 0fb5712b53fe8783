"""What breaks the contract of networks is noticed; that those of the zoo keep it is tested with each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry, OptionRule
from bus_mlops.models.extensions import network
from bus_mlops.models.scaling import scale
from bus_mlops.testing.contract import ContractError
from bus_mlops.testing.networks import check_entry, check_network

Change = Callable[[Any], Any]


class Doubling(keras.layers.Layer):
    """A layer that a saved network cannot be loaded without."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Register a small network that is changed before its head, after its logit, or in its output."""

    def made(features: Change = same, logit: Change = same, output: Change = same, **values: Any) -> str:
        def small(*, input_size: int, scaling: str, dropout: float, **_: Any) -> keras.Model:
            image = keras.Input((input_size, input_size, 3), name="image")
            x = keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")(scale(image, scaling, ""))
            x = features(keras.layers.GlobalAveragePooling2D(name="pool")(x))
            dense = keras.layers.Dense(1, name="malignancy_logit")(keras.layers.Dropout(dropout, name="dropout")(x))
            probability = keras.layers.Activation("sigmoid", name="malignancy")(logit(dense))
            return keras.Model(image, {"malignancy": output(probability)})

        # Builders are looked up in their module.
        monkeypatch.setattr(sys.modules[__name__], "small", small, raising=False)
        network(**{"label": "Small", "task": "classification", "input_size": 96, "source": "a test", **values})(small)
        return "small"

    yield made
    zoo.NETWORKS.forget(__name__)


def same(x: Any) -> Any:
    return x


def unlike_others(x: Any) -> Any:
    return x - keras.ops.mean(x, axis=0, keepdims=True)


def cut_off(x: Any) -> Any:
    return keras.ops.stop_gradient(x)


def test_one_that_keeps_it_passes(register):
    check_network(register(options={"depth": OptionRule(2, choices=(1, 2))}, multiple=32), onnx=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": unlike_others}, "depends on the others in its batch"),
        ({"features": cut_off}, "conv/kernel takes no part"),
        ({"features": lambda x: x * 0}, "is the same for all images|layers without a gradient"),
        ({"features": lambda x: Doubling(name="double")(x)}, "cannot be loaded without its code"),
        ({"output": lambda x: x * 3}, "must be probabilities"),
        ({"label": ""}, "label and source"),
    ],
)
def test_one_that_breaks_it_is_noticed(register, changes, message):
    with pytest.raises(ContractError, match=message):
        check_network(register(**changes), onnx=False)


def test_an_entry_that_refuses_nothing_or_its_own_default_is_noticed(register, monkeypatch):
    monkeypatch.setattr(NetworkEntry, "check_size", lambda self, size: None)
    with pytest.raises(ContractError, match="input_size 31 must be refused"):
        check_entry(zoo.entry(register()))
    zoo.NETWORKS.forget(__name__)
    with pytest.raises(NetworkError, match="must be one of 1, 2 but got 3"):
        check_entry(zoo.entry(register(options={"depth": OptionRule(3, choices=(1, 2))})))
