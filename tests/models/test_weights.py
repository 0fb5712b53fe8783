"""Pretrained weights: where they are looked for, that they are the right ones, and what is said when they are not."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import numpy as np
import pytest

from bus_mlops.config import Training
from bus_mlops.errors import WeightsError
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.models import weights, zoo

SHARED = Path(__file__).parents[3] / "shared" / "weights"
needs_weights = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ImageNet weights in ../shared/weights")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A proxy that refuses every connection, and an empty cache."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


def make_spec(network: str, size: int = 64, **options: object) -> RunSpec:
    return RunSpec(
        network=network,
        options=options,  # type: ignore[arg-type]
        cohort=("busi",),
        task=zoo.entry(network).task,
        training=Training(input_size=size, scaling="imagenet"),
        seed=0,
    )


@pytest.mark.parametrize("name", weights.FILES["mobilenet"])
def test_the_given_folder_comes_before_the_cache(offline, tmp_path, name):
    offline.mkdir(parents=True)
    (offline / name).touch()
    assert weights.imagenet_weights("mobilenet") == offline / name
    assert weights.imagenet_weights("mobilenet", tmp_path / "missing") == offline / name
    own = tmp_path / "own"
    own.mkdir()
    (own / name).touch()
    assert weights.imagenet_weights("mobilenet", own) == own / name


@pytest.mark.parametrize("backbone", weights.FILES)
def test_offline_says_at_once_which_file_to_put_where(offline, tmp_path, backbone):
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        weights.imagenet_weights(backbone, tmp_path / "own")
    assert time.monotonic() - started < 20
    for word in (*weights.FILES[backbone], str(tmp_path / "own"), str(offline), "no such folder", backbone):
        assert word in str(caught.value)


def test_an_unknown_backbone_is_an_error():
    with pytest.raises(WeightsError, match="vgg99"):
        weights.imagenet_weights("vgg99")


def test_a_file_of_another_network_or_a_damaged_one_is_named(tmp_path):
    other, damaged = tmp_path / "other.weights.h5", tmp_path / "damaged.h5"
    keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3)).save_weights(
        other
    )
    damaged.write_bytes(other.read_bytes()[:1000])
    for path in (other, damaged):
        with pytest.raises(WeightsError, match=path.name):
            weights.load_application("mobilenet", path)


def test_the_format_that_keras_downloads_is_read_too(tmp_path):
    source = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(224, 224, 3))
    path = tmp_path / weights.FILES["mobilenet"][0]
    source.save(path)  # .h5: the older format, of the files on Keras's host
    loaded = weights.load_application("mobilenet", weights.imagenet_weights("mobilenet", tmp_path))
    for a, b in zip(source.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@needs_weights
@pytest.mark.parametrize(
    ("spec", "application", "preprocess", "last"),
    [
        (
            make_spec("mobilenet"),
            keras.applications.MobileNet,
            keras.applications.mobilenet.preprocess_input,
            "conv_pw_13_relu",
        ),
        (
            make_spec("mt_estan", width=0.0625, encoder="densenet121"),
            keras.applications.DenseNet121,
            keras.applications.densenet.preprocess_input,
            "relu",
        ),
    ],
)
def test_pretrained_features_are_those_of_the_application(spec, application, preprocess, last):
    model = zoo.build(spec)
    features = keras.Model(model.input, model.get_layer(last).output)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    at_random = np.asarray(features(images))
    values = weights.pretrained_values(model, spec, SHARED)
    by_path = {variable.path: variable for variable in model.weights}
    for path, value in values.items():
        by_path[path].assign(value)
    backbone = zoo.entry(spec.network).backbone_of(spec.options)
    file = weights.imagenet_weights(backbone, SHARED)
    reference = application(include_top=False, weights=file, input_shape=(64, 64, 3))
    found = np.asarray(features(images))
    np.testing.assert_allclose(found, np.asarray(reference(preprocess(images.copy()))), atol=1e-4)
    assert np.abs(found).mean() > 0.01
    assert np.abs(found - at_random).mean() > 0.01
    head = {layer.name for layer in model.layers} - {layer.name for layer in reference.layers}
    assert not any(path.split("/")[0] in head for path in values)
