"""Cells of trials with a real network: no test image is looked at, nothing is trained twice, no number changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_once import store_in
from small_network import EXTENSION
from without_workers import WithoutWorkers

from bus_mlops.config import Training
from bus_mlops.dataset.folds.assignment import fold_columns
from bus_mlops.errors import RunError
from bus_mlops.experiments.cell import REFIT, Cell, CellEvent, Job
from bus_mlops.experiments.cohort_rows import cohort_rows
from bus_mlops.experiments.engines.base import OnEvent
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.runner import Runner
from bus_mlops.extensions import load_extensions
from bus_mlops.models import zoo
from bus_mlops.project import load_config
from bus_mlops.spec import Inner, LedgerKey, RunSpec, Task
from bus_mlops.tracking.ledger import CURVES, MODEL, PREDICTIONS, Ledger

FOLD = 1


class InPlace(WithoutWorkers):
    """An engine that trains in this process; `stop` may raise at an epoch."""

    def __init__(self, ledger: Ledger, job: Job, programs: Any, stop: Callable[[CellEvent], None]) -> None:
        self._ledger, self._job, self._programs, self._stop = ledger, job, programs, stop

    def run(self, cells: Sequence[Cell], on_event: OnEvent) -> dict[LedgerKey, CellEvent]:
        from bus_mlops.experiments.worker import train_cell

        def emit(event: CellEvent) -> None:
            on_event(event)
            self._stop(event)

        done = {}
        for cell in cells:
            try:
                done[cell.key] = train_cell(cell, self._job, self._programs, self._ledger, emit)
            except OSError as error:
                done[cell.key] = CellEvent("failed", *cell.key, message=str(error))
            on_event(done[cell.key])
        return done


@pytest.fixture(scope="module")
def programs() -> Any:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    from bus_mlops.experiments.programs import Programs

    return Programs()


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_store) -> Iterator[tuple[Any, Path]]:
    """A store for all tests, with an experiment for each runner; and a folder with a network of a few layers."""
    folder = tmp_path_factory.mktemp("tried")
    (folder / "extensions").mkdir()
    (folder / "extensions" / "small.py").write_text(EXTENSION)
    yield store_in(folder, empty_store), folder
    load_extensions(folder / "nothing")


@pytest.fixture
def start(place, programs, tiny_data, tmp_path, monkeypatch) -> Callable[..., Runner]:
    """A function that opens a runner on an experiment; runners of one experiment share its checkpoints."""
    tracking, folder = place
    monkeypatch.chdir(tiny_data)
    config = load_config(tiny_data / "params.yaml")
    load_extensions(folder / "extensions")  # in place of the project's, which were just loaded

    def run(name: str, stop: Callable[[CellEvent], None] = lambda _: None, folds: Path | None = None) -> Runner:
        own = tracking.model_copy(update={"experiment": f"{tmp_path.name} {name}"})
        data = tiny_data / "data"
        job = Job(
            *(data / "benchmark", folds or data / "folds/folds.csv", own, tmp_path / name, None),
            threads=1,
            driver="test",
            extensions=folder / "extensions",
        )
        ledger = Ledger(own)
        return Runner(config, ledger, InPlace(ledger, job, programs, stop), job)

    return run


def spec(epochs: int = 2, **values: Any) -> RunSpec:
    """A training whose best epoch is not its last: the rate is high."""
    training = {
        "input_size": 64,
        "weights": "random",
        "scaling": "unit",
        "batch_size": 4,
        "optimizer": {"name": "adam", "learning_rate": 3e-2},
        **values,
        "epochs": epochs,
    }
    return RunSpec(
        network="small",
        cohort=("busi",),
        task=Task.CLASSIFICATION,
        training=Training.model_validate(training),
        seed=3,
        code=zoo.entry("small").code,
    )


def run_one(runner: Runner, what: RunSpec, tried: bool = False) -> Any:
    """The run of one cell, trained, completed or found."""
    cells = runner.cells(what, [FOLD], "title", {}, tried=tried)
    (run_id,) = runner.run(cells, "test").values()
    return runner.ledger.client.get_run(run_id)


def content(runner: Runner, run: Any, folder: Path) -> dict[str, Any]:
    """All numbers that a run keeps: predictions as they are written, curves without their times, weights."""
    import keras

    names = (PREDICTIONS, CURVES, MODEL)
    files = {name: runner.ledger.artifact(run.info.run_id, name, folder) for name in names}
    return {
        "predictions": files[PREDICTIONS].read_text(),
        "curves": pd.read_csv(files[CURVES]).drop(columns="seconds").to_csv(),
        "weights": [w.tobytes() for w in keras.models.load_model(files[MODEL], compile=False).get_weights()],
    }


def prints(images: np.ndarray) -> set[str]:
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in images}


@pytest.fixture
def seen(monkeypatch) -> set[str]:
    """The digests of all images that any network is given, in training or not."""
    from bus_mlops.training.program import Program

    found: set[str] = set()
    train, forward = Program.train_batch, Program.forward

    def train_batch(self, batch, step):
        found.update(prints(batch.images))
        return train(self, batch, step)

    def see(self, images):
        found.update(prints(images))
        return forward(self, images)

    monkeypatch.setattr(Program, "train_batch", train_batch)
    monkeypatch.setattr(Program, "forward", see)
    return found


def images_of(runner: Runner, what: RunSpec, part: str) -> set[str]:
    cell = Cell(what, FOLD, "f", "p", "t", "d", "f")
    rows = cohort_rows(runner.benchmark, runner.folds, cell)[part]
    return prints(runner.benchmark.images(64)[rows][..., np.newaxis])


@pytest.mark.parametrize("inner", [None, Inner(fold=2, count=3)], ids=["fold", "inner fold"])
def test_no_test_image_is_given_to_the_network_of_a_trial(start, seen, inner):
    runner = start("one")
    what = spec().model_copy(update={"inner": inner})
    run = run_one(runner, what, tried=True)
    outer = spec()
    tested = images_of(runner, outer, "test")
    assert tested
    assert not seen & tested
    assert seen == images_of(runner, outer, "train") | images_of(runner, outer, "validation")
    assert set(runner.ledger.predictions(run.info.run_id)["part"]) == {"validation"}
    assert run.data.tags["kind"] == "tried"
    assert run.data.metrics["epochs_trained"] == 2
    assert "validation_best_roc_auc" in run.data.metrics
    assert "roc_auc" not in run.data.metrics
    assert runner.ledger.spec(run.info.run_id) == what
    parent = runner.ledger.client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert (parent.data.tags["folds_finished"], parent.data.tags["folds_tried"]) == ("", "1")


@pytest.mark.parametrize("fold", [FOLD, REFIT], ids=["fold", "refit"])
def test_no_image_of_an_external_source_is_given_to_any_network(start, seen, tiny_data, tmp_path, fold):
    """Neither to train, stop, calibrate or be cut on, nor to test: not even in a cohort that names the source."""
    frame = pd.read_csv(tiny_data / "data/folds/folds.csv")
    outside = frame["source"] == "busis"
    frame.loc[outside, fold_columns(frame)] = "external"
    path = tmp_path / "folds.csv"
    frame.to_csv(path, index=False)
    runner = start("outside", folds=path)
    what = spec(epochs=1).model_copy(update={"cohort": ("busi", "busis")})
    (run_id,) = runner.run(runner.cells(what, [fold], "title", {}), "test").values()
    images, rows = runner.benchmark.images(64), runner.benchmark.frame
    external = prints(images[np.flatnonzero(rows["source"] == "busis")][..., np.newaxis])
    assert external
    assert seen
    assert not seen & external
    if fold != REFIT:  # a refit predicts nothing
        assert not set(runner.ledger.predictions(run_id)["image_id"]) & set(frame.loc[outside, "image_id"])


def test_a_trial_that_is_completed_has_the_numbers_of_a_training_and_costs_none(start, seen, tmp_path, caplog):
    direct, tried = start("direct"), start("tried")
    whole = run_one(direct, spec())
    trial = run_one(tried, spec(), tried=True)
    assert trial.data.tags["fingerprint"] == whole.data.tags["fingerprint"]
    assert tried.ledger.finished() == {}
    assert tried.missing(tried.cells(spec(), [FOLD], "title", {}))

    seen.clear()
    caplog.set_level(logging.INFO)
    completed = run_one(tried, spec())
    assert "1 runs, 0 of them recorded already, 0 to train, 1 to complete from trials" in caplog.text
    assert seen == images_of(tried, spec(), "test") | images_of(tried, spec(), "validation")
    assert content(tried, completed, tmp_path) == content(direct, whole, tmp_path)
    assert completed.data.tags["completed_from"] == trial.info.run_id
    assert completed.data.metrics["epochs_trained"] == 0
    same = set(whole.data.metrics) - {"epochs_trained", "seconds_training", "images_per_second", "seconds"}
    assert {n: completed.data.metrics[n] for n in same} == {n: whole.data.metrics[n] for n in same}
    assert tried.ledger.epochs_trained([trial.info.run_id, completed.info.run_id]) == {
        trial.info.run_id: 2,
        completed.info.run_id: 0,
    }
    history = tried.ledger.client.get_metric_history(completed.info.run_id, "validation_loss")
    assert [m.step for m in history] == [1, 2]
    parent = tried.ledger.client.get_run(completed.data.tags["mlflow.parentRunId"])
    assert (parent.data.tags["folds_finished"], parent.info.status) == ("1", "FINISHED")

    # What is tested serves a trial, and of both in one call one run.
    seen.clear()
    assert run_one(tried, spec(), tried=True).info.run_id == completed.info.run_id
    both = [*tried.cells(spec(), [FOLD], "t", {}, tried=True), *tried.cells(spec(), [FOLD], "t", {})]
    assert tried.run(both, "both") == {both[0].key: completed.info.run_id}
    assert not seen


@pytest.mark.parametrize("harm", ["file", "machine"])
def test_a_trial_that_cannot_be_taken_is_trained_anew(start, tmp_path, monkeypatch, harm, caplog):
    from bus_mlops.training.program import Program

    caplog.set_level(logging.INFO)
    direct, tried = start("direct"), start("tried")
    expected = content(direct, run_one(direct, spec()), tmp_path)
    trial = run_one(tried, spec(), tried=True)
    tried.forget_states([(spec(), FOLD)])
    if harm == "file":
        path = Path(trial.info.artifact_uri.removeprefix("file://")) / MODEL
        path.write_bytes(path.read_bytes()[:-1])
    else:
        load = Program.load

        def differently(self, path) -> None:
            load(self, path)
            bias = self.model.weights[-1]
            bias.assign(bias.numpy() + 0.1)

        monkeypatch.setattr(Program, "load", differently)
    again = run_one(tried, spec())
    assert content(tried, again, tmp_path) == expected
    assert again.data.metrics["epochs_trained"] == 2
    assert "completed_from" not in again.data.tags
    reason = "model.keras is changed" if harm == "file" else "predict otherwise here than where they were trained"
    assert reason in again.data.tags["completed"]
    assert (
        f"trained anew, not completed from the trial: {again.data.tags['completed'].removeprefix('no: ')}"
        in caplog.text
    )


COURSES = {
    "plain": {},
    "plateau, steps, last epoch": {
        "plateau": {"patience": 1, "factor": 0.3, "min_delta": 9, "minimum": 1e-4},
        "steps_per_epoch": 2,
        "kept_epoch": "last",
    },
}


@pytest.mark.parametrize("course", COURSES, ids=str)
def test_a_longer_training_goes_on_from_a_shorter_ones_state_to_the_last_bit(start, tmp_path, course):
    values = COURSES[course]
    direct, rungs = start("direct"), start("rungs")
    expected = content(direct, run_one(direct, spec(5, **values)), tmp_path)
    counts = []
    for epochs, tried in ((2, True), (4, True), (3, True), (5, False)):
        run = run_one(rungs, spec(epochs, **values), tried=tried)
        counts.append((run.data.metrics["epochs_trained"], run.data.tags.get("resumed", "")))
    assert counts == [
        (2, ""),
        (2, "after epoch 2 of a shorter trial"),
        (1, "after epoch 2 of a shorter trial"),
        (1, "after epoch 4 of a shorter trial"),
    ]
    assert content(rungs, run, tmp_path) == expected
    history = rungs.ledger.client.get_metric_history(run.info.run_id, "loss")
    assert sorted(m.step for m in history) == [1, 2, 3, 4, 5]
    states = list((tmp_path / "rungs" / "states").iterdir())
    assert len(states) == 3
    assert [path for path in (tmp_path / "rungs").iterdir() if path.is_file()] == []
    rungs.forget_states([(spec(7, **values), FOLD)])
    assert list((tmp_path / "rungs" / "states").iterdir()) == []


def test_a_damaged_state_costs_its_epochs_and_a_cut_off_training_counts_its_own(start, tmp_path):
    direct = start("direct")
    expected = content(direct, run_one(direct, spec(5)), tmp_path)
    rungs = start("rungs")
    for epochs in (1, 2):
        run_one(rungs, spec(epochs), tried=True)
    (longest,) = (tmp_path / "rungs" / "states").glob("*-2.npz")
    longest.write_bytes(longest.read_bytes()[:1000])

    def cut_off(event: CellEvent) -> None:
        if event.kind == "epoch" and event.epoch == 4:
            raise OSError("a power cut")

    with pytest.raises(CellsFailedError):
        run_one(start("rungs", cut_off), spec(5))
    run = run_one(rungs, spec(5))
    assert run.data.tags["resumed"] == "after epoch 4"
    assert run.data.metrics["epochs_trained"] == 4  # all but the first, whichever attempt trained them
    assert content(rungs, run, tmp_path) == expected
    (failed,) = rungs.ledger.runs("attributes.status = 'FAILED'")
    assert "states" in failed.data.tags["resumed"]
    assert failed.data.tags["resumed"].startswith("after epoch 1 of a shorter trial; ")


def test_an_inner_fold_is_only_ever_tried(start):
    runner = start("inner")
    what = spec().model_copy(update={"inner": Inner(fold=1, count=2)})
    with pytest.raises(RunError, match="inner fold 1 of 2 divides what fold 1 trains and validates on"):
        runner.cells(what, [FOLD], "title", {})
    with pytest.raises(RunError, match="a refit has no validation part"):
        runner.cells(spec(), [REFIT], "title", {}, tried=True)
    assert runner.ledger.runs("") == []
    first, second = (runner.cells(what, [FOLD], "title", {}, tried=True)[0] for _ in range(2))
    assert first == second
    other = replace(first, spec=what.model_copy(update={"inner": Inner(fold=2, count=2)}))
    assert len({cell.seed for cell in (first, other, Cell(spec(), FOLD, "f", "p", "t", "d", "f"))}) == 3
