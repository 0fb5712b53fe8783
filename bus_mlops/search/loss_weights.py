"""Optuna over the candidate network's loss: classification weight, and positive weight or focal loss's gamma and alpha.

A trial is the spec with another loss, trained on the search's folds and judged on their **validation** parts;
a test part is never looked at. Its cells are ordinary cells of the ledger: a trial that was trained before, by an
interrupted search, another study or a strategy's table, costs nothing. The paper's weights (3 and 3) are tried first.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from bus_mlops.config import Loss, SearchConfig
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.failures import CellsFailedError
from bus_mlops.experiments.runner import Runner
from bus_mlops.search.journal import mend
from bus_mlops.spec import LedgerKey, RunSpec

if TYPE_CHECKING:
    import optuna

LOG = logging.getLogger(__name__)

# Trials asked for at a time: fixed, so that results do not depend on the number of workers; the sampler draws its
# first trials at random anyway, and later spreads those of a batch (constant liar).
BATCH = 4
# Everything is tried on a grid: finer differences drown in the noise of a validation part.
WEIGHT_STEP = 0.25
GAMMA_STEP = 0.5
ALPHA_STEP = 0.05
# The paper's weighted cross-entropy for multitask networks [section 5.2.2].
PAPER = {"classification_weight": 3.0, "kind": "cross_entropy", "positive_weight": 3.0}


def search_loss_weights(runner: Runner, spec: RunSpec, config: SearchConfig, studies: Path) -> dict[str, Any]:
    """Run or resume the study; a trial one of whose cells fails does not count.

    Returns:
        The best weights with all trials, ready for `best.json`.

    Raises:
        CellsFailedError: Nothing but failures comes.
    """
    from optuna.trial import TrialState

    study = _open_study(runner, spec, config, studies)
    _forget_unfinished(study)
    in_a_row = 0
    while (left := config.trials - len(_complete(study))) > 0:
        trials = [study.ask() for _ in range(min(BATCH, left))]
        cells = {trial.number: _cells(runner, trial, spec, config) for trial in trials}
        runs, failure = _run(runner, [cell for group in cells.values() for cell in group])
        own = {number: [runs.get(cell.key, "") for cell in group] for number, group in cells.items()}
        failed = [trial for trial in trials if not all(own[trial.number])]
        in_a_row = in_a_row + len(failed) if len(failed) == len(trials) else 0
        # Of a pruned trial, the sampler learns to stay away from its loss. If nothing ever worked it is not the loss.
        state = TrialState.PRUNED if len(failed) < len(trials) or _complete(study) else TrialState.FAIL
        for trial in failed:
            study.tell(trial, state=state)
            LOG.warning("[search] %s: failed", _words(trial.params))
        for trial in trials:
            if trial not in failed:
                _judge(runner, study, trial, own[trial.number], config)
        if failure is not None and (state == TrialState.FAIL or in_a_row >= BATCH):
            raise failure
    return _report(study, spec, config, _values(runner, study, spec, config))


def _judge(runner: Runner, study: optuna.Study, trial: optuna.Trial, runs: list[str], config: SearchConfig) -> None:
    """Tell the study how good a trial's runs are on validation."""
    value = statistics.fmean(_objective(runner, run_id, config) for run_id in runs)
    trial.set_user_attr("runs", runs)
    study.tell(trial, value)
    LOG.info(
        "[search] trial %d of %d: %s: validation %s %.3f (best %.3f)",
        len(_complete(study)),
        config.trials,
        _words(trial.params),
        config.objective,
        value,
        study.best_value,
    )


def _run(runner: Runner, cells: list[Cell]) -> tuple[Mapping[LedgerKey, str], CellsFailedError | None]:
    """The run ids of the cells, without those that failed, and the failure."""
    try:
        return runner.run(cells, "search"), None
    except CellsFailedError as error:
        LOG.warning("[search] %s", error)
        return error.finished, error


def _open_study(runner: Runner, spec: RunSpec, config: SearchConfig, studies: Path) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies.mkdir(parents=True, exist_ok=True)
    fingerprint = spec.fingerprint(*runner.digests(spec))
    space = config.model_dump(mode="json", exclude={"trials"})
    name = f"loss-weights-{fingerprint[:16]}-{_short(space)}"
    mend(studies / f"{name}.journal")
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(studies / f"{name}.journal"))),
        sampler=optuna.samplers.TPESampler(
            seed=runner.config.seed,
            n_startup_trials=BATCH,
            multivariate=True,
            constant_liar=True,
            warn_independent_sampling=False,
        ),
        direction="maximize" if METRICS[config.objective].direction > 0 else "minimize",
        load_if_exists=True,
    )
    asked = any(t.state in (TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING) for t in study.trials)
    if not asked and "cross_entropy" in config.losses:
        study.enqueue_trial(PAPER)
    return study


def _forget_unfinished(study: optuna.Study) -> None:
    """Trials of a search that was cut off are closed; their finished cells stay in the ledger."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        # Weights that were fixed, but not asked for yet, would be lost with the trial.
        study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _cells(runner: Runner, trial: optuna.Trial, spec: RunSpec, config: SearchConfig) -> list[Cell]:
    suggest(trial, config)
    return _cells_of(runner, trial.study, trial.number, trial.params, spec, config)


def _cells_of(
    runner: Runner,
    study: optuna.Study,
    number: int,
    parameters: Mapping[str, Any],
    spec: RunSpec,
    config: SearchConfig,
) -> list[Cell]:
    title = f"{spec.network} trial: {_words(parameters)}"
    tags = {"search.study": study.study_name, "search.trial": str(number)}
    return runner.cells(with_loss(spec, parameters), config.folds, title, tags)


def suggest(trial: optuna.Trial, config: SearchConfig) -> None:
    """Ask the trial for its parameters; each is named as the field of `Loss` that it sets."""
    trial.suggest_float("classification_weight", *config.classification_weight, step=WEIGHT_STEP)
    if trial.suggest_categorical("kind", config.losses) == "focal":
        trial.suggest_float("gamma", *config.gamma, step=GAMMA_STEP)
        trial.suggest_float("alpha", *config.alpha, step=ALPHA_STEP)
    else:
        trial.suggest_float("positive_weight", *config.positive_weight, step=WEIGHT_STEP)


def with_loss(spec: RunSpec, parameters: Mapping[str, Any]) -> RunSpec:
    """The spec with the loss of a trial; the weight of the mask's part stays."""
    loss: Loss = TypeAdapter(Loss).validate_python({"mask_weight": spec.training.loss.mask_weight, **parameters})
    return spec.model_copy(update={"training": spec.training.model_copy(update={"loss": loss})})


def _objective(runner: Runner, run_id: str, config: SearchConfig) -> float:
    """The objective on a run's validation part: from its predictions, since the metric may be younger than the run."""
    predictions = runner.ledger.predictions(run_id)
    validation = predictions[predictions["part"] == "validation"]
    return METRICS[config.objective].value(validation["label"].to_numpy(), validation["probability"].to_numpy())


def _counted(study: optuna.Study, config: SearchConfig) -> list[optuna.trial.FrozenTrial]:
    return sorted(_complete(study), key=lambda t: t.number)[: config.trials]


def _values(runner: Runner, study: optuna.Study, spec: RunSpec, config: SearchConfig) -> dict[int, float]:
    """How good each trial is by the predictions of its runs, whatever the journal says; runs that are gone are trained.

    Raises:
        DamagedRunError: The files of a run are not what it recorded.
    """
    trials = _counted(study, config)
    cells = {trial.number: _cells_of(runner, study, trial.number, trial.params, spec, config) for trial in trials}
    runs = runner.run([cell for group in cells.values() for cell in group], "search")
    values = {}
    for trial in trials:
        value = statistics.fmean(_objective(runner, runs[cell.key], config) for cell in cells[trial.number])
        if trial.value is None or not math.isclose(value, trial.value, rel_tol=1e-9, abs_tol=1e-12):
            LOG.warning(
                "[search] trial %d is %.6f by its runs and %s by the journal, which was changed: the runs count",
                trial.number,
                value,
                trial.value,
            )
        values[trial.number] = value
    return values


def _report(study: optuna.Study, spec: RunSpec, config: SearchConfig, values: Mapping[int, float]) -> dict[str, Any]:
    """The best trial and the history, by these values of the trials' numbers."""
    # Equal values are common with few validation images: the earliest trial wins, so the paper's weights stay.
    trials = _counted(study, config)
    direction = METRICS[config.objective].direction
    best = max(trials, key=lambda t: (direction * values[t.number], -t.number))
    return {
        "study": study.study_name,
        "objective": f"validation {config.objective}, folds {', '.join(map(str, config.folds))}",
        "network": spec.network,
        "trials": len(trials),
        "value": values[best.number],
        "best": best.params,
        "history": [{"trial": t.number, "value": values[t.number], **t.params} for t in trials],
    }


def _words(parameters: Mapping[str, Any]) -> str:
    """The parameters of a trial in a line.

    >>> _words({"classification_weight": 3.0, "kind": "focal", "gamma": 2.0})
    'classification weight 3, focal, gamma 2'
    """
    named = {name.replace("_", " "): value for name, value in parameters.items()}
    return ", ".join(str(v).replace("_", "-") if k == "kind" else f"{k} {v:g}" for k, v in named.items())


def _short(value: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
