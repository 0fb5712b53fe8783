"""The registry and its networks: exact parameter totals, options, serialization, gradients, ONNX."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bus_mlops.config import Training
from bus_mlops.errors import NetworkError
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.models import zoo
from bus_mlops.models.entry import Task

ROOT = Path(__file__).parents[2]


def spec(network: str, options: dict | None = None, **training: object) -> RunSpec:
    values = {"input_size": 64, "weights": "random", **training}
    return RunSpec(
        network=network,
        options=options or {},
        cohort=("busi",),
        task=zoo.entry(network).task,
        training=Training(**values),  # type: ignore[arg-type]
        seed=0,
    )


def trainable(model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def test_mobilenet_has_the_papers_total():
    model = zoo.build(spec("mobilenet", input_size=224))
    assert model.count_params() == 3_786_561
    assert trainable(model) == 3_764_673


@pytest.mark.parametrize("size", [224, 256])
def test_mt_estan_has_the_released_codes_total(size):
    model = zoo.build(spec("mt_estan", input_size=size))
    assert model.count_params() == 55_980_162
    assert trainable(model) == 55_925_122
    assert model.output["mask"].shape == (None, size, size, 1)
    # The class head pools the fused bridge, 2,048 channels at stride 16, not the encoder's end.
    assert model.get_layer("class_pool").input.shape == (None, size // 16, size // 16, 2048)


@pytest.mark.parametrize("encoder", ["resnet50", "mobilenet", "densenet121"])
def test_every_trainable_variable_of_mt_estan_learns(encoder):
    import tensorflow as tf

    model = zoo.build(spec("mt_estan", {"width": 0.0625, "encoder": encoder}))
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        # Unequal weights on pixels and cases, so that no gradient cancels by symmetry.
        loss = tf.reduce_sum(outputs["mask"] * rng.uniform(size=(2, 64, 64, 1)))
        loss += tf.reduce_sum(outputs["malignancy"] * np.array([[1.0], [-0.5]]))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(np.asarray(gradient)).all(), variable.path
        assert np.abs(np.asarray(gradient)).max() > 0, variable.path


def test_taps_have_the_strides_that_the_decoder_needs():
    from bus_mlops.models.mt_estan import TAPS

    for encoder, taps in TAPS.items():
        model = zoo.build(spec("mt_estan", {"width": 0.0625, "encoder": encoder}, input_size=128))
        for stage in range(5):
            for name in (taps.early[stage], taps.late[stage]):
                assert model.get_layer(name).output.shape[1] == 128 // 2 ** (stage + 1), (encoder, name)


def test_width_scales_everything_but_the_encoder():
    full, narrow = (zoo.build(spec("mt_estan", {"width": width})) for width in (1.0, 0.25))
    for layer in full.layers:
        other = narrow.get_layer(layer.name)
        if hasattr(layer, "filters") and layer.name.startswith(("estan", "up", "bridge")):
            assert other.filters * 4 == layer.filters, layer.name
        elif layer.name.startswith("conv"):
            assert other.output.shape == layer.output.shape
    assert narrow.get_layer("class_dense_1").units == 128
    assert narrow.count_params() == 27_347_970


@pytest.mark.parametrize(
    ("network", "options", "scaling"),
    [
        ("mobilenet", {}, "imagenet"),
        ("mt_estan", {"width": 0.0625}, "imagenet"),
        ("mt_estan", {"width": 0.0625, "encoder": "densenet121"}, "imagenet"),
        ("mt_estan", {"width": 0.0625, "encoder": "mobilenet"}, "unit"),
    ],
)
def test_a_saved_network_loads_without_custom_objects(tmp_path, network, options, scaling):
    import keras

    model = zoo.build(spec(network, options, scaling=scaling, batch_norm_momentum=0.8))
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    before, after = model(images), loaded(images)
    assert set(before) == set(after)
    for name in before:
        np.testing.assert_array_equal(np.asarray(before[name]), np.asarray(after[name]))
    norms = [layer for layer in loaded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert all(layer.momentum == 0.8 for layer in norms)


def test_a_saved_network_loads_without_this_package(tmp_path):
    model = zoo.build(spec("mt_estan", {"width": 0.0625}))
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, sys; m = keras.saving.load_model('model.keras', compile=False, safe_mode=True); "
        "assert 'bus_mlops' not in sys.modules; print(m.count_params())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(model.count_params()), done.stderr


def test_onnx_agrees_with_keras(tmp_path):
    import onnxruntime

    model = zoo.build(spec("mt_estan", {"width": 0.0625, "encoder": "mobilenet"}))
    images = np.random.default_rng(2).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    expected = model(images)  # also builds what export needs
    model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))
    assert set(results) == {"malignancy", "mask"}
    for name, values in results.items():
        np.testing.assert_allclose(values, np.asarray(expected[name]), atol=1e-4)


def test_the_registry_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys; from bus_mlops.models.zoo import NETWORKS, entry; assert NETWORKS; "
        "entry('mt_estan').title({}); print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_titles_spell_out_what_differs_from_the_paper():
    assert zoo.entry("mobilenet").title({}) == "MobileNet"
    assert zoo.entry("mt_estan").title({"width": 1.0, "encoder": "resnet50"}) == "MT-ESTAN"
    assert zoo.entry("mt_estan").title({"width": 0.25}) == "MT-ESTAN (width 0.25)"
    title = zoo.entry("mt_estan").title({"width": 0.25, "encoder": "mobilenet"})
    assert title == "MT-ESTAN (mobilenet, width 0.25)"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (spec("vgg99"), ("vgg99", "mobilenet", "mt_estan")),
        (spec("mt_estan", {"widht": 0.5}), ("widht", "width", "encoder")),
        (spec("mobilenet", {"width": 0.5}), ("width", "none")),
        (spec("mt_estan", {"width": 0.0}), ("width", "0.0625", "0.0")),
        (spec("mt_estan", {"width": "wide"}), ("width", "'wide'")),
        (spec("mt_estan", {"width": True}), ("width", "True")),
        (spec("mt_estan", {"encoder": "vgg16"}), ("encoder", "resnet50", "vgg16")),
        (spec("mt_estan", input_size=100), ("multiple of 32", "100")),
        (spec("mt_estan", input_size=32), ("64 or more", "32")),
        (spec("mt_estan").model_copy(update={"task": Task.CLASSIFICATION}), ("multitask", "classification")),
    ],
)
def test_what_cannot_be_built_is_an_error_that_says_what_can(wrong, words):
    with pytest.raises(NetworkError) as caught:
        zoo.build(wrong)
    for word in words:
        assert word in str(caught.value)


def test_resolve_fills_in_defaults():
    assert zoo.entry("mt_estan").resolve({"width": 1}) == {"width": 1.0, "encoder": "resnet50"}
    assert isinstance(zoo.entry("mt_estan").resolve({"width": 1})["width"], float)
    with pytest.raises(NetworkError, match="twice"):
        zoo.register(zoo.entry("mobilenet"))
