"""The five generic multitask networks: exact totals, the classifier within, skips, serialization, gradients, ONNX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import keras
import numpy as np
import pytest
from built_networks import trainable_parameters

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.generic_multitask import SKIPS
from bus_mlops.testing.networks import check_built_network, check_entry, check_onnx, network_spec, random_images

# With transposed convolutions: of all layers, of what training changes; without them: of all layers.
TOTALS = {
    "mobilenet": (4_873_554, 4_850_706, 5_058_914),
    "efficientnetb0": (5_907_253, 5_864_270, 6_195_013),
    "densenet121": (9_312_978, 9_228_370, 9_826_018),
    "resnet50": (26_387_474, 26_333_394, 26_900_514),
    "vgg16": (16_484_306, 16_483_346, 16_669_666),
}
SLOW = ("densenet121", "resnet50", "efficientnetb0")
BACKBONES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TOTALS]
Build = Callable[[str], keras.Model]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Each network once for this module."""
    built = functools.cache(lambda backbone: zoo.build(network_spec(f"{backbone}_multitask")))
    yield built
    built.cache_clear()


def layers_of(model: keras.Model) -> dict[str, tuple[str, list[tuple[int, ...]]]]:
    """Class and weight shapes of each layer by its name."""
    return {
        layer.name: (type(layer).__name__, [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_totals_are_those_of_the_specification(build: Build, backbone: str) -> None:
    model = build(backbone)
    total, trainable, without_transposed = TOTALS[backbone]
    assert (model.count_params(), trainable_parameters(model)) == (total, trainable)
    assert zoo.entry(f"{backbone}_multitask").parameters == total
    # At an odd number of sixteens.
    repeat = zoo.build(network_spec(f"{backbone}_multitask", {"upsampling": "repeat"}, input_size=80))
    assert repeat.count_params() == without_transposed
    assert repeat.output["mask"].shape == (None, 80, 80, 1)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_without_its_decoder_it_is_the_plain_classifier(build: Build, backbone: str) -> None:
    model = build(backbone)
    single = keras.Model(model.input, {"malignancy": model.output["malignancy"]})
    classifier = zoo.build(network_spec(backbone))
    assert single.count_params() == classifier.count_params()
    assert layers_of(single) == layers_of(classifier)
    assert zoo.entry(backbone).label == zoo.entry(f"{backbone}_multitask").label


@pytest.mark.parametrize("backbone", BACKBONES)
def test_skips_double_from_a_stride_of_sixteen_to_the_image(build: Build, backbone: str) -> None:
    model = build(backbone)
    assert [model.get_layer(name).output.shape[1] for name in SKIPS[backbone]] == [4, 8, 16, 32]
    assert [model.get_layer(f"up{number}").output.shape[1] for number in (1, 2, 3, 4)] == [8, 16, 32, 64]
    assert model.get_layer("up4_join").input[1].shape == (None, 64, 64, 3)


@pytest.mark.parametrize(("scaling", "greatest"), [("imagenet", 1), ("unit", 1), ("raw255", 255)])
def test_the_image_that_joins_the_decoder_is_not_normalised_as_the_backbone_is(scaling: str, greatest: int) -> None:
    model = zoo.build(network_spec("vgg16_multitask", scaling=scaling))
    skip = keras.Model(model.input, model.get_layer("up4_join").input[1])
    images = random_images(model)
    np.testing.assert_allclose(np.asarray(skip(images)), images * greatest / 255, rtol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_keeps_the_contract_of_networks(build: Build, backbone: str) -> None:
    check_entry(zoo.entry(f"{backbone}_multitask"))
    check_built_network(network_spec(f"{backbone}_multitask"), build(backbone))


def test_a_size_that_the_decoder_cannot_double_to_is_an_error() -> None:
    with pytest.raises(NetworkError, match="multiple of 16"):
        zoo.build(network_spec("mobilenet_multitask", input_size=72))


def test_the_variant_is_spelled_out_in_tables() -> None:
    entry = zoo.entry("resnet50_multitask")
    assert (entry.title({}), entry.title({"upsampling": "repeat"})) == ("ResNet50", "ResNet50 (repeat)")


@pytest.mark.slow
@pytest.mark.parametrize("upsampling", ["transposed", "repeat"])
def test_onnx_agrees(export_process: Executor, upsampling: str) -> None:
    check_onnx(zoo.build(network_spec("mobilenet_multitask", {"upsampling": upsampling})), export_process)
