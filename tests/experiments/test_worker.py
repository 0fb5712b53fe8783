"""A training that diverges is FAILED with its epoch and keeps its last good checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_once import store_in
from small_cells import make_spec, small_in_the_zoo

from bus_mlops.errors import TrainingError
from bus_mlops.experiments.cell import Cell, CellEvent, Job
from bus_mlops.tracking.ledger import CURVES, MODEL, Ledger


@pytest.fixture
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with small_in_the_zoo(tmp_path_factory.mktemp("empty")):
        yield


@pytest.mark.usefixtures("_small")
def test_nan_in_the_third_epoch_leaves_the_checkpoint_of_the_best_one(tiny_data, empty_store, tmp_path):
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()

    from bus_mlops.experiments.programs import Programs
    from bus_mlops.experiments.worker import train_cell

    tracking = store_in(tmp_path, empty_store)
    ledger = Ledger(tracking)
    spec = make_spec("small", input_size=64, epochs=5)
    benchmark, folds = tiny_data / "data/benchmark", tiny_data / "data/folds/folds.csv"
    parent = ledger.parents.find_or_create(spec, "f" * 64, "title", {})
    cell = Cell(spec, 1, "f" * 64, parent, "title", "d" * 64, "e" * 64)
    programs = Programs()
    losses = []

    def poison(event: CellEvent) -> None:
        """A value that is not a number slips into the weights after the second epoch."""
        if event.kind == "epoch":
            losses.append(event.values["validation_loss"])
            if event.epoch == 2:
                assert programs.program is not None
                weight = programs.program.model.trainable_variables[-2]
                weight.assign(np.full(weight.shape, np.nan))

    job = Job(benchmark, folds, tracking, tmp_path / "checkpoints", None, threads=1, driver="test")
    with pytest.raises(TrainingError, match="epoch 3"):
        train_cell(cell, job, programs, ledger, poison)

    run = ledger.runs_of(cell.key)[0]
    best = 1 + int(np.argmin(losses))
    assert run.info.status == "FAILED"
    assert "diverged" in run.data.tags["ended"]
    assert "epoch 3" in run.data.tags["ended"]
    assert run.data.tags["checkpoint"] == f"{MODEL}, of epoch {best}"
    assert {item.path for item in ledger.client.list_artifacts(run.info.run_id)} == {MODEL, CURVES}
    assert len(ledger.curves(run.info.run_id)) == 2
    kept = keras.models.load_model(ledger.artifact(run.info.run_id, MODEL, tmp_path), compile=False)
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())
