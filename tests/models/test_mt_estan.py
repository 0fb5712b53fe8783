"""MT-ESTAN: totals, taps, width, serialization without this package, gradients of every variable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from built_networks import trainable_parameters

from bus_mlops.models import weights, zoo
from bus_mlops.models.mt_estan import TAPS
from bus_mlops.testing.networks import check_network, check_onnx, network_spec, random_images

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "densenet121")]
ENCODERS = ["mobilenet", *SLOW]


def test_it_has_the_released_codes_total():
    """Here at 256 px; test_zoo.py counts at the paper's 224."""
    model = zoo.build(network_spec("mt_estan", input_size=256))
    assert (model.count_params(), trainable_parameters(model)) == (55_980_162, 55_925_122)
    assert model.output["mask"].shape == (None, 256, 256, 1)
    # The class head pools the fused bridge, 2,048 channels at stride 16, not the encoder's end.
    assert model.get_layer("class_pool").input.shape == (None, 16, 16, 2048)
    assert [model.get_layer(f"class_dense_{number}").units for number in (1, 2)] == [512, 128]


# Kernels of the square branch, the row-column branch and the fusing convolution, as the specification lists them.
BLOCKS = {
    1: (32, [(1, 1), (3, 3)], [(1, 15), (15, 1), (3, 3)], (5, 5)),
    2: (64, [(3, 3), (3, 3)], [(1, 13), (13, 1), (3, 3)], (5, 5)),
    3: (128, [(3, 3), (3, 3)], [(1, 11), (11, 1), (1, 1)], (3, 3)),
    4: (256, [(3, 3), (3, 3)], [(1, 9), (9, 1), (3, 3)], (1, 1)),
    5: (512, [(3, 3), (3, 3)], [(3, 7), (7, 3), (3, 3)], (1, 1)),
}
# Channels that each up block joins: late tap (or the bridge), early tap, after the upsampling, and last of all.
JOINS = {1: (2048, 512, 512), 2: (768, 256, 256), 3: (384, 128, 128), 4: (128, 96, 64)}


def test_blocks_are_those_of_the_specification():
    model = zoo.build(network_spec("mt_estan"))
    for number, (n, square, rowcol, fuse) in BLOCKS.items():
        name = f"estan{number}"
        kernels = {
            "square": [model.get_layer(f"{name}_square_{i}").kernel_size for i in (1, 2)],
            "rowcol": [model.get_layer(f"{name}_{part}").kernel_size for part in ("row", "column", "rowcol")],
        }
        assert kernels == {"square": square, "rowcol": rowcol}, name
        assert model.get_layer(f"{name}_fuse").kernel_size == fuse
        assert model.get_layer(f"{name}_fuse").filters == n
        assert any(layer.name == f"{name}_square_bn" for layer in model.layers) == (number < 5)
    for number, (late, early, estan) in JOINS.items():
        assert model.get_layer(f"up{number}_a").input.shape[-1] == late
        assert model.get_layer(f"up{number}_early").output.shape[-1] == early
        assert model.get_layer(f"up{number}_estan").output.shape[-1] == estan
    assert [model.get_layer(f"up{number}_b").kernel_size for number in (1, 2, 3, 4)] == [(1, 1)] * 3 + [(5, 5)]
    assert model.get_layer("up4_skip").output.shape[-1] == 64


@pytest.mark.parametrize("encoder", ENCODERS)
def test_taps_have_the_strides_that_the_decoder_needs_and_imagenet_fills_the_encoder(encoder, imagenet_weights: Path):
    spec = network_spec("mt_estan", {"width": 0.0625, "encoder": encoder}, input_size=128)
    model = zoo.build(spec)
    for stage in range(5):
        for name in (TAPS[encoder].early[stage], TAPS[encoder].late[stage]):
            assert model.get_layer(name).output.shape[1] == 128 // 2 ** (stage + 1), (encoder, name)
    if encoder != "resnet50":  # whose weights are not in ../shared/weights
        values = weights.pretrained_values(model, spec, imagenet_weights)
        assert (
            sum(value.size for value in values.values()) == {"mobilenet": 3_228_864, "densenet121": 7_037_504}[encoder]
        )


def test_every_trainable_variable_learns():
    """With the other encoders each layer does, as the contract of networks asks."""
    import tensorflow as tf

    model = zoo.build(network_spec("mt_estan", {"width": 0.0625, "encoder": "mobilenet"}))
    rng = np.random.default_rng(0)
    with tf.GradientTape() as tape:
        outputs = model(random_images(model), training=True)
        # Unequal weights on pixels and cases, so that no gradient cancels by symmetry.
        loss = tf.reduce_sum(outputs["mask"] * rng.uniform(size=(2, 64, 64, 1)))
        loss += tf.reduce_sum(outputs["malignancy"] * np.array([[1.0], [-0.5]]))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(np.asarray(gradient)).all(), variable.path
        assert np.abs(np.asarray(gradient)).max() > 0, variable.path


def test_width_scales_everything_but_the_encoder():
    full, narrow = (zoo.build(network_spec("mt_estan", {"width": width})) for width in (1.0, 0.25))
    for layer in full.layers:
        other = narrow.get_layer(layer.name)
        if hasattr(layer, "filters") and layer.name.startswith(("estan", "up", "bridge")):
            assert other.filters * 4 == layer.filters, layer.name
        elif layer.name.startswith("conv"):
            assert other.output.shape == layer.output.shape
    assert narrow.get_layer("class_dense_1").units == 128
    assert narrow.count_params() == 27_347_970


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        ({"width": 0.0625, "encoder": "mobilenet"}, "unit"),
        pytest.param({"width": 0.0625}, "imagenet", marks=pytest.mark.slow),
        pytest.param({"width": 0.0625, "encoder": "densenet121"}, "imagenet", marks=pytest.mark.slow),
    ],
)
def test_it_keeps_the_contract_of_networks(options, scaling):
    check_network("mt_estan", options, onnx=False, scaling=scaling, batch_norm_momentum=0.8)


@pytest.mark.slow
def test_a_saved_network_loads_without_this_package(tmp_path):
    model = zoo.build(network_spec("mt_estan", {"width": 0.0625, "encoder": "mobilenet"}))
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, sys; m = keras.saving.load_model('model.keras', compile=False, safe_mode=True); "
        "assert 'bus_mlops' not in sys.modules; print(m.count_params())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(model.count_params()), done.stderr


@pytest.mark.slow
def test_onnx_agrees(export_process):
    check_onnx(zoo.build(network_spec("mt_estan", {"width": 0.0625, "encoder": "mobilenet"})), export_process)
