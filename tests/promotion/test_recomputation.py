"""Recorded predictions are compared with what the recorded networks answer, whatever the digests say."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from promotion_store import Store, fold_frame
from tiny_package import SIZE

from bus_mlops.consumer.client import BusModel, load_model
from bus_mlops.consumer.package_format import Calibration
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import RegistryError
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.gate.comparison import Lineage
from bus_mlops.packaging.onnx_export import load_network
from bus_mlops.promotion import recomputation
from bus_mlops.promotion.answers import ask
from bus_mlops.promotion.recomputation import TOLERANCE, recompute
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.spec import CellKey
from bus_mlops.tracking.ledger import MODEL


@dataclass
class Networks:
    """What a ledger knows of two runs: their networks."""

    members: list[Path]
    spec_: Any
    lost: str = ""

    def artifact_digests(self, run: str) -> dict[str, str]:
        return {} if run == self.lost else {MODEL: "0" * 64}

    def artifact(self, run: str, name: str, folder: Path) -> Path:
        return Path(shutil.copy(self.members[int(run)], folder / name))

    def spec(self, run: str) -> Any:
        return self.spec_


@pytest.fixture(scope="module")
def trained(recorded: Store, members) -> tuple[TrainedModel, Folds, Networks]:
    """A model whose predictions are those of its networks, on the images of the benchmark."""
    ids = recorded.benchmark.frame
    frame = fold_frame().iloc[: len(ids)].assign(image_id=ids["image_id"], case_id=ids["case_id"], label=ids["label"])
    frame["fold_1"] = ["test", "test", "train", "validation"]
    frame["fold_2"] = ["train", "validation", "test", "test"]
    folds = Folds.checked(frame.assign(group=ids["image_id"]), "folds")
    spec = make_spec(recorded.config, "mt_estan", "multitask", input_size=SIZE)
    spec = spec.model_copy(update={"cohort": ("busi",)})
    rows = []
    for fold, path in enumerate(members, 1):
        part = frame[frame[f"fold_{fold}"] != "train"]
        index = ids.set_index("image_id")["index"].reindex(part["image_id"]).to_numpy()
        images = np.repeat(recorded.benchmark.images(SIZE)[index][..., None], 3, axis=-1).astype(np.float32)
        answer = np.asarray(load_network(path)(images)["malignancy"])[:, 0]
        columns = ["image_id", "case_id", "source", "label"]
        rows.append(part[columns].assign(part=part[f"fold_{fold}"], fold=fold, seed=1, probability=answer))
    digest, split = digests_of(recorded.benchmark, folds, {"busi"}, "mt_estan")
    model = TrainedModel(
        title="MT-ESTAN",
        strategy="tuned",
        network="mt_estan",
        input_size=SIZE,
        fingerprints={CellKey(fold, 1): "f" for fold in (1, 2)},
        runs={CellKey(1, 1): "0", CellKey(2, 1): "1"},
        digests={},
        files={},
        predictions=pd.concat(rows, ignore_index=True),
        lineage=Lineage(digest, split),
    )
    return model, folds, Networks(members, spec)


def with_rows(model: TrainedModel, **columns: Any) -> TrainedModel:
    return replace(model, predictions=model.predictions.assign(**columns))


def test_the_networks_answer_what_was_recorded(trained, recorded, package_folder):
    model, folds, ledger = trained
    found = recompute(ledger, [model], folds, recorded.benchmark)
    assert (found.problems, found.unseen, found.runs, found.predicted, found.of) == ([], [], 2, 6, 6)
    assert found.greatest < 1e-5
    assert "6 of 6 predictions of 2 runs were predicted anew: the greatest difference is" in found.sentence
    # As consumers have them: the first member is asked about the images of its own run only.
    loaded = load_model(package_folder)
    package = loaded.package.model_copy(update={"lineage": {"run.fold_1": "0", "run.fold_2": "1"}})
    as_shipped = BusModel(package_folder, package)
    found = recompute(ledger, [model], folds, recorded.benchmark, as_shipped)
    assert (found.problems, found.predicted) == ([], 6)
    assert found.greatest < 1e-4
    swapped = package.model_copy(update={"lineage": {"run.fold_1": "1", "run.fold_2": "0"}})
    assert recompute(ledger, [model], folds, recorded.benchmark, BusModel(package_folder, swapped)).problems


def test_a_package_is_asked_as_a_consumer_asks_and_only_the_members_that_have_not_seen_an_image(
    trained, recorded, package_folder
):
    model, folds, _ = trained
    loaded = load_model(package_folder)
    calibrations = Calibration(slope=0.5, intercept=0.3), Calibration(slope=2.0, intercept=-1.0)
    members = [
        m.model_copy(update={"calibration": c}) for m, c in zip(loaded.package.members, calibrations, strict=True)
    ]
    described = {"lineage": {"run.fold_1": "0", "run.fold_2": "1"}, "members": tuple(members)}
    asked = BusModel(package_folder, loaded.package.model_copy(update=described))
    answers = ask(asked, model, folds, recorded.benchmark)
    assert answers.unasked == ""
    test = model.part("test")
    assert sorted(answers.frame["image_id"]) == sorted(test["image_id"])
    both = test.merge(answers.frame, on=["fold", "seed", "image_id"], suffixes=("", "_answered"))
    expected = [calibrations[fold - 1](p) for fold, p in zip(both["fold"], both["probability"], strict=True)]
    assert both["probability_answered"].tolist() == pytest.approx(expected, abs=1e-4)
    # The combination of several members is the mean of the same numbers, in every order of asking.
    image = np.asarray(recorded.benchmark.images(SIZE)[0])
    one, other, all_ = (asked.predict([image], members=places)[0] for places in ([0], [1], None))
    assert all_.members == (one.probability, other.probability)
    assert all_.probability == pytest.approx(np.mean([one.probability, other.probability]))
    for places in ([], [0, 0], [2], [-1]):
        with pytest.raises(RegistryError, match="has the members 0 to 1: it cannot answer with"):
            asked.predict([image], members=places)
    # With one member only its own fold can be asked; of other images, or of a refit, nothing.
    single = described | {"lineage": {"run.fold_2": "1"}, "members": tuple(members[1:])}
    answers = ask(BusModel(package_folder, loaded.package.model_copy(update=single)), model, folds, recorded.benchmark)
    assert (set(answers.frame["fold"]), answers.unasked) == ({2}, "it holds no network of fold 1")
    refitted = BusModel(package_folder, loaded.package.model_copy(update={"lineage": {"run.refit": "9", "run.x": "8"}}))
    assert ask(refitted, model, folds, recorded.benchmark).unasked == "it holds none of the networks of the folds"
    other = replace(model, lineage=replace(model.lineage, data_digest="e" * 64))
    assert "are not those of the runs" in ask(asked, other, folds, recorded.benchmark).unasked


@pytest.mark.parametrize("row", range(6))
def test_a_single_forged_prediction_is_named(trained, recorded, row):
    model, folds, ledger = trained
    forged = model.predictions["probability"].to_numpy().copy()
    forged[row] += 2 * TOLERANCE if forged[row] < 0.5 else -2 * TOLERANCE
    found = recompute(ledger, [with_rows(model, probability=forged)], folds, recorded.benchmark, full=True)
    (problem,) = found.problems
    assert f"{model.predictions['image_id'][row]} is recorded with {forged[row]:.4f}, and its network" in problem


def test_labels_parts_and_images_are_looked_up(trained, recorded):
    model, folds, ledger = trained
    frame = model.predictions
    assert (
        "is recorded as label"
        in recompute(ledger, [with_rows(model, label=1 - frame["label"])], folds, recorded.benchmark).problems[0]
    )
    swapped = frame["part"].map({"test": "validation", "validation": "test"})
    found = recompute(ledger, [with_rows(model, part=swapped)], folds, recorded.benchmark)
    assert "of the validation part, and is label" in found.problems[0]
    cut = replace(model, predictions=frame.iloc[1:])
    assert f"{frame['image_id'][0]} is not recorded" in recompute(ledger, [cut], folds, recorded.benchmark).problems[0]
    twice = replace(model, predictions=pd.concat([frame, frame.iloc[:1]]))
    assert "recorded twice" in recompute(ledger, [twice], folds, recorded.benchmark).problems[0]


def test_what_was_not_predicted_anew_is_said(trained, recorded):
    model, folds, ledger = trained
    found = recompute(ledger, [model], folds, None)
    assert found.sentence.startswith("not predicted anew: the assembled images are not here")
    other = replace(model, lineage=Lineage("e" * 64, model.lineage.folds_digest))
    assert "are not those of the runs (eeeeeeeeeeee)" in recompute(ledger, [other], folds, recorded.benchmark).sentence
    found = recompute(replace(ledger, lost="1"), [model], folds, recorded.benchmark)
    assert (found.runs, found.unseen) == (1, [f"run 1 (MT-ESTAN, fold 2) has no {MODEL}"])


def test_a_sample_is_drawn_anew_each_time(trained, recorded, monkeypatch):
    model, folds, ledger = trained
    monkeypatch.setattr(recomputation, "SAMPLE", 1)
    forged = model.predictions["probability"].to_numpy().copy()
    forged[0] = 1 - forged[0]
    found = [recompute(ledger, [with_rows(model, probability=forged)], folds, recorded.benchmark) for _ in range(40)]
    assert {each.predicted for each in found} == {2}
    assert {bool(each.problems) for each in found} == {False, True}
    assert "drawn at random" in found[0].sentence
