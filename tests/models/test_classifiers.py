"""The seven classifiers: exact parameter totals, smallest sizes, serialization, gradients, ONNX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import keras
import pytest
from built_networks import trainable_parameters

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.testing.networks import check_built_network, check_entry, check_onnx, network_spec

# Of all layers, and of what training changes: without the batch statistics and EfficientNet's constants.
TOTALS = {
    "mobilenet": (3_786_561, 3_764_673),
    "efficientnetb0": (4_738_340, 4_696_317),
    "densenet121": (7_595_201, 7_511_553),
    "resnet50": (24_669_697, 24_616_577),
    "vgg16": (15_010_241, 15_010_241),
    "xception": (21_943_465, 21_888_937),
    "inceptionv3": (22_884_769, 22_850_337),
}
SLOW = ("efficientnetb0", "densenet121", "resnet50", "xception", "inceptionv3")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TOTALS]
Build = Callable[[str], keras.Model]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Each network once for this module, on the smallest images that are tested."""
    built = functools.cache(lambda name: zoo.build(network_spec(name)))
    yield built
    built.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_totals_are_those_of_the_specification(build: Build, name: str) -> None:
    model = build(name)
    assert (model.count_params(), trainable_parameters(model)) == TOTALS[name]
    assert zoo.entry(name).parameters == TOTALS[name][0]
    assert model.get_layer("class_dropout").rate == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract_of_networks(build: Build, name: str) -> None:
    check_entry(zoo.entry(name))
    check_built_network(network_spec(name), build(name))


@pytest.mark.parametrize(("name", "minimum"), [("xception", 71), ("inceptionv3", 75), ("vgg16", 32)])
def test_too_small_an_image_is_an_error_that_names_the_smallest(name: str, minimum: int) -> None:
    with pytest.raises(NetworkError, match=f"{minimum} or more but got {minimum - 1}"):
        zoo.entry(name).check_size(minimum - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOTALS)
def test_onnx_agrees(build: Build, export_process: Executor, name: str) -> None:
    check_onnx(build(name), export_process)
