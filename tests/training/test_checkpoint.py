"""A training that was cut off goes on after its last whole epoch and ends as if nothing had happened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from small_cells import make_data, make_spec

from bus_mlops.errors import TrainingError
from bus_mlops.training.checkpoint import Checkpoint, sweep
from bus_mlops.training.fit import CellData, FitResult, fit
from bus_mlops.training.program import Program
from bus_mlops.training.state import EpochLog, FitState

EPOCHS = 6
IDENTITY = {"fingerprint": "f", "threads": "1"}


class CutOffError(Exception):
    """In place of a power cut."""


def train(program, spec, checkpoint, cut_after=0) -> FitResult:
    """Train a cell with a checkpoint after each epoch."""
    data = make_data(40, spec.training.input_size)
    state, index = checkpoint.load(program), np.arange(40)

    def on_epoch(log: EpochLog) -> None:
        checkpoint.save(program, state)
        if log.epoch == cut_after:
            raise CutOffError

    cell = CellData(data.images, data.labels, index[:27], index[27:34], data.masks)
    return fit(program, spec, cell, seed=5, on_epoch=on_epoch, state=state)


def outcome(program, spec, result):
    """All numbers that a training ends with, to the last bit: weights, losses, probabilities, masks."""
    found = program.predict(make_data(40, spec.training.input_size).images, np.arange(40))
    curve = [(log["loss"], log["validation_loss"], log["validation_roc_auc"]) for log in result.history]
    return [*program.state(), *program.snapshot(), np.array(curve), found.probability, found.masks]


@pytest.fixture(scope="module")
def nadam() -> Program:
    return Program(make_spec("small", optimizer={"name": "nadam"}))


@pytest.mark.parametrize(
    ("network", "optimizer", "rate"),
    [("small", "nadam", 1.0), pytest.param("mt_estan", "adam", 2e-2, marks=pytest.mark.slow)],
)
def test_it_ends_bit_identical_wherever_it_was_cut(tmp_path, network, optimizer, rate, request):
    given = {"optimizer": {"name": optimizer, "learning_rate": rate}}
    spec, other = make_spec(network, epochs=EPOCHS, **given), make_spec(network, epochs=1, **given)
    program = request.getfixturevalue("nadam") if optimizer == "nadam" else Program(spec)
    whole = train(program, spec, Checkpoint(tmp_path / "whole.npz", IDENTITY))
    expected = outcome(program, spec, whole)
    assert whole.best_epoch < EPOCHS, "choose a rate at which the best epoch is not the last"

    # Of the large one, with masks, only where the best epoch is behind: an epoch of it takes seconds.
    early = set() if network == "mt_estan" else {1, whole.best_epoch, EPOCHS}
    for cut in sorted({whole.best_epoch + 1, *early}):
        checkpoint = Checkpoint(tmp_path / f"{cut}.npz", IDENTITY)
        with pytest.raises(CutOffError):
            train(program, spec, checkpoint, cut_after=cut)
        train(program, other, Checkpoint(tmp_path / f"other-{cut}.npz", {}))  # as another process would leave it
        resumed = train(program, spec, checkpoint)
        assert resumed.best_epoch == whole.best_epoch
        assert resumed.seconds > sum(log["seconds"] for log in resumed.history)
        for ours, theirs in zip(outcome(program, spec, resumed), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_rate_that_falls_goes_on_falling_and_no_cell_hears_of_another(tmp_path, nadam):
    """Epochs of their own length, a plateau, the last epoch kept: cut off, with another such cell on the program."""
    rate = {"name": "nadam", "learning_rate": 2e-2}
    plateau = {"patience": 1, "factor": 0.1, "minimum": 1e-3, "min_delta": 9}  # no epoch but the first is better
    spec = make_spec("small", epochs=4, optimizer=rate, plateau=plateau, steps_per_epoch=1, kept_epoch="last")
    other = make_spec("small", epochs=3, optimizer=rate, plateau={**plateau, "factor": 0.5}, steps_per_epoch=1)
    assert spec.program_key() == other.program_key() == nadam.spec.program_key()
    alone = outcome(nadam, other, train(nadam, other, Checkpoint(tmp_path / "alone.npz", IDENTITY)))
    whole = train(nadam, spec, Checkpoint(tmp_path / "whole.npz", IDENTITY))
    assert float(nadam.optimizer.learning_rate) == pytest.approx(1e-3)
    assert whole.best_epoch == int(nadam.optimizer.iterations) == 4  # a step each
    expected = outcome(nadam, spec, whole)

    checkpoint = Checkpoint(tmp_path / "cut.npz", IDENTITY)
    with pytest.raises(CutOffError):
        train(nadam, spec, checkpoint, cut_after=2)
    between = outcome(nadam, other, train(nadam, other, Checkpoint(tmp_path / "other.npz", IDENTITY)))
    resumed = outcome(nadam, spec, train(nadam, spec, checkpoint))
    for ours, theirs in zip([*resumed, *between], [*expected, *alone], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_refit_that_has_no_validation_goes_on_too(tmp_path):
    spec, data, index = make_spec("small", epochs=3), make_data(20, 32), np.arange(20)
    program, checkpoint = Program(spec), Checkpoint(tmp_path / "refit.npz", IDENTITY)

    def run(state: FitState) -> np.ndarray:
        fit(program, spec, CellData(data.images, data.labels, index, None), seed=1, state=state, on_epoch=save(state))
        return program.predict(data.images, index).probability

    def save(state: FitState):
        return lambda log: checkpoint.save(program, state) if log.epoch == 2 else None

    whole = run(FitState())
    state = checkpoint.load(program)
    assert len(state.history) == 2
    assert np.isnan(state.history[0].validation_loss)
    np.testing.assert_array_equal(run(state), whole)


@pytest.fixture(scope="module")
def trained() -> tuple[Program, FitState]:
    spec, data, index = make_spec("small", epochs=1), make_data(8, 32), np.arange(8)
    program, state = Program(spec), FitState()
    fit(program, spec, CellData(data.images, data.labels, index, index), seed=1, state=state)
    return program, state


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: b"", "cannot be read"),
        (lambda data: b"garbage" * 1000, "cannot be read"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:50_000] + bytes(1000) + data[51_000:], "cannot be read"),
    ],
    ids=["empty", "garbage", "half", "hole"],
)
def test_a_spoilt_file_is_named(tmp_path, trained, harm, words):
    path = tmp_path / "cell.npz"
    Checkpoint(path, IDENTITY).save(*trained)
    assert len(Checkpoint(path, IDENTITY).load(trained[0]).history) == 1
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(TrainingError, match=rf"cell\.npz {words}"):
        Checkpoint(path, IDENTITY).load(trained[0])


def test_a_file_of_something_else_is_not_gone_on_from(tmp_path, trained):
    program, state = trained
    path = tmp_path / "cell.npz"
    Checkpoint(path, IDENTITY).save(program, state)
    with pytest.raises(TrainingError, match="is of threads 1, not 2"):
        Checkpoint(path, {**IDENTITY, "threads": "2"}).load(program)
    with pytest.raises(TrainingError, match="other shapes"):
        Checkpoint(path, IDENTITY).load(
            Program(make_spec("small", dropout=0.0, optimizer={"name": "sgd", "momentum": 0.0}))
        )


def test_a_spoilt_file_costs_one_epoch(tmp_path, trained):
    program, state = trained
    path = tmp_path / "cell.npz"
    checkpoint = Checkpoint(path, IDENTITY)
    checkpoint.save(program, state)
    later = replace(state, history=[*state.history, replace(state.history[0], epoch=2)])
    checkpoint.save(program, later)
    assert len(Checkpoint(path, IDENTITY).load(program).history) == 2
    path.write_bytes(path.read_bytes()[:-100])
    assert len(checkpoint.load(program).history) == 1
    assert "cell.npz cannot be read" in checkpoint.damage
    path.unlink()  # as of a process killed between two renames
    assert len(checkpoint.load(program).history) == 1
    assert checkpoint.damage == ""
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_half_written_is_swept_away(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host, old = socket.gethostname(), time.time() - 4000
    kept = {f".a.npz.{host}-{os.getppid()}.npz", ".b.npz.elsewhere-7.npz", "c.npz", "c.npz.before"}
    swept = {".d.npz.abc.npz", ".d.npz.a-bc.npz", f".e.npz.{host}-{child.stdout.strip()}.npz", ".f.npz.elsewhere-8.npz"}
    for name in (*kept, *swept):
        (tmp_path / name).write_bytes(b"half")
    os.utime(tmp_path / ".f.npz.elsewhere-8.npz", (old, old))
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    sweep(tmp_path / "nowhere")
