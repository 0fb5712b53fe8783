"""EMT-Net, SHA-MTL, Vakanski and ESTAN: totals of every form, their structure, serialization, gradients, ONNX."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from built_networks import trainable_parameters

from bus_mlops.errors import RegistryError
from bus_mlops.models import weights, zoo
from bus_mlops.packaging.onnx_export import export_onnx
from bus_mlops.testing.networks import check_built_network, check_entry, check_onnx, network_spec, random_images
from bus_mlops.training.initialization import reset_weights

# Parameters of all layers and those that training changes, from the specification.
TOTALS = {
    ("emt_net", "upsampling"): (5_108_650, 5_085_274),
    ("emt_net", "transposed"): (5_107_146, 5_084_266),
    ("sha_mtl", "mask_gate"): (8_274_790, 8_188_206),
    ("sha_mtl", "supervision"): (8_209_254, 8_122_670),
    ("vakanski", "table3"): (27_314_626, 27_301_314),
    ("vakanski", "published"): (7_919_970, 7_914_082),
    ("estan", 1.0): (26_992_385, 26_990_465),
}
OPTION = {"emt_net": "decoder", "sha_mtl": "hard_attention", "vakanski": "topology", "estan": "width"}
# One form of each that is quick to run; ESTAN is narrow, but not so narrow that all filters of a layer may be dead.
QUICK = [("emt_net", "upsampling"), ("vakanski", "published"), ("estan", 0.25)]
REST = [("emt_net", "transposed"), ("sha_mtl", "mask_gate"), ("sha_mtl", "supervision"), ("vakanski", "table3")]
EVERY = [*QUICK, *(pytest.param(*form, marks=pytest.mark.slow) for form in REST)]
Build = Callable[[str, Any], keras.Model]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Each form once for this module, at 64 px, its weights as at the start of a cell."""

    @functools.cache
    def built(name: str, form: Any) -> keras.Model:
        model = zoo.build(network_spec(name, {OPTION[name]: form}, scaling="unit", dropout=0.25))
        reset_weights(model, 1)
        return model

    yield built
    built.cache_clear()


@pytest.mark.parametrize(
    ("name", "form"), [pytest.param(*f, marks=pytest.mark.slow if f[0] == "sha_mtl" else ()) for f in TOTALS]
)
def test_totals_are_those_of_the_specification(build, name, form):
    model = build(name, form)
    assert (model.count_params(), trainable_parameters(model)) == TOTALS[name, form]
    assert zoo.entry(name).options[OPTION[name]].default == next(f for n, f in TOTALS if n == name)


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_it_keeps_the_contract_of_networks(build, name, form):
    spec = network_spec(name, {OPTION[name]: form}, scaling="unit", dropout=0.25)
    check_entry(zoo.entry(name))
    check_built_network(spec, build(name, form))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [("emt_net", "upsampling"), ("sha_mtl", "mask_gate"), ("vakanski", "published")]
)
def test_onnx_agrees(build, export_process, name, form):
    check_onnx(build(name, form), export_process)


@pytest.mark.slow
def test_onnx_of_masks_alone_agrees_but_makes_no_package(build, tmp_path):
    import onnxruntime

    model = build("estan", 0.25)
    images = random_images(model, 3)
    expected = np.asarray(model(images)["mask"])
    model.save(tmp_path / "model.keras")
    with pytest.raises(RegistryError, match="'malignancy'"):
        export_onnx(tmp_path / "model.keras", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["mask"], {"image": images})
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("form", ["upsampling", "transposed"])
def test_emt_net_doubles_from_mobilenets_end_to_the_image(build, form):
    model = build("emt_net", form)
    joins = [model.get_layer(f"up{number}_join") for number in range(1, 6)]
    assert [join.output.shape[1] for join in joins] == [4, 8, 16, 32, 64]
    assert [join.input[0].shape[-1] for join in joins] == [128, 64, 32, 16, 8]
    assert [join.input[1].shape[-1] for join in joins] == [512, 256, 128, 64, 3]
    assert model.get_layer("up1_up").input.shape == (None, 2, 2, 1024)
    heads = {"upsampling": [512, 64], "transposed": [128]}
    dense = [layer.units for layer in model.layers if layer.name.startswith("class_dense")]
    assert dense == heads[form]
    assert model.get_layer("class_dropout").rate == 0.25


@pytest.mark.slow
def test_sha_mtl_gates_four_skips_softly(build):
    model = build("sha_mtl", "mask_gate")
    joins = [model.get_layer(f"up{number}_join") for number in range(1, 5)]
    assert [join.output.shape[1:] for join in joins] == [(4, 4, 256), (8, 8, 128), (16, 16, 64), (32, 32, 32)]
    skips = [model.get_layer(f"up{number}_gate_multiply").input[0].shape[-1] for number in range(1, 5)]
    assert skips == [1024, 512, 256, 64]
    attention = keras.Model(model.input, model.get_layer("up2_gate_psi").output)(random_images(model))
    assert attention.shape == (2, 8, 8, 1)
    assert 0 < np.min(attention) < np.max(attention) < 1
    assert model.get_layer("class_dense_1").input.shape == (None, 2048)


def test_the_mask_gate_loads_without_this_package(tmp_path):
    """It is made of Keras's operations, which are layers of no class of ours."""
    from bus_mlops.models.sha_mtl import masked_mean

    features, mask = keras.Input((2, 2, 5)), keras.Input((64, 64, 1))
    keras.Model([features, mask], masked_mean(features, mask)).save(tmp_path / "model.keras")
    code = (
        "import keras, sys; m = keras.saving.load_model('model.keras', compile=False, safe_mode=True); "
        "assert 'bus_mlops' not in sys.modules; print(m.output_shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(None, 5)", done.stderr


def test_the_mask_gate_is_the_mean_of_the_features_over_the_lesion():
    from bus_mlops.models.sha_mtl import masked_mean

    features, mask = keras.Input((2, 3, 5)), keras.Input((64, 96, 1))
    model = keras.Model([features, mask], masked_mean(features, mask))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 3, 5)).astype(np.float32)
    masks = rng.uniform(size=(3, 64, 96, 1)).astype(np.float32)
    masks[1, :, 32:] *= 0.49  # a lesion in the first column of cells only
    masks[2] *= 0.49  # no lesion at all
    found = np.asarray(model([values, masks]))
    lesion = (masks >= 0.5).astype(np.float64)
    pixels = values.repeat(32, axis=1).repeat(32, axis=2)
    for image in (0, 1):
        expected = (pixels[image] * lesion[image]).sum((0, 1)) / lesion[image].sum()
        np.testing.assert_allclose(found[image], expected, atol=1e-4)
    np.testing.assert_array_equal(found[2], 0)


@pytest.mark.slow
def test_with_supervision_the_class_sees_the_plain_mean_only(build):
    assert build("sha_mtl", "supervision").get_layer("class_dense_1").input.shape == (None, 1024)


@pytest.mark.slow
def test_no_gradient_of_the_class_reaches_the_masks_decoder(build):
    import tensorflow as tf

    model = build("sha_mtl", "mask_gate")
    decoder = [variable for variable in model.trainable_variables if variable.path.startswith(("up", "mask"))]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_images(model), training=True)["malignancy"])
    gradients = tape.gradient(loss, [variable.value for variable in decoder])
    assert len(decoder) > 50
    assert gradients == [None] * len(decoder)


def test_vakanski_as_published(build):
    model = build("vakanski", "published")
    pools = [model.get_layer(f"enc{number}_pool") for number in (2, 3, 4, 5)]
    assert [pool.output.shape[1:] for pool in pools] == [(32, 32, 32), (16, 16, 64), (8, 8, 128), (4, 4, 256)]
    assert model.get_layer("class_pool").input.shape == (None, 4, 4, 512)
    assert [model.get_layer(f"class_dense_{number}").units for number in (1, 2)] == [256, 64]
    assert [model.get_layer(name).rate for name in ("class_dropout", "class_dropout_2")] == [0.25, 0.25]
    assert model.get_layer("mask_logit").kernel_size == (3, 3)
    assert isinstance(model.get_layer("up4_up"), keras.layers.Conv2DTranspose)


def test_vakanski_of_table_3_has_vgg16s_plan_and_a_bridge(build):
    model = build("vakanski", "table3")
    convolutions = [layer for layer in model.layers if layer.name.startswith("enc") and layer.name.endswith("_conv")]
    assert [layer.filters for layer in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 3 + [512] * 4
    assert [model.get_layer(f"up{number}_2_conv").filters for number in (4, 3, 2, 1)] == [512, 256, 128, 64]
    assert not any(isinstance(layer, keras.layers.Conv2DTranspose) for layer in model.layers)
    assert model.get_layer("mask_logit").kernel_size == (1, 1)


def test_estan_alone_taps_both_encoders_at_every_stride(build):
    model = build("estan", 1.0)
    assert set(model.output) == {"mask"}
    assert model.get_layer("bridge").output.shape == (None, 4, 4, 1024)
    for number, n in enumerate((32, 64, 128, 256), start=1):
        side = 64 // 2 ** (number - 1)
        assert [tuple(part.shape[1:]) for part in model.get_layer(f"up{number}_second").input] == [(side, side, n)] * 2
        assert [tuple(part.shape[1:]) for part in model.get_layer(f"up{number}_first").input] == [(side, side, n)] * 3


@pytest.mark.parametrize(
    ("name", "backbone"), [("emt_net", "mobilenet"), pytest.param("sha_mtl", "densenet121", marks=pytest.mark.slow)]
)
def test_imagenet_weights_fill_the_whole_backbone(build, name, backbone, imagenet_weights: Path):
    model = build(name, "upsampling" if name == "emt_net" else "mask_gate")
    values = weights.pretrained_values(model, network_spec(name, weights="imagenet"), imagenet_weights)
    parameters = {"mobilenet": 3_228_864, "densenet121": 7_037_504}
    assert sum(value.size for value in values.values()) == parameters[backbone]
    paths = {variable.path: tuple(variable.shape) for variable in model.weights}
    assert all(paths[path] == value.shape for path, value in values.items())
