"""One program, many cells: a reused program gives what a fresh process gives, to the last bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.errors import NetworkError
from bus_mlops.spec import RunSpec
from bus_mlops.training.fit import CellData, fit
from bus_mlops.training.program import Batch, Program

ROOT = Path(__file__).parents[2]


def cells(network: str) -> dict[str, tuple[RunSpec, int]]:
    """Cells of one program that differ in everything that a program can change between cells."""
    slow = {"optimizer": {"name": "adam", "learning_rate": 1e-4}, "batch_size": 7}
    loss = {"loss": {"positive_weight": 3.0, "classification_weight": 1.5, "mask_weight": 0.5}}
    loss["augmentation"] = {"zoom": 0.2, "shear": 15, "width_shift": 0.1}
    return {
        "a": (make_spec(network), 11),
        "b": (make_spec(network, augmentation={}, **slow), 12),
        "c": (make_spec(network, **loss), 11),
    }


def train(program: Program, spec: RunSpec, seed: int) -> str:
    """Train a cell on 40 images; a digest of losses, probabilities and masks."""
    data = make_data(40, spec.training.input_size)
    index = np.arange(40)
    result = fit(program, spec, CellData(data.images, data.labels, index[:27], index[27:34], data.masks), seed=seed)
    probability, masks = program.predict(data.images, index)
    digest = hashlib.sha256(probability.tobytes())
    digest.update(b"" if masks is None else masks.tobytes())
    digest.update(repr([(log["loss"], log["validation_loss"]) for log in result.history]).encode())
    return digest.hexdigest()


def digests(network: str, names: str, **variables: str) -> list[str]:
    """The digests of these cells, trained one after the other in one program of a process of its own."""
    code = (
        "from bus_mlops.training.process import configure_process; configure_process(1); "
        "import sys; sys.path[:0] = ['tests/training', 'tests/helpers']; import test_program as t; "
        "from bus_mlops.models import zoo; from small_cells import SMALL; zoo.register(SMALL); "
        f"cells = t.cells({network!r}); program = t.Program(cells['a'][0]); "
        f"print(*(t.train(program, *cells[name]) for name in {names!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-len(names) :]


def test_a_reused_program_equals_a_fresh_one():
    given = cells("small")
    program = Program(given["a"][0])
    first = {name: train(program, *given[name]) for name in "abc"}
    again = {name: train(program, *given[name]) for name in "cab"}
    assert again == first
    assert len(set(first.values())) == 3
    assert train(Program(given["c"][0]), *given["c"]) == first["c"]


def test_a_reused_program_equals_a_fresh_process_whatever_the_users_settings_are(tmp_path):
    a, b, c, *again = digests("small", "abcab")
    assert again == [a, b]
    assert len({a, b, c}) == 3
    (tmp_path / "keras.json").write_text('{"image_data_format": "channels_first", "epsilon": 0.001}')
    users = {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--xla_cpu_enable_fast_math=true", "KERAS_HOME": str(tmp_path)}
    assert digests("small", "c", **users) == [c]


@pytest.mark.slow
def test_the_order_of_cells_and_of_processes_does_not_matter_to_masks_either():
    a, b, c = digests("mt_estan", "abc")
    assert len({a, b, c}) == 3
    assert digests("mt_estan", "cba") == [c, b, a]


def test_pretrained_weights_are_restored_for_every_cell(imagenet_weights):
    program = Program(make_spec(weights="imagenet"), weights_folder=imagenet_weights)

    def start(spec: RunSpec, seed: int) -> dict[str, np.ndarray]:
        program.reset(spec, seed)
        return {weight.path: np.array(weight) for weight in program.model.weights}

    pretrained, scratch = make_spec(weights="imagenet"), make_spec()
    first = start(pretrained, 1)
    random = start(scratch, 1)
    train(program, scratch, 5)
    again, other = start(pretrained, 1), start(pretrained, 2)
    for path, value in first.items():
        np.testing.assert_array_equal(again[path], value)
        if "conv_pw" in path and path.endswith("kernel") and "bn" not in path:
            np.testing.assert_array_equal(other[path], value)
            assert np.abs(random[path] - value).max() > 0
        if "class_dense" in path and path.endswith("kernel"):
            np.testing.assert_array_equal(random[path], value)
            assert np.abs(other[path] - value).max() > 0


def test_nothing_is_traced_twice_and_every_parameter_counts():
    spec = make_spec("small", epochs=1)
    program = Program(spec)
    digests = {train(program, spec, 3)}
    for loss in (
        {"positive_weight": 4},
        {"positive_weight": 4, "classification_weight": 2},
        {"kind": "focal"},
        {"kind": "focal", "gamma": 4},
        {"kind": "focal", "gamma": 4, "alpha": 0.8},
    ):
        digests.add(train(program, make_spec("small", loss=loss, epochs=1), 3))
    digests.add(train(program, make_spec("small", epochs=1, augmentation={}, batch_size=5), 3))
    assert len(digests) == 7
    assert program._train_step.experimental_get_tracing_count() == 1
    assert program._predict_step.experimental_get_tracing_count() == 1


def test_a_network_that_only_segments_learns_from_dice_and_has_no_probability():
    spec, data, index = make_spec("small_mask", epochs=3), make_data(12, 64), np.arange(12)
    program = Program(spec)
    result = fit(program, spec, CellData(data.images, data.labels, index[:8], index[8:], data.masks), seed=1)
    probability, masks = program.predict(data.images, index)
    assert np.isnan(probability).all()
    assert masks is not None
    y, q = data.masks[8:].astype(np.float64), masks[8:].astype(np.float64)
    dice = 1 - (2 * (y * q).sum() + 1) / (y.sum() + q.sum() + 1)
    assert result.best_validation_loss == pytest.approx(dice, abs=1e-3)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(np.isnan(log["validation_roc_auc"]) for log in result.history)
    # Labels play no part.
    other = fit(program, spec, CellData(data.images, 1 - data.labels, index[:8], index[8:], data.masks), seed=1)
    assert [log["loss"] for log in other.history] == [log["loss"] for log in result.history]


@pytest.mark.parametrize(
    "other",
    [
        make_spec("small", input_size=64),
        make_spec("small", dropout=0.1),
        make_spec("small", scaling="unit"),
        make_spec("mt_estan"),
        make_spec("small", optimizer={"name": "sgd", "learning_rate": 1e-3}),
    ],
)
def test_a_program_refuses_a_cell_of_another(other):
    with pytest.raises(NetworkError, match="cannot run"):
        _program().reset(other, 0)


def test_momentum_is_part_of_the_program_of_sgd():
    fast, slow = (make_spec("small", optimizer={"name": "sgd", "momentum": momentum}) for momentum in (0.5, 0.9))
    with pytest.raises(NetworkError, match=r'"momentum": 0\.9.*"momentum": 0\.5'):
        Program(slow).reset(fast, 0)


def test_each_step_has_a_draw_of_its_own_and_each_cell_too():
    program, data = _program(), make_data(8, 32)
    batch = Batch(data.images[..., None], data.labels.astype(np.float32))

    def loss(seed: int, step: int) -> float:
        program.reset(make_spec("small"), 0)
        program._seed.assign(seed)
        return float(program.train_batch(batch, step))

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(seed, step) for seed in (0, 1) for step in (0, 1)}) == 4
    program.reset(make_spec("small"), 7)
    assert int(program._seed) == 7


def test_gray_is_the_same_as_three_equal_channels():
    program = _program()
    program.reset(make_spec("small"), 0)
    gray = make_data(40, 32).images
    colour = np.repeat(gray[..., None], 3, axis=-1)
    index = np.arange(40)
    np.testing.assert_array_equal(program.predict(gray, index).probability, program.predict(colour, index).probability)
    batches = [Batch(images[:8], np.ones(8, np.float32)) for images in (gray[..., None], colour)]
    losses = []
    for batch in batches:
        program.reset(make_spec("small"), 0)
        losses.append(float(program.train_batch(batch, 0)))
    assert losses[0] == losses[1]


def test_predictions_come_in_the_order_asked_for_and_from_a_memory_map(tmp_path):
    program = _program()
    program.reset(make_spec("small"), 0)
    data = make_data(70, 32)
    np.save(tmp_path / "images.npy", data.images)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    order = np.random.default_rng(0).permutation(70)
    straight = program.predict(data.images, np.arange(70)).probability
    np.testing.assert_allclose(program.predict(images, order).probability, straight[order], atol=1e-6)
    assert program.predict(images, np.arange(0)).probability.shape == (0,)
    assert straight.dtype == np.float32
    assert ((straight >= 0) & (straight <= 1)).all()


def test_a_saved_network_predicts_the_same_and_holds_no_optimizer(tmp_path):
    import keras

    spec = make_spec("small_multitask", epochs=1)
    program = Program(spec)
    program.reset(spec, 1)
    path = tmp_path / "models" / "model.keras"
    program.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["model.keras"]
    loaded = keras.saving.load_model(path, safe_mode=True)
    assert getattr(loaded, "optimizer", None) is None
    images = make_data(5, 64).images
    ours = program.predict(images, np.arange(5))
    theirs = loaded(np.repeat(images[..., None], 3, axis=-1).astype(np.float32))
    np.testing.assert_allclose(ours.probability, np.asarray(theirs["malignancy"])[:, 0], atol=1e-5)
    assert ours.masks is not None
    assert ours.masks.dtype == np.float16
    np.testing.assert_allclose(ours.masks, np.asarray(theirs["mask"])[..., 0], atol=1e-3)


_kept: list[Program] = []


def _program() -> Program:
    """One small program for the tests that leave no trace in it."""
    if not _kept:
        _kept.append(Program(make_spec("small")))
    return _kept[0]
