"""A project after its training stages, small and synthetic: recorded runs, predictions, folds, a benchmark."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from projects import small_profile, tiny_values
from tiny_package import SIZE

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.evaluation.choice import mean_value
from bus_mlops.evaluation.results import seal
from bus_mlops.evaluation.searched import Choice, SearchResult, TrialRecord
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.files import write_json
from bus_mlops.paths import BENCHMARK, PARAMS
from bus_mlops.project import parse_config
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import Aliases, read_aliases
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.judgement import Judgement, judge_candidates
from bus_mlops.promotion.promote import Outcome, decide, promote
from bus_mlops.search.pick import pick
from bus_mlops.search.study import digest_of_images
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS, Ledger
from bus_mlops.tracking.relocation import find_moves, relocate

IMAGES = 160
FOLDS = (1, 2)
SEEDS = (2021, 7)
DATA = "d" * 64
# How well each network separates the labels; `resnet50` is the best one that is not MT-ESTAN.
SEPARATIONS = {"mobilenet": 0.3, "resnet50": 0.6, "mt_estan": 0.8}
NAME = "bus-mt-estan-phantom"
# The strategy of its candidate, which the search `mt_estan_loss` has tuned.
SEARCHED = "mt_estan_loss"
TUNED = f"tuned-{SEARCHED}"


def fold_frame() -> pd.DataFrame:
    """Two folds over images that are each their own case and group."""
    rng = np.random.default_rng(0)
    ids = [f"busi/{i:03d}" for i in range(IMAGES)]
    frame = pd.DataFrame({"image_id": ids, "source": "busi", "label": (rng.random(IMAGES) < 0.4).astype(int)})
    frame = frame.assign(case_id=ids, group=ids)
    tested = np.arange(IMAGES) % 2 + 1
    for fold in FOLDS:
        others = np.where(np.arange(IMAGES) % 4 < 2, "train", "validation")
        frame[f"fold_{fold}"] = np.where(tested == fold, "test", others)
    return frame


def predictions(fold: int, separation: float, seed: int) -> pd.DataFrame:
    """Validation and test part of a fold, as a worker writes them."""
    rng = np.random.default_rng(seed)
    rows = fold_frame().rename(columns={f"fold_{fold}": "part"})
    rows = rows.loc[rows["part"] != "train", ["image_id", "case_id", "group", "source", "label", "part"]]
    logits = 2 * separation * (2 * rows["label"] - 1) + rng.normal(size=len(rows))
    return rows.assign(fold=fold, probability=1 / (1 + np.exp(-logits)))


@dataclass(frozen=True)
class Store:
    """A project after its training stages: a ledger with finished runs, predictions, a benchmark."""

    config: Config
    ledger: Ledger
    folds: Folds
    folder: Path
    benchmark: Benchmark

    @property
    def predictions(self) -> Path:
        return self.folder / paths.PREDICTIONS

    def inputs(self, members: str | None = None, **promotion: Any) -> PromotionInputs:
        """What promotion works on, with parts of the configuration changed."""
        config = with_promotion(self.config, **promotion)
        if members is not None:
            config = config.model_copy(update={"package": config.package.model_copy(update={"members": members})})
        return PromotionInputs(config, self.ledger, self.benchmark, self.folds, self.predictions)

    def judge(self, candidate_runs: Sequence[str] = (), baseline_run: str | None = None, **promotion: Any) -> Judgement:
        return judge_candidates(self.inputs(**promotion), candidate_runs, baseline_run)

    def decide(self, judgement: Judgement, **promotion: Any) -> Outcome:
        return decide(self.inputs(**promotion), judgement)

    def promote(
        self, members: str = "one", force_reason: str | None = None, amend: str | None = None, **promotion: Any
    ) -> Outcome:
        return promote(self.inputs(members, **promotion), force_reason=force_reason, amend=amend)

    def aliases(self) -> Aliases:
        return read_aliases(self.ledger.client, NAME)

    def history(self) -> list[records.Decision]:
        return records.decisions(self.ledger.client, NAME)


def with_promotion(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"promotion": config.promotion.model_copy(update=changes)})


def record_model(store: Store, strategy: str, network: str, separation: float, members: list[Path], seed: int) -> Any:
    """Finished runs of both folds of one spec, as workers leave them; returns the strategy's predictions."""
    spec = make_spec(store.config, "mt_estan" if network == "mt_estan" else "mobilenet", "multitask", input_size=SIZE)
    changed = spec.training.model_copy(update={"dropout": 0.4 if strategy == TUNED else 0.5})
    spec = spec.model_copy(update={"network": network, "training": changed, "seed": seed})
    title, fingerprint = network.title(), f"{strategy}-{network}-{seed}"
    split = store.folds.digest(store.folds.frame["image_id"])
    tags = {"data_digest": DATA, "folds_digest": split, "leaks": "0 groups", "folds_kind": "grouped"}
    parent = store.ledger.parents.find_or_create(spec, fingerprint, title, {**tags, f"strategy.{strategy}": title})
    frames = []
    for fold, member in zip(FOLDS, members, strict=True):
        folder = store.folder / f"{fingerprint}-{fold}"
        folder.mkdir()
        frame = predictions(fold, separation, seed=seed + 10 * fold + len(fingerprint))
        frame.to_csv(folder / PREDICTIONS, index=False)
        if network == "mt_estan":
            shutil.copy(member, folder / MODEL)
        run = store.ledger.start(
            parent,
            title,
            spec,
            {**tags, "git_clean": "yes", "network": network, "fingerprint": fingerprint, "fold": str(fold)},
        )
        store.ledger.finish(run, {"roc_auc": 0.9}, folder, {})
        columns = {"strategy": strategy, "model": title, "variant": "Multi", "network": network}
        frames.append(frame.assign(fingerprint=fingerprint, seed=seed, dice=np.nan, iou=np.nan, **columns))
    return pd.concat(frames, ignore_index=True)


def make_search(store: Store, standard_errors: float) -> SearchResult:
    """What a search of MT-ESTAN chooses for each fold: dropout 0.4, as tuned, or the approaches' 0.5, its first trial.

    Its trials are runs that are recorded already. With 0 standard errors it is 0.4 for both folds, with 1 for fold 1.
    """
    terms = SearchResult(search=SEARCHED, objective=("roc_auc",), standard_errors=standard_errors)
    finished = store.ledger.finished()
    choices, trials = [], []
    for fold in FOLDS:
        own: dict[int, list[pd.DataFrame]] = {}
        for number, (name, dropout) in enumerate((("approaches", 0.5), (TUNED, 0.4))):
            run = finished[LedgerKey(f"{name}-mt_estan-{SEEDS[0]}", fold)]
            frame = store.ledger.predictions(run)
            own[number] = [frame[frame["part"] == "validation"]]
            value = mean_value(own[number], "roc_auc")
            trials.append(
                TrialRecord(
                    network="mt_estan",
                    fold=fold,
                    number=number,
                    parameters={"dropout": dropout},
                    state="complete",
                    values=(value,),
                    steps=(value,),
                    runs=(run,),
                )
            )
        first, best = trials[-2:]
        images = store.folds.frame.loc[store.folds.frame[f"fold_{fold}"] != "test", "image_id"]
        found = pick(trials[-2:], own, terms)
        choices.append(
            Choice(
                network="mt_estan",
                fold=fold,
                trial=found.number,
                best=best.number,
                parameters=trials[-2 + found.number].parameters,
                value=trials[-2 + found.number].values[0],
                first_value=first.values[0],
                difference=found.difference,
                standard_error=found.standard_error,
                reason=found.reason,
                images=digest_of_images(images),
                image_count=len(images),
            )
        )
    return terms.model_copy(update={"choices": tuple(choices), "trials": tuple(trials)})


def record_search(store: Store, result: SearchResult) -> str:
    """The run of a search and those of its trials, as `SearchRuns` leaves them, but without figures."""
    client, ledger = store.ledger.client, store.ledger
    tags = {"network": "mt_estan", "search.name": result.search}
    parent = client.create_run(ledger.experiment, tags={"kind": "search", **tags}, run_name=result.search).info.run_id
    for trial in result.trials:
        place = {"search.fold": str(trial.fold), "trial.number": str(trial.number), "mlflow.parentRunId": parent}
        run = client.create_run(ledger.experiment, tags={"kind": "trial", **tags, **place}).info.run_id
        client.set_terminated(run, "FINISHED")
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "best.json", result.model_dump(mode="json"))
        ledger.writer.write(parent, params=ledger.files.store(parent, Path(folder)))
    client.set_terminated(parent, "FINISHED")
    return str(parent)


def make_store(folder: Path, members: list[Path]) -> None:
    """Lay out a project in a folder and record its runs, with the networks of `members` for each fold."""
    values = tiny_values(small_profile())
    values["data"].update(root=str(folder / "phantom"), sources=["busi"])
    values["phantom"].update(images={"busi": 4}, near_duplicates=0)
    values["promotion"].update(bootstrap=200, require_clean_git=True)
    values["package"]["members"] = "one"
    values["strategies"] = ["approaches"]
    config = _write_params(values, folder)
    write_phantoms(config, folder / "phantom")
    benchmark = assemble(config, [SIZE], folder / BENCHMARK, workers=1)
    folds = Folds.checked(fold_frame(), "folds")
    (folder / paths.FOLDS).mkdir(parents=True)
    folds.frame.to_csv(folder / paths.FOLDS / "folds.csv", index=False)
    store = Store(config, Ledger(config.tracking), folds, folder, benchmark)
    store.predictions.mkdir(parents=True)
    # The second seed of MT-ESTAN's tuned form and of the best other network, as a plan with seeds would train it.
    tuned = [record_model(store, TUNED, "mt_estan", 1.6, members, seed) for seed in SEEDS]
    approaches = [record_model(store, "approaches", n, s, members, SEEDS[0]) for n, s in SEPARATIONS.items()]
    approaches.append(record_model(store, "approaches", "resnet50", SEPARATIONS["resnet50"], members, SEEDS[1]))
    record_search(store, make_search(store, 0))
    tuned[0].to_parquet(store.predictions / f"{TUNED}.parquet")
    pd.concat(approaches[:3]).to_parquet(store.predictions / "approaches.parquet")
    for strategy in (TUNED, "approaches"):
        seal(store.predictions, strategy, {})


def open_store(folder: Path) -> Store:
    """A project that `make_store` has laid out."""
    config = parse_config(yaml.safe_load((folder / PARAMS).read_text()))
    folds = Folds.open(folder / paths.FOLDS / "folds.csv")
    return Store(config, Ledger(config.tracking), folds, folder, Benchmark.open(folder / BENCHMARK))


def copy_store(store: Store, folder: Path) -> Store:
    """A copy of a project with a registry and artifacts of its own."""
    ignored = shutil.ignore_patterns("params.yaml", *(f"*-{fold}" for fold in FOLDS))
    shutil.copytree(store.folder, folder, dirs_exist_ok=True, ignore=ignored)
    config = _write_params(yaml.safe_load((store.folder / PARAMS).read_text()), folder)
    for move in find_moves(config.tracking):
        relocate(move)
    return replace(store, config=config, ledger=Ledger(config.tracking), folder=folder)


def _write_params(values: dict[str, Any], folder: Path) -> Config:
    values["tracking"].update(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "artifacts"))
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    return parse_config(values)
