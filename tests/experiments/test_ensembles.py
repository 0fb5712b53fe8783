"""Ensembles of rows: planned from what others train, averaged from what is recorded, without training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from bus_mlops.config import Config
from bus_mlops.errors import ConfigError, EvaluationError
from bus_mlops.evaluation.results import check_collected, read_plans, read_predictions
from bus_mlops.evaluation.tables import strategy_table
from bus_mlops.experiments.collect import collect
from bus_mlops.experiments.ensembles import averaged, joint_fingerprint
from bus_mlops.experiments.plan import StrategyPlan, make_plans, unique_specs
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.strategies import STRATEGIES
from bus_mlops.files import write_json
from bus_mlops.project import parse_config
from bus_mlops.spec import LedgerKey
from bus_mlops.testing.strategies import check_strategy

DIGESTS = "0" * 64, "1" * 64
MEMBERS = ["multitask/mobilenet_multitask", "approaches/mt_estan", "since_the_paper/linear_probe_mobilenet"]


@pytest.fixture
def values(demo_values: dict[str, Any]) -> dict[str, Any]:
    demo_values["networks"] |= {"linear_probe_mobilenet": {}}
    demo_values["strategies"] = [*demo_values["strategies"], "since_the_paper"]
    demo_values["strategy_settings"]["since_the_paper"] = {"ensembles": {"three": MEMBERS}}
    return demo_values


def plan_of(config: Config) -> StrategyPlan:
    return make_plans(config)["since_the_paper"]


def predictions(fold: int, seed: int) -> pd.DataFrame:
    """Of one run, on eight test and four validation images."""
    rng = np.random.default_rng([fold, seed])
    return pd.DataFrame(
        {
            "fold": fold,
            "part": ["test"] * 8 + ["validation"] * 4,
            "image_id": [f"busi/{fold}-{number}" for number in range(12)],
            "case_id": [f"busi/{fold}-{number}" for number in range(12)],
            "source": "busi",
            "label": [0, 1] * 6,
            "group": range(12),
            "probability": rng.uniform(size=12),
            "dice": rng.uniform(size=12),
            "iou": 0.5,
        }
    )


def test_an_ensemble_is_a_row_whose_trainings_are_those_of_its_members(values):
    config = parse_config(values)
    check_strategy(STRATEGIES["since_the_paper"], config)
    plans = make_plans(config)
    probe, row = plans["since_the_paper"].rows
    assert (row.model, row.paper) == ("Ensemble three", None)
    assert row.variant.startswith("Mean of MobileNet Multi, from scratch + MT-ESTAN")
    assert [each.spec.network for each in row.members] == ["mobilenet_multitask", "mt_estan", "linear_probe_mobilenet"]
    values["strategy_settings"]["since_the_paper"] = {}
    without = make_plans(parse_config(values))
    assert len(unique_specs(plans)) == len(unique_specs(without))
    assert without["since_the_paper"].rows == (probe,)


def test_a_profile_may_have_ensembles_alone(values):
    values["networks"].pop("linear_probe_mobilenet")
    values["strategy_settings"]["since_the_paper"] = {"ensembles": {"two": MEMBERS[:2]}}
    assert [row.model for row in plan_of(parse_config(values)).rows] == ["Ensemble two"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (MEMBERS[:1], "two rows or more"),
        ([MEMBERS[0], MEMBERS[0]], "none twice"),
        (["mt_estan", MEMBERS[0]], "STRATEGY/NETWORK"),
        ([MEMBERS[0], "tuned-focal/mt_estan"], "'tuned-focal' is not among the strategies"),
        ([MEMBERS[0], "approaches/mobilenet"], "which is 0 rows .* approaches/mt_estan/Multi"),
        ([MEMBERS[0], "approaches/estan"], "only draws masks"),
        ([MEMBERS[0], "losses/mobilenet/BCE, from scratch"], "and this table is on busi, busis"),
        ([MEMBERS[0], "losses/mobilenet"], "must be one"),
    ],
)
def test_members_that_cannot_be_averaged_are_named(values, members, message):
    values["strategy_settings"]["since_the_paper"] = {"ensembles": {"wrong": members}}
    with pytest.raises(ConfigError, match=rf"ensembles\.wrong.*{message}"):
        make_plans(parse_config(values))


def test_more_seeds_than_a_member_has_would_need_trainings(values):
    values["strategy_settings"]["since_the_paper"]["seeds"] = 9
    with pytest.raises(ConfigError, match=r"trained with \d seeds, and this table has 9"):
        make_plans(parse_config(values))


def test_the_mean_is_that_of_each_image_whatever_the_order_of_the_lines():
    frames = [predictions(1, seed) for seed in range(3)]
    mean = averaged([frames[0], frames[1].sample(frac=1, random_state=0), frames[2]], "Ensemble three")
    expected = np.mean([frame.set_index("image_id")["probability"] for frame in frames], axis=0)
    by_image = mean.set_index("image_id")["probability"]
    np.testing.assert_allclose(by_image[frames[0]["image_id"]], expected)
    assert set(mean["part"]) == {"test", "validation"}  # thresholds come from averaged validation predictions
    assert mean["dice"].isna().all()
    assert joint_fingerprint(["a", "b"]) == joint_fingerprint(["b", "a"]) != joint_fingerprint(["a", "c"])


def test_members_with_other_images_in_a_part_are_refused():
    other = predictions(1, 1)
    other.loc[8, "part"] = "test"  # validated there, tested here
    with pytest.raises(EvaluationError, match=r"Ensemble three, fold 1: its members have other images"):
        averaged([predictions(1, 0), other], "Ensemble three")


def test_what_is_collected_is_a_row_like_all_others_with_the_runs_that_it_rests_on(values, tmp_path: Path):
    plan = plan_of(parse_config(values))
    probe, row = plan.rows
    runs: dict[LedgerKey, str] = {}
    recorded: dict[str, pd.DataFrame] = {}
    for number, part in enumerate(row.parts):
        for spec, folds in plan.trainings(part):
            for fold in folds:
                run = f"run-{number}-{fold}-{spec.seed}"
                runs[LedgerKey(spec.fingerprint(*DIGESTS), fold)] = run
                recorded[run] = predictions(fold, number)
    curve = pd.DataFrame([{"epoch": 1, "loss": 1.0, "validation_loss": 1.0, "validation_roc_auc": 0.5}])
    ledger = SimpleNamespace(
        predictions=lambda run: recorded[run].copy(),
        curves=lambda run: curve.copy(),
        artifact_digests=lambda run: {},
        experiment="1",
    )
    runner = cast(Runner, SimpleNamespace(ledger=ledger, digests=lambda spec: DIGESTS, benchmark=None))
    collect(runner, plan, runs, tmp_path / "predictions")

    write_json(tmp_path / "plan" / "since_the_paper.json", plan.model_dump(mode="json"))
    plans = read_plans(tmp_path / "plan")
    check_collected(tmp_path / "predictions", plans)
    frame = read_predictions(tmp_path / "predictions" / "since_the_paper.parquet")
    own = frame[(frame["model"] == row.model) & (frame["fold"] == 2) & (frame["part"] == "test")]
    expected = np.mean([predictions(2, number)["probability"][:8] for number in range(3)], axis=0)
    np.testing.assert_allclose(own["probability"], expected)
    table = strategy_table(frame, plans["since_the_paper"])
    assert list(table["model"]) == [probe.model, row.model]
    assert table["network"].iloc[1] == "ensemble"
    assert table["roc_auc_mean"].notna().all()
    assert [each.ensemble for each in plans["since_the_paper"]] == [False, True]
