"""Intensity scaling inside the network against Keras's own preprocessing of each application."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bus_mlops.errors import NetworkError
from bus_mlops.models.scaling import scale

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)


def scaled(scaling: str, backbone: str) -> np.ndarray:
    image = keras.Input((8, 8, 3))
    return np.asarray(keras.Model(image, scale(image, scaling, backbone))(IMAGES))


@pytest.mark.parametrize(
    ("backbone", "reference"),
    [
        ("mobilenet", keras.applications.mobilenet.preprocess_input),
        ("resnet50", keras.applications.resnet50.preprocess_input),
        ("densenet121", keras.applications.densenet.preprocess_input),
    ],
)
def test_imagenet_scaling_is_that_of_the_application(backbone, reference):
    np.testing.assert_allclose(scaled("imagenet", backbone), reference(IMAGES.copy()), atol=1e-4)


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


def test_unknown_scaling_or_backbone_is_an_error():
    with pytest.raises(NetworkError, match="raw255, unit or imagenet"):
        scaled("zscore", "mobilenet")
    with pytest.raises(NetworkError, match="vgg99"):
        scaled("imagenet", "vgg99")
