"""Studies of any network and any path: which cells they ask for, and which images a choice rests on."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_trials import RecordedRunner, called_right, folds_frame, plan_of

from bus_mlops import profiles
from bus_mlops.config import Config, CrossEntropy, Focal
from bus_mlops.dataset.folds.assignment import TEST, TRAIN, VALIDATION
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import LeakageError
from bus_mlops.evaluation.searched import FLAT
from bus_mlops.experiments.strategies import STRATEGIES, make_spec
from bus_mlops.project import parse_config
from bus_mlops.search.study import digest_of_images, run_search
from bus_mlops.search.trials import Trials
from bus_mlops.spec import RunSpec

FOCAL = {"loss.kind": ["focal"], "loss.gamma": {"low": 1, "high": 5, "step": 0.5}, "loss.alpha": [0.25, 0.5, 0.8]}
SEARCHES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "the focal pair of MobileNet": ("mobilenet", FOCAL, {"loss.kind": "focal", "loss.gamma": 2.0, "loss.alpha": 0.8}),
    "learning rate and dropout of VGG16": (
        "vgg16",
        {"optimizer.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "dropout": [0.1, 0.3, 0.5]},
        {"optimizer.learning_rate": 1e-4, "dropout": 0.3},
    ),
    "the width of MT-ESTAN": ("mt_estan", {"options.width": [0.25, 0.5, 1.0]}, {"options.width": 0.25}),
}


@lru_cache
def paper() -> Config:
    return parse_config(yaml.safe_load(profiles.text("paper")))


def of_busi(network: str) -> RunSpec:
    return make_spec(paper(), network, "multitask").model_copy(update={"cohort": ("busi",)})


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_no_code_knows_of(tmp_path, name):
    network, space, first = SEARCHES[name]
    runner = RecordedRunner(right=lambda cell: 40 + int(cell.fingerprint[:4], 16) % 40)
    plan = plan_of(of_busi(network), first, space=space, trials=6, objective="balanced_accuracy")
    result = run_search(runner.as_runner, plan, tmp_path)
    assert [(choice.network, choice.fold) for choice in result.choices] == [(network, 1), (network, 2), (network, 3)]
    for fold in (1, 2, 3):
        own = [trial for trial in result.trials if trial.fold == fold]
        assert [trial.number for trial in own] == list(range(6))
        assert own[0].parameters == first
        assert all(trial.parameters.keys() == space.keys() for trial in own)
        best = max(own, key=lambda trial: (trial.values, -trial.number))
        assert result.choice(network, fold).best == best.number
    cells = [cell for call in runner.asked for cell in call]
    assert len({cell.fingerprint for cell in cells}) > 2
    assert all((cell.spec, cell.fold) in runner.forgotten for cell in cells)
    trials = Trials(runner.as_runner, plan, plan.networks[0], 1)
    for trial in result.trials:
        spec = trials.space.spec(trial.parameters)
        assert {
            cell.fold for cell in cells if cell.spec.training == spec.training and cell.spec.options == spec.options
        }


def test_a_grid_is_the_cells_of_table_6(tmp_path):
    strategy = STRATEGIES.get_known("losses")
    rows = [
        row for row in strategy.make_rows(paper(), strategy.settings_of(paper())) if row.spec.network == "mobilenet"
    ]
    plain = rows[0].spec
    runner = RecordedRunner(right=lambda cell: 60)
    losses = [row.spec.training.loss for row in rows]
    weights = sorted({loss.positive_weight for loss in losses if isinstance(loss, CrossEntropy)})
    gammas = sorted({loss.gamma for loss in losses if isinstance(loss, Focal)})
    alphas = sorted({loss.alpha for loss in losses if isinstance(loss, Focal)})
    space = {
        "loss.kind": ["cross_entropy", "focal"],
        "loss.positive_weight": {"choices": weights, "when": {"loss.kind": "cross_entropy"}},
        "loss.gamma": {"choices": gammas, "when": {"loss.kind": "focal"}},
        "loss.alpha": {"choices": alphas, "when": {"loss.kind": "focal"}},
    }
    first = {"loss.kind": "cross_entropy", "loss.positive_weight": weights[-1]}
    plan = plan_of(plain, first, space=space, sampler="grid", trials=None, folds=(1,), objective="balanced_accuracy")
    plan = plan.model_copy(update={"seed": plain.seed})
    result = run_search(runner.as_runner, plan, tmp_path)
    assert {cell.fingerprint for cell in runner.finished.values()} == {
        row.spec.fingerprint(*runner.digests(row.spec)) for row in rows
    }
    assert len(result.trials) == len(rows)
    assert result.trials[0].parameters == first


@st.composite
def assignments(draw: st.DrawFn) -> pd.DataFrame:
    """Grouped folds at random: cases of one or two images of either label, one or two cases a group."""
    folds = draw(st.integers(2, 4))
    places = draw(st.permutations(range(4 * folds)))
    rng = random.Random(draw(st.integers(0, 10**6)))
    rows = []
    for group, place in enumerate(places):
        parts = [TEST if place % folds == fold else rng.choice([TRAIN, TRAIN, VALIDATION]) for fold in range(folds)]
        for case in range(rng.randint(1, 2)):
            for label in (0, 1):
                name = f"busi/{group}-{case}-{label}"
                rows.append([name, "busi", label, f"busi/c{group}-{case}", f"g{group}", *parts])
    columns = ["image_id", "source", "label", "case_id", "group", *(f"fold_{fold + 1}" for fold in range(folds))]
    return pd.DataFrame(rows, columns=columns)


@settings(max_examples=12, deadline=None)
@given(frame=assignments(), inner=st.sampled_from([None, 2, 3]), seeds=st.integers(1, 2))
def test_no_image_behind_a_choice_is_tested_with_it_and_every_cell_is_only_tried(frame, inner, seeds):
    runner = RecordedRunner(right=lambda cell: 60, frame=frame)
    folds = [int(name.removeprefix("fold_")) for name in frame.columns if name.startswith("fold_")]
    network, space, first = SEARCHES["the width of MT-ESTAN"]
    plan = plan_of(of_busi(network), first, folds=folds, space=space, inner_folds=inner, seeds=seeds)
    for fold in folds:
        trials = Trials(runner.as_runner, plan, plan.networks[0], fold)
        behind = set(trials.images())
        tested = frame[frame[f"fold_{fold}"] == TEST]
        of_choice = frame[frame["image_id"].isin(behind)]
        assert len(of_choice)
        assert len(tested)
        for column in ("image_id", "case_id", "group"):
            assert not set(of_choice[column]) & set(tested[column])
        trials.evaluate({0: first, 1: {"options.width": 0.5}})
        used: set[str] = set()
        for cell in runner.asked[-1]:
            assert (cell.tried, cell.fold) == (True, fold)
            parts = parts_of(frame, cell.fold, cell.spec.cohort, cell.spec.training.validation, cell.spec.inner)
            used |= set(parts.index[parts.isin([TRAIN, VALIDATION])])
        assert used == behind
        assert len(runner.asked[-1]) == 2 * seeds * (inner or 1)


def test_a_choice_names_the_images_that_it_rests_on(tmp_path):
    frame = folds_frame()
    network, space, first = SEARCHES["the width of MT-ESTAN"]
    of_search: dict[str, Any] = {"space": space, "objective": "balanced_accuracy", "trials": 1}
    plan = plan_of(of_busi(network), first, **of_search)
    nested = run_search(RecordedRunner().as_runner, plan, tmp_path)
    rest = sorted(frame.loc[frame["fold_2"] != TEST, "image_id"])
    choice = nested.choice(network, 2)
    assert (choice.images, choice.image_count) == (digest_of_images(rest), len(rest))
    flat = plan_of(of_busi(network), first, nested=False, folds=(1, 2, 3), **of_search)
    flat = flat.model_copy(update={"settings": flat.settings.model_copy(update={"nested": False, "folds": (1, 2)})})
    result = run_search(RecordedRunner().as_runner, flat, tmp_path)
    assert [choice.fold for choice in result.choices] == [FLAT]
    assert result.choices[0].image_count == len(frame)


def test_a_network_that_predicts_no_number_is_a_failed_trial(tmp_path):
    network, space, first = SEARCHES["the width of MT-ESTAN"]

    class Diverging(RecordedRunner):
        def predictions(self, run_id: str) -> pd.DataFrame:
            frame = called_right(60)
            wide = [cell for cell in self.finished.values() if cell.spec.options["width"] == 1.0]
            return frame.assign(probability=float("nan")) if run_id in map(self.run_id, wide) else frame

    plan = plan_of(of_busi(network), first, folds=(1,), space=space, sampler="grid", trials=None)
    result = run_search(Diverging().as_runner, plan, tmp_path)
    states = {trial.parameters["options.width"]: trial.state for trial in result.trials}
    assert states == {0.25: "complete", 0.5: "complete", 1.0: "failed"}


def test_a_run_that_validated_on_test_images_ends_the_search(tmp_path):
    """What was read decides, not what was asked for."""
    network, space, first = SEARCHES["the width of MT-ESTAN"]
    frame = folds_frame()

    class Mixed(RecordedRunner):
        def predictions(self, run_id: str) -> pd.DataFrame:
            rows = called_right(60).head(len(frame))
            # The validation part of fold 3 is that of every run; it is tested in fold 1.
            return rows.assign(image_id=frame["image_id"])[(frame["fold_3"] == VALIDATION).to_numpy()]

    plan = plan_of(of_busi(network), first, folds=(3, 1), space=space, trials=1, objective="balanced_accuracy")
    with pytest.raises(LeakageError, match=r"tested in fold 1, for which the study tried-mt_estan-fold1"):
        run_search(Mixed().as_runner, plan, tmp_path)


def test_a_study_is_the_same_whichever_other_networks_are_searched():
    network, space, first = SEARCHES["the width of MT-ESTAN"]
    plan = plan_of(of_busi(network), first, space=space, trials=6)

    def study(**settings: Any) -> tuple[str, int]:
        changed = plan.model_copy(update={"settings": plan.settings.model_copy(update=settings)})
        trials = Trials(RecordedRunner().as_runner, changed, changed.networks[0], 1)
        return trials.name, trials.seed()

    assert study(network=(network, "vgg16"), trials=9) == study()
    assert study(sampler="random")[0] != study()[0]
