"""Pretrained weights: where they are looked for, that they are the right ones, and what is said when they are not."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pretrained_files import write_pretrained

from bus_mlops.config import Training
from bus_mlops.errors import WeightsError
from bus_mlops.models import weights, zoo
from bus_mlops.models.applications import APPLICATIONS
from bus_mlops.models.naming import with_stable_names
from bus_mlops.models.weight_files import imagenet_weights, radimagenet_weights
from bus_mlops.spec import RunSpec
from bus_mlops.testing.networks import network_spec, random_images

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


def make_spec(network: str, size: int = 64, **options: Any) -> RunSpec:
    return RunSpec(
        network=network,
        options=options,
        cohort=("busi",),
        task=zoo.entry(network).task,
        training=Training(input_size=size, scaling="imagenet"),
        seed=0,
    )


@pytest.mark.parametrize("name", APPLICATIONS["mobilenet"].files)
def test_the_given_folder_comes_before_the_cache(offline, tmp_path, name):
    offline.mkdir(parents=True)
    (offline / name).touch()
    assert imagenet_weights("mobilenet") == offline / name
    assert imagenet_weights("mobilenet", tmp_path / "missing") == offline / name
    own = tmp_path / "own"
    own.mkdir()
    (own / name).touch()
    assert imagenet_weights("mobilenet", own) == own / name


@pytest.mark.parametrize("backbone", APPLICATIONS)
def test_offline_says_at_once_which_file_to_put_where(offline, tmp_path, backbone):
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        imagenet_weights(backbone, tmp_path / "own")
    assert time.monotonic() - started < 20
    for word in (*APPLICATIONS[backbone].files, str(tmp_path / "own"), str(offline), "no such folder", backbone):
        assert word in str(caught.value)


def test_an_unknown_backbone_is_an_error():
    with pytest.raises(WeightsError, match="vgg99"):
        imagenet_weights("vgg99")


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
    path = tmp_path / APPLICATIONS["mobilenet"].files[0]
    source.save(path)  # .h5: the older format, of the files on Keras's host
    loaded = weights.load_application("mobilenet", imagenet_weights("mobilenet", tmp_path))
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
            make_spec("mt_estan", encoder="mobilenet", alpha=0.25, width=0.0625),
            partial(keras.applications.MobileNet, alpha=0.25),
            keras.applications.mobilenet.preprocess_input,
            "conv_pw_13_relu",
        ),
        pytest.param(
            make_spec("mt_estan", width=0.0625, encoder="densenet121"),
            keras.applications.DenseNet121,
            keras.applications.densenet.preprocess_input,
            "relu",
            marks=pytest.mark.slow,
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
    file = imagenet_weights(backbone, SHARED)
    reference = application(include_top=False, weights=file, input_shape=(64, 64, 3))
    found = np.asarray(features(images))
    np.testing.assert_allclose(found, np.asarray(reference(preprocess(images.copy()))), atol=1e-4)
    assert np.abs(found).mean() > 0.01
    assert np.abs(found - at_random).mean() > 0.01
    head = {layer.name for layer in model.layers} - {layer.name for layer in reference.layers}
    assert not any(path.split("/")[0] in head for path in values)


PREPROCESSING = {
    "mobilenet": keras.applications.mobilenet,
    "densenet121": keras.applications.densenet,
    "resnet50": keras.applications.resnet50,
    "vgg16": keras.applications.vgg16,
    "xception": keras.applications.xception,
    "inceptionv3": keras.applications.inception_v3,
}


def pretrained(spec: RunSpec, folder: Path) -> keras.Model:
    """The network with the pretrained weights that lie in the folder."""
    model = zoo.build(spec)
    by_path = {variable.path: variable for variable in model.weights}
    for path, value in weights.pretrained_values(model, spec, folder).items():
        by_path[path].assign(value)
    return model


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory) -> Callable[[str], Path]:
    """A file like the one that Keras downloads for a backbone, written once for this module."""
    folder = tmp_path_factory.mktemp("downloaded")
    return functools.cache(lambda backbone: write_pretrained(backbone, folder))


@pytest.fixture
def read_once(monkeypatch):
    """A file is read once for all networks on its backbone: building that takes what is slow here."""
    monkeypatch.setattr(weights, "load_application", functools.cache(weights.load_application))


def features(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the classifier's head pools."""
    return np.asarray(keras.Model(model.input, model.get_layer("class_pool").input)(images))


def assert_close(found: np.ndarray, reference: np.ndarray) -> None:
    assert found.std() > 0
    np.testing.assert_allclose(found, reference, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("backbone", [pytest.param(name, marks=pytest.mark.slow) for name in PREPROCESSING])
def test_features_are_keras_own_from_the_file_that_it_downloads(backbone, downloaded):
    path = downloaded(backbone)
    spec = network_spec(backbone, scaling="imagenet", weights="imagenet")
    model = pretrained(spec, path.parent)
    builder = getattr(keras.applications, APPLICATIONS[backbone].builder)
    reference = builder(include_top=False, weights=path, input_shape=model.input_shape[1:])
    images = random_images(model)
    assert_close(
        features(model, images), np.asarray(reference(PREPROCESSING[backbone].preprocess_input(images.copy())))
    )


@pytest.mark.parametrize("ours", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_efficientnet_sees_what_keras_feeds_it_from_its_file(ours, tmp_path, monkeypatch):
    """Keras adds a division by the root of the standard deviations, but only to weights that it fetches itself."""
    from keras.src.applications import efficientnet

    path = write_pretrained("efficientnetb0", tmp_path, ours)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(path))
    reference = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(64, 64, 3))
    model = pretrained(network_spec("efficientnetb0", scaling="imagenet", weights="imagenet"), tmp_path)
    images = random_images(model)
    assert_close(features(model, images), np.asarray(reference(images)))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["xception", "inceptionv3"])
def test_layers_without_names_find_their_weights_in_either_format(backbone, tmp_path):
    spec = network_spec(backbone, weights="imagenet")
    found = []
    for ours in (False, True):
        folder = tmp_path / f"{ours}"
        folder.mkdir()
        keras.layers.Conv2D(1, 1)  # shifts the numbers by which Keras names the layers that follow
        write_pretrained(backbone, folder, ours)
        model = zoo.build(spec)
        found.append(weights.pretrained_values(model, spec, folder))
        head = {path for path in (w.path for w in model.weights) if path.startswith(("class_", "malignancy"))}
        assert set(found[-1]) | head == {w.path for w in model.weights}
    assert set(found[0]) == set(found[1])
    for path in found[0]:
        np.testing.assert_array_equal(found[0][path], found[1][path])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenet", "efficientnetb0", "densenet121", "resnet50", "vgg16"])
def test_every_network_on_a_backbone_takes_its_weights(backbone, downloaded, read_once):
    folder = downloaded(backbone).parent
    variants = []
    for entry in zoo.NETWORKS.values():
        for encoder in entry.options["encoder"].choices if "encoder" in entry.options else ("",):
            options = {"encoder": encoder, "width": 0.0625} if encoder else {}
            if entry.backbone_of(options) == backbone and entry.name != backbone:
                variants.append((entry.name, options))
    assert len(variants) >= 1
    expected: dict[str, np.ndarray] = {}
    for name, options in [(backbone, {}), *variants]:
        spec = network_spec(name, options, weights="imagenet")
        model = zoo.build(spec)
        values = weights.pretrained_values(model, spec, folder)
        assert set(values) <= {variable.path for variable in model.weights}
        expected = expected or values
        assert set(values) == set(expected), name
    assert len(expected) > 10


def test_a_network_without_pretrained_part_says_so(tmp_path):
    spec = network_spec("vakanski", {"topology": "published"}, scaling="unit")
    with pytest.raises(WeightsError, match=r"vakanski has no pretrained part.*random"):
        weights.pretrained_values(zoo.build(spec), spec, tmp_path)


def test_weights_that_do_not_find_their_layers_are_an_error(downloaded):
    folder = downloaded("mobilenet").parent
    spec = network_spec("mobilenet", weights="imagenet")
    model = zoo.build(spec)
    part = keras.Model(model.input, model.get_layer("conv_pw_12_relu").output)
    with pytest.raises(WeightsError, match=r"mobilenet.*no layer 'conv_dw_13'"):
        weights.pretrained_values(part, spec, folder)
    narrow = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(64, 64, 3))
    with pytest.raises(WeightsError, match=r"'conv1' with weights \[\(3, 3, 3, 32\)\]"):
        weights.pretrained_values(narrow, spec, folder)


@pytest.mark.slow
def test_layers_without_names_beside_those_of_the_backbone_are_an_error(downloaded):
    folder = downloaded("xception").parent
    spec = network_spec("xception", weights="imagenet")
    model = zoo.build(spec)
    more = keras.Model(model.input, keras.layers.Conv2D(2, 1)(model.get_layer("class_pool").input))
    with pytest.raises(WeightsError, match="5 Conv2D layers without a name of their own, and its backbone 4"):
        weights.pretrained_values(with_stable_names(more), spec, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "scaling"), [(False, "imagenet"), (True, "raw255")])
@pytest.mark.parametrize("backbone", ["convnexttiny", "efficientnetv2b0", "efficientnetv2s"])
def test_what_came_since_sees_what_keras_feeds_it_from_either_file(backbone, ours, scaling, tmp_path):
    """They scale inside; ConvNeXt is built of plain layers here, and of models and a layer of its own by Keras."""
    path = write_pretrained(backbone, tmp_path, ours)
    builder = getattr(keras.applications, APPLICATIONS[backbone].builder)
    reference = builder(include_top=False, weights=None, input_shape=(64, 64, 3))
    reference.load_weights(path)
    model = pretrained(network_spec(backbone, scaling=scaling, weights="imagenet"), tmp_path)
    images = random_images(model)
    assert_close(features(model, images), np.asarray(reference(images)))


def radimagenet(images: np.ndarray) -> np.ndarray:
    """What the released training script makes of RGB of 0-255: Keras's `caffe`, then divided by 255."""
    return keras.applications.imagenet_utils.preprocess_input(images.copy(), mode="caffe") / 255


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "last", "networks"),
    [
        ("resnet50", "conv5_block3_out", {"resnet50": {}, "mt_estan": {"width": 0.0625}, "linear_probe_resnet50": {}}),
        ("densenet121", "relu", {"densenet121": {}}),
        ("inceptionv3", "mixed10", {"inceptionv3": {}}),
    ],
)
def test_radimagenets_features_are_those_of_its_file_with_its_own_scaling(
    backbone, last, networks, downloaded, tmp_path, read_once
):
    # RadImageNet's files are like those that Keras downloads.
    path = shutil.copy(downloaded(backbone), tmp_path / APPLICATIONS[backbone].radimagenet)
    builder = getattr(keras.applications, APPLICATIONS[backbone].builder)
    size = network_spec(backbone).training.input_size
    reference = builder(include_top=False, weights=path, input_shape=(size, size, 3))
    for network, options in networks.items():
        model = pretrained(network_spec(network, options, weights="radimagenet", scaling="radimagenet"), tmp_path)
        images = random_images(model)
        found = np.asarray(keras.Model(model.input, model.get_layer(last).output)(images))
        assert_close(found, np.asarray(reference(radimagenet(images))))


def test_radimagenets_files_are_named_where_they_are_missing_damaged_or_of_another_network(offline, tmp_path):
    folder = tmp_path / "own"
    name = APPLICATIONS["resnet50"].radimagenet
    with pytest.raises(WeightsError) as caught:
        radimagenet_weights("resnet50", folder)
    for word in (name, str(folder), str(offline), "no such folder", "github.com/BMEII-AI/RadImageNet"):
        assert word in str(caught.value)
    with pytest.raises(WeightsError, match=r"mobilenet.*only for densenet121, resnet50, inceptionv3"):
        radimagenet_weights("mobilenet", folder)
    folder.mkdir()
    (folder / name).write_bytes(b"\x89HDF damaged")
    spec = network_spec("resnet50", weights="radimagenet", scaling="radimagenet")
    with pytest.raises(WeightsError, match=f"{name} is damaged"):
        weights.pretrained_values(zoo.build(spec), spec, folder)
    narrow = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3))
    narrow.save(folder / name)
    with pytest.raises(WeightsError, match=f"{name} is damaged, or does not hold the weights of resnet50"):
        weights.load_application("resnet50", radimagenet_weights("resnet50", folder))
