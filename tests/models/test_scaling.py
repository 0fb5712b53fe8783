"""Intensity scaling inside the network against Keras's own preprocessing of each application."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bus_mlops.errors import NetworkError
from bus_mlops.models.applications import APPLICATIONS, build_application
from bus_mlops.models.scaling import scale, scale_untrained

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)


def scaled(scaling: str, backbone: str) -> np.ndarray:
    image = keras.Input((8, 8, 3))
    return np.asarray(keras.Model(image, scale(image, scaling, backbone))(IMAGES))


PREPROCESSING = {
    "mobilenet": keras.applications.mobilenet.preprocess_input,
    "efficientnetb0": keras.applications.efficientnet.preprocess_input,
    "densenet121": keras.applications.densenet.preprocess_input,
    "resnet50": keras.applications.resnet50.preprocess_input,
    "vgg16": keras.applications.vgg16.preprocess_input,
    "xception": keras.applications.xception.preprocess_input,
    "inceptionv3": keras.applications.inception_v3.preprocess_input,
    "convnexttiny": keras.applications.convnext.preprocess_input,
    "efficientnetv2b0": keras.applications.efficientnet_v2.preprocess_input,
    "efficientnetv2s": keras.applications.efficientnet_v2.preprocess_input,
}


@pytest.mark.parametrize("backbone", APPLICATIONS)
def test_imagenet_scaling_is_that_of_the_application(backbone):
    np.testing.assert_allclose(
        scaled("imagenet", backbone), PREPROCESSING[backbone.split("_")[0]](IMAGES.copy()), atol=1e-4
    )


@pytest.mark.parametrize("backbone", ["resnet50", "densenet121", "inceptionv3"])
def test_radimagenets_scaling_is_that_of_its_training_script_for_every_network(backbone):
    expected = keras.applications.imagenet_utils.preprocess_input(IMAGES.copy(), mode="caffe") / 255
    np.testing.assert_allclose(scaled("radimagenet", backbone), expected, atol=1e-6)


@pytest.mark.parametrize(("scaling", "divisor"), [("imagenet", 255), ("raw255", 255), ("unit", 255**2)])
def test_efficientnet_normalises_inside_whatever_it_is_fed(scaling, divisor):
    image = keras.Input((32, 32, 3))
    base = build_application("efficientnetb0", scale(image, scaling, "efficientnetb0"))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    inside = keras.Model(image, base.get_layer("stem_conv_pad").input)(images)
    # DenseNet121's normalisation is the same, outside of the network and of 0-255.
    expected = keras.applications.densenet.preprocess_input(images * 255 / divisor)
    np.testing.assert_allclose(np.asarray(inside), expected, atol=1e-5)


def test_the_change_to_bgr_survives_onnx(tmp_path):
    import onnxruntime

    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, scale(image, "imagenet", "resnet50"))
    expected = np.asarray(model(IMAGES))
    model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": IMAGES})[0], expected, atol=1e-4)


def test_unit_and_raw():
    np.testing.assert_allclose(scaled("unit", "resnet50"), IMAGES / 255, rtol=1e-6)
    np.testing.assert_array_equal(scaled("raw255", "resnet50"), IMAGES)


def test_what_starts_from_scratch_gets_no_normalisation_of_a_pretrained_part():
    image = keras.Input((8, 8, 3))
    for scaling, greatest in (("imagenet", 1), ("unit", 1), ("raw255", 255)):
        given = scale_untrained(image, scale(image, scaling, "resnet50"), scaling)
        np.testing.assert_allclose(np.asarray(keras.Model(image, given)(IMAGES)), IMAGES * greatest / 255, rtol=1e-6)


def test_unknown_scaling_or_backbone_is_an_error():
    with pytest.raises(NetworkError, match="raw255, unit, imagenet or radimagenet"):
        scaled("zscore", "mobilenet")
    with pytest.raises(NetworkError, match="vgg99"):
        scaled("imagenet", "vgg99")
    with pytest.raises(NetworkError, match=r"vgg99.*mobilenet"):
        build_application("vgg99", keras.Input((32, 32, 3)))
