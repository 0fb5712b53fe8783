"""keras-tuner proposes, cells of the ledger answer: what is tried, what a kill changes, and what ends a study."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from recorded_trials import RecordedRunner, plan_of

from bus_mlops import profiles
from bus_mlops.config.searches import Search
from bus_mlops.errors import BusMlopsError
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.project import parse_config
from bus_mlops.search import oracles
from bus_mlops.search.keras_tuner_engine import run_study
from bus_mlops.search.study import run_search
from bus_mlops.search.trials import Trials
from bus_mlops.spec import LedgerKey

SPEC = make_spec(parse_config(yaml.safe_load(profiles.text("paper"))), "mobilenet", "multitask")
SPEC = SPEC.model_copy(update={"cohort": ("busi",)})
HEAD: dict[str, Any] = {
    "dropout": {"low": 0.2, "high": 0.9, "step": 0.05},
    "optimizer.learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
    "batch_size": {"low": 8, "high": 64, "log": True},
}
FIRST = {"dropout": 0.3, "optimizer.learning_rate": 1e-5, "batch_size": 32}
LOSS: dict[str, Any] = {
    "augmentation.horizontal_flip": [True, False],
    "loss.kind": {"choices": ["cross_entropy", "focal"], "when": {"augmentation.horizontal_flip": True}},
    "loss.gamma": {"low": 1, "high": 5, "step": 0.5, "when": {"loss.kind": "focal"}},
}


def right(cell: Cell) -> int:
    """More dropout and more epochs are better."""
    training = cell.spec.training
    return min(80, 20 + round(40 * training.dropout) + training.epochs // 4)


def plan(space: dict[str, Any] = HEAD, first: dict[str, Any] | None = None, **settings: Any) -> SearchPlan:
    usual = {"engine": "keras-tuner", "sampler": "random", "trials": 6, "objective": "balanced_accuracy"}
    given = {path: FIRST[path] for path in space} if first is None else first
    return plan_of(SPEC, given, folds=(1, 2), space=space, **{**usual, **settings})


def study(runner: RecordedRunner, of: SearchPlan, fold: int = 1) -> Trials:
    return Trials(runner.as_runner, of, of.networks[0], fold)


def run(of: SearchPlan, runner: RecordedRunner | None = None, folder: Path | None = None) -> list[TrialRecord]:
    with tempfile.TemporaryDirectory() as new:
        return run_study(study(runner or RecordedRunner(right), of), folder or Path(new))


def of_run(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials without what was trained anew for them, which is what a kill changes."""
    return [trial.model_copy(update={"epochs": 0}) for trial in trials]


class Killed(BaseException):
    """Stands in for kill -9."""


@dataclass
class Mortal(RecordedRunner):
    """Is killed after so many cells; those before stay in the ledger."""

    lives: int = 0

    def run(self, cells: Sequence[Cell], name: str) -> dict[LedgerKey, str]:
        for cell in self.missing(cells):
            if self.lives == 0:
                raise Killed
            self.lives -= 1
            super().run([cell], name)
        return super().run(cells, name)


@pytest.mark.parametrize(("sampler", "trials", "paths"), [("random", 9, 3), ("bayesian", 7, 1), ("hyperband", 12, 3)])
def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path, sampler, trials, paths):
    of = plan(dict(list(HEAD.items())[:paths]), sampler=sampler, trials=trials, epochs=27)
    whole = RecordedRunner(right)
    expected = run(of, whole)
    mortal = Mortal(right)
    rng = random.Random(trials)
    kills = 0
    while True:
        mortal.lives = rng.randint(2, 5)
        try:
            found = run(of, mortal, tmp_path)
            break
        except Killed:
            kills += 1
    assert kills >= 1
    assert of_run(found) == of_run(expected)
    assert mortal.finished.keys() == whole.finished.keys()
    assert run(of, mortal, tmp_path) == found
    assert sum(trial.epochs for trial in run(of, mortal)) == 0
    assert expected[0].parameters == dict(list(FIRST.items())[:paths])
    assert expected[0].state == "complete"
    others = run(of.model_copy(update={"seed": 6}))
    assert [trial.parameters for trial in others[1:]] != [trial.parameters for trial in expected[1:]]


def test_studies_of_other_folds_propose_for_themselves(tmp_path):
    found = run_search(RecordedRunner(right).as_runner, plan(), tmp_path)
    of_fold = [[trial.parameters for trial in found.trials if trial.fold == fold] for fold in (1, 2)]
    assert of_fold[0][0] == of_fold[1][0] == FIRST
    assert not [each for each in of_fold[0][1:] if each in of_fold[1]]
    assert {path.suffix for path in tmp_path.iterdir()} == {".journal"}


def test_values_are_those_of_the_grid_whatever_keras_tuner_makes_of_them():
    space = {"dropout": HEAD["dropout"], "augmentation.horizontal_flip": [True, False]}
    of = plan(space=space, first={"dropout": 0.3, "augmentation.horizontal_flip": True}, trials=30)
    trials = run(of)
    grid = study(RecordedRunner(), of).space.grid()
    assert len(trials) == len(grid) == 30
    assert all(trial.parameters in grid for trial in trials)
    assert {str(trial.parameters) for trial in trials} == {str(each) for each in grid}  # True is no 1
    assert 0.9 in [trial.parameters["dropout"] for trial in trials]


def test_conditions_two_levels_deep_propose_what_applies():
    first = {"augmentation.horizontal_flip": True, "loss.kind": "focal", "loss.gamma": 2.0}
    found = {tuple(trial.parameters) for trial in run(plan(space=LOSS, first=first, trials=12, sampler="bayesian"))}
    names = tuple(LOSS)
    assert found == {names[:1], names[:2], names}


@pytest.mark.parametrize("sampler", ["random", "bayesian", "hyperband"])
def test_a_space_ends_a_study_that_wants_more(tmp_path, sampler):
    of = plan(space={"dropout": [0.1, 0.2, 0.3, 0.4]}, first={"dropout": 0.3}, sampler=sampler, trials=9)
    trials = study(RecordedRunner(right), of)
    found = run_study(trials, tmp_path)
    assert sorted(trial.parameters["dropout"] for trial in found) == [0.1, 0.2, 0.3, 0.4]
    assert "no more than these 4 of 9" in trials.stopped
    assert sum(trial.state == "complete" for trial in found) >= 2  # hyperband finishes its brackets
    alone = run(plan(space={"dropout": [0.3]}, first={"dropout": 0.3}, sampler=sampler))
    assert [trial.parameters for trial in alone] == [{"dropout": 0.3}]
    assert [trial.parameters for trial in run(plan(sampler=sampler, trials=1))] == [FIRST]


def test_hyperband_stops_the_worse_after_a_third_and_a_ninth():
    runner = RecordedRunner(right)
    found = run(plan(sampler="hyperband", trials=20, epochs=27), runner)
    assert [trial.number for trial in found] == list(range(20))
    # As docs/explanation/optuna-or-keras-tuner.md has it: 210 epochs, as each goes on from the one before.
    reached = Counter(cell.spec.training.epochs for cell in runner.finished.values())
    assert reached == {1: 10, 3: 9, 9: 6, 27: 6}
    assert Counter(trial.state for trial in found) == {"pruned": 14, "complete": 6}
    assert found[0].epochs == 27
    trained = sum(trial.epochs for trial in found)
    assert trained == sum(cell.spec.training.epochs for cell in runner.finished.values())
    assert trained < 20 * 27 / 2
    best = max(found, key=lambda trial: trial.parameters["dropout"])
    assert best.state == "complete"
    assert all("others were better after" in trial.reason for trial in found if trial.state == "pruned")


def test_hyperband_of_two_epochs_stops_nothing_and_says_so(caplog):
    found = run(plan(sampler="hyperband", trials=5, epochs=2))
    assert [trial.state for trial in found] == ["complete"] * 5
    assert "none is stopped early" in caplog.text


@pytest.mark.parametrize(("sampler", "trials"), [("random", 8), ("bayesian", 5), ("hyperband", 8)])
def test_a_trial_that_fails_is_replaced_and_failures_without_end_end_the_study(tmp_path, sampler, trials):
    def fails(cell: Cell) -> bool:
        return cell.spec.training.dropout > 0.6

    of = plan({"dropout": HEAD["dropout"]}, sampler=sampler, trials=trials, epochs=9)
    runner = RecordedRunner(right, fails)
    found = run(of, runner, tmp_path)
    trained = [cell.key for call in runner.asked for cell in call if cell.key not in runner.finished]
    assert len(trained) == len(set(trained)) > 0
    assert run(of, runner, tmp_path) == found
    assert [cell.key for call in runner.asked for cell in call if cell.key not in runner.finished] == trained
    failed = [trial for trial in found if trial.state == "failed"]
    assert failed
    assert all(trial.parameters["dropout"] > 0.6 and "diverged" in trial.reason for trial in failed)
    assert len(found) - len(failed) == trials
    nothing = RecordedRunner(right, lambda cell: True)
    with pytest.raises(BusMlopsError, match="runs of search tried failed"):
        run(of, nothing)
    assert sum(len(call) for call in nothing.asked) == 4
    with pytest.raises(BusMlopsError, match="runs of search tried failed"):
        run(of, RecordedRunner(right, lambda cell: cell.spec.training.dropout != 0.3))


def test_hyperband_puts_the_next_best_in_the_place_of_one_that_fails_later():
    def fails(cell: Cell) -> bool:
        return cell.spec.training.epochs > 1 and cell.spec.training.dropout > 0.7

    found = run(plan(sampler="hyperband", trials=20, epochs=27), RecordedRunner(right, fails))
    failed = [trial for trial in found if trial.state == "failed"]
    assert failed
    assert len(found) - len(failed) == 20
    assert all(trial.parameters["dropout"] > 0.7 for trial in failed)
    usual = run(plan(sampler="hyperband", trials=20, epochs=27))
    states = [[trial.state for trial in trials].count("complete") for trials in (found, usual)]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "tpe"}, "sampler of keras-tuner must be one of hyperband, bayesian, random but got 'tpe'"),
        ({"sampler": "grid"}, "must be one of hyperband, bayesian, random"),
        ({"objective": ["sensitivity", "specificity"], "constraint": {"sensitivity": 0.9}}, "are for engine optuna"),
        ({"constraint": {"sensitivity": 0.9}}, "are for engine optuna"),
        ({"pruning": {"epochs": "median"}}, "pruning is Optuna's"),
    ],
)
def test_what_keras_tuner_lacks_is_an_error_that_says_who_has_it(settings, message):
    with pytest.raises(ValueError, match=message):
        Search.model_validate(
            {"network": "vgg16", "strategy": "approaches", "space": HEAD, "engine": "keras-tuner", **settings}
        )


def test_an_objective_of_which_less_is_better_is_minimised():
    found = run(plan(sampler="hyperband", objective="brier", trials=12, epochs=9))
    best = max(found, key=lambda trial: trial.parameters["dropout"])
    assert best.state == "complete"


def test_the_process_is_scikit_learns_but_for_rounding():
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    rng = np.random.default_rng(0)
    points, asked = rng.random((12, 3)), rng.random((5, 3))
    values = points.sum(axis=1) + 0.1 * rng.random(12)
    ours = oracles._Process(kernel=kernels.Matern(nu=2.5), normalize_y=True, alpha=1e-4).fit(points, values)
    theirs = GaussianProcessRegressor.predict(ours, asked, return_std=True)
    for mine, their in zip(ours.predict(asked, return_std=True), theirs, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-9)


def test_tensorflow_waits_for_the_first_proposal():
    code = "import bus_mlops.search.keras_tuner_engine, sys; print({'tensorflow', 'keras_tuner'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
