"""From a candidate's recorded runs to a package, an MLflow model folder, and the gate's rules on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_files import open_package, read_package
from bus_mlops.consumer.package_format import ARTIFACT, Calibration, Package
from bus_mlops.consumer.refusal import Refusal
from bus_mlops.dataset.folds.assignment import SEALED, fold_columns
from bus_mlops.errors import LedgerError, RegistryError
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.experiments.cell import REFIT
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.comparison import PLACE, Comparison
from bus_mlops.gate.ensemble import best_network, calibrated, calibrations_of, ensemble_of
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.report import GateReport
from bus_mlops.git import git_tags
from bus_mlops.packaging.card_evidence import CardEvidence
from bus_mlops.packaging.clean_load import check_package
from bus_mlops.packaging.package import complete_package, write_package
from bus_mlops.packaging.pyfunc import pyfunc_options
from bus_mlops.packaging.sbom import INITIAL_WEIGHTS, DataSet
from bus_mlops.promotion.answers import Answers, ask, distance_from_recorded
from bus_mlops.promotion.card import card_evidence
from bus_mlops.promotion.comparing import compare_models
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.judged_numbers import judged_numbers
from bus_mlops.promotion.judgement import Judgement
from bus_mlops.promotion.recomputation import recompute
from bus_mlops.promotion.refit import UNTESTED, refit, refitted_folds
from bus_mlops.promotion.refusal import MOST_COLOR, fit_oddity, fit_triage, measured_triage
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.sources.registry import title_and_terms
from bus_mlops.spec import CellKey
from bus_mlops.tracking.ledger import MODEL, Ledger


@dataclass(frozen=True)
class PackagedCandidate:
    """A candidate's package, the gate's whole report on it, what the package answered where it was judged, its card."""

    folder: Path
    report: GateReport
    answers: Answers
    card: CardEvidence


def package_candidate(
    inputs: PromotionInputs, judgement: Judgement, folder: Path, *, full: bool = False
) -> PackagedCandidate:
    """Write the candidate's package below `folder`, and judge the candidate by what the package answers.

    Each test image is asked of those of its members that have not seen it; the rules are computed on these answers, and
    completed by those on packages, which look at the MLflow model folder that would be registered. A sample of all
    recorded predictions that were judged, or with `full` all of them, is predicted anew; a note says so.

    Raises:
        LedgerError: Recorded predictions are not those of their networks.
        RegistryError: No package can be made, or it gives no answer for an image.
    """
    import mlflow

    package = write_candidate(inputs, judgement, folder / "package")
    opened = open_package(package)
    asked = BusModel(package, opened.package, opened=opened)
    notes = [*judgement.comparison.notes, _recomputed(inputs, judgement, asked, full)]
    answers = ask(asked, judgement.candidate, inputs.folds, inputs.benchmark)
    comparison = _on_answers(judgement, answers)
    notes.append(_answered(judgement.comparison, comparison, answers))
    report = run_gate(comparison, judgement.terms.promotion)
    members = inputs.config.package.members
    card = card_evidence(inputs, judgement, comparison, report, opened.package)
    complete_package(
        package,
        refusal=_measured(opened.package, comparison),
        evidence=card,
        gate=_verdict(report, members),
        judged=judged_numbers(comparison, members, opened.package, len(answers.frame.drop_duplicates(PLACE))),
    )
    model = folder / "model"
    mlflow.pyfunc.save_model(
        str(model), artifacts={ARTIFACT: str(package)}, **pyfunc_options(package, read_package(package))
    )
    distance = distance_from_recorded(judgement.candidate, answers.frame)
    check = replace(check_package(model), asked=distance.asked, distance=distance.greatest)
    packaged = replace(comparison, package=check, notes=tuple(notes))
    return PackagedCandidate(package, run_gate(packaged, judgement.terms.promotion, report), answers, card)


def _on_answers(judgement: Judgement, answers: Answers) -> Comparison:
    """The comparison with the package's answers in the place of what the candidate's networks recorded."""
    if answers.frame.empty:
        return judgement.comparison
    models = [judgement.candidate, judgement.baseline, *judgement.rivals]
    again = compare_models(models, judgement.terms, answers=answers.frame)
    return replace(judgement.comparison, candidate=again.candidate)


def _answered(recorded: Comparison, judged: Comparison, answers: Answers) -> str:
    """How many images the package itself was judged on, and how far its answers are from what was recorded."""
    before, after = (each.candidate.test.set_index(PLACE)["probability"] for each in (recorded, judged))
    count, total = len(answers.frame.drop_duplicates(PLACE)), len(after)
    left = f" ({answers.unasked})" if answers.unasked else ""
    if not count:
        return f"The candidate was judged by recorded predictions, since the package could not be asked{left}."
    greatest = float((before - after.reindex(before.index)).abs().max())
    return (
        f"The candidate was judged by what its package answered to {count} of {total} test images, each asked of the "
        f"members that have not seen it{left}: the greatest difference from what was recorded is {greatest:.1e}."
    )


def _recomputed(inputs: PromotionInputs, judgement: Judgement, package: BusModel, full: bool) -> str:
    found = recompute(
        inputs.ledger,
        [judgement.candidate, judgement.baseline, *judgement.rivals],
        inputs.folds,
        inputs.benchmark,
        package,
        full=full,
    )
    if found.problems:
        raise LedgerError(
            f"recorded predictions are not those of their networks, so nothing was judged by them: {found.sentence}. "
            "Forget these runs (`mlflow runs delete --run-id RUN`) and train them anew (`dvc repro`)."
        )
    sentence = found.sentence
    return f"{sentence[0].upper()}{sentence[1:]}."


def write_candidate(inputs: PromotionInputs, judgement: Judgement, folder: Path) -> Path:
    """The candidate's networks, of its folds or refitted, with their calibrations, as consumers will load them."""
    config, ledger, benchmark = inputs.config, inputs.ledger, inputs.benchmark
    candidate, members = judgement.candidate, config.package.members
    if members == "refit":
        runs = refit(config, ledger, candidate)
    else:
        runs = {cell: candidate.runs[cell] for cell in member_cells(candidate, members, config.promotion.metric)}
    cells = list(runs)
    input_size = _input_size(ledger, candidate, list(runs.values()))
    calibrations = [calibration_of(candidate, cell) for cell in cells]
    return write_package(
        folder,
        [ledger.artifact(runs[cell], MODEL, folder.parent) for cell in cells],
        input_size=input_size,
        color=benchmark.color,
        threshold=threshold_of(candidate, cells, calibrations, config.promotion.threshold),
        metadata={
            "name": inputs.model_name,
            "phantom": config.data.kind == "phantom",
            "trained_on": _trained_on(candidate, members),
            "lineage": {**lineage_of(candidate, runs), **_initial_weights(ledger, list(runs.values()))},
            "refusal": refusal_of(inputs, candidate, input_size),
        },
        example_image=np.asarray(benchmark.images(input_size)[_example(inputs)]),
        calibrations=calibrations,
        data_sets=[DataSet(name, *title_and_terms(name)) for name in sources_of(candidate)],
    )


def refusal_of(inputs: PromotionInputs, candidate: TrainedModel, input_size: int) -> Refusal:
    """The rules by which the package refuses: fitted to images of its folds, calibrated on validation parts."""
    terms, benchmark = inputs.config.package, inputs.benchmark
    of_folds = candidate.predictions.drop_duplicates("image_id").set_index("image_id")
    frame = benchmark.frame[benchmark.frame["image_id"].isin(of_folds.index)]
    oddity = fit_oddity(
        np.asarray(benchmark.images(input_size)[frame["index"].to_numpy()]),
        of_folds["group"].reindex(frame["image_id"]).to_numpy(),
        frame["source"].to_numpy(),
        terms.refusal_rate,
    )
    most_color = MOST_COLOR if benchmark.color == "gray" else None
    calibrations = calibrations_of(candidate.predictions)
    if calibrations is None:
        return Refusal(oddity=oddity, most_color=most_color)
    answers = ensemble_of(calibrated(candidate.part("validation"), calibrations))
    triage = fit_triage(answers, terms.miss_rate, terms.false_alarm_rate)
    return Refusal(oddity=oddity, most_color=most_color, triage=triage)


def _measured(package: Package, comparison: Comparison) -> Refusal | None:
    """The package's rules, with what triage does to the answers that were judged."""
    known = package.refusal
    if known is None or known.triage is None:
        return known
    measured = dict(measured_triage(known.triage, comparison.candidate.test))
    return known.model_copy(update={"triage": known.triage.model_copy(update={"measured": measured})})


def _initial_weights(ledger: Ledger, runs: Sequence[str]) -> dict[str, str]:
    """What the members' networks began with, whose licences the bill of materials names."""
    return {INITIAL_WEIGHTS: ", ".join(sorted({str(ledger.spec(run).training.weights) for run in runs}))}


def _example(inputs: PromotionInputs) -> int:
    """The place of the first image that is not kept from every fold: those are for judging alone."""
    frame = inputs.folds.frame
    sealed = frame.loc[frame[fold_columns(frame)[0]].isin(SEALED), "image_id"]
    return int(np.flatnonzero(~inputs.benchmark.frame["image_id"].isin(sealed))[0])


def _input_size(ledger: Ledger, candidate: TrainedModel, runs: Sequence[str]) -> int:
    """The size of the images (px) that all members take."""
    sizes = sorted({ledger.spec(run).training.input_size for run in runs})
    if len(sizes) > 1:
        raise RegistryError(
            f"{candidate.title} takes images of {' and '.join(map(str, sizes))} px, chosen for each fold, and a "
            f"package has one size: take input_size out of searches.{candidate.lineage.search}.space, or set "
            "package.members to one or refit."
        )
    return sizes[0]


def member_cells(candidate: TrainedModel, members: str, metric: str) -> list[CellKey]:
    """The cells of the networks that go into the package: all, or the one best on its validation part."""
    cells = list(candidate.runs)
    return cells if members == "all" else [best_network(candidate.predictions, metric)]


def calibration_of(candidate: TrainedModel, cell: CellKey) -> Calibration:
    """Platt's calibration of one network, fitted on its own validation part.

    A refitted one has none: it gets the calibration of its seed's networks of the folds, on their validation parts
    pooled. Those networks saw fewer images, so its own probabilities may be somewhat more extreme.
    """
    rows = _validation(candidate, cell)
    return fit_calibration(rows["label"].to_numpy(), rows["probability"].to_numpy())


def threshold_of(candidate: TrainedModel, cells: list[CellKey], calibrations: list[Calibration], kind: str) -> float:
    """0.5, or Youden's over what the members of each fold answer together on its validation part; never on a test part.

    It is chosen for the mean of a fold's networks (a refit's: of its seeds), as the gate's thresholds are, over the
    validation parts of all folds, where each answer is one that none of the networks behind it was fitted on.
    """
    if kind == "half":
        return 0.5
    of_seed = dict(zip(cells, calibrations, strict=True))
    # Validation predictions that stand for a member: its own, or for a refit those of all folds of its seed.
    own = {cell: of_seed.get(cell) or of_seed.get(CellKey(REFIT, cell.seed)) for cell in candidate.runs}
    known = {cell: calibration for cell, calibration in own.items() if calibration is not None}
    answers = ensemble_of(calibrated(candidate.part("validation"), known))
    return youden_threshold(answers["label"].to_numpy(), answers["probability"].to_numpy())


def _validation(candidate: TrainedModel, cell: CellKey) -> pd.DataFrame:
    """The validation predictions that stand for a member: its own, or for a refit those of all folds of its seed."""
    if cell.fold != REFIT:
        return candidate.part("validation", cell)
    return candidate.only([cell.seed]).part("validation")


def lineage_of(candidate: TrainedModel, runs: Mapping[CellKey, str]) -> dict[str, str]:
    """Fingerprints, digests, commit and the run of each member, for the package and its card."""
    several = len(candidate.seeds) > 1
    return {
        "fingerprint": ", ".join(candidate.distinct_fingerprints),
        **_chosen(candidate, runs),
        "data_digest": candidate.lineage.data_digest,
        "folds_digest": candidate.lineage.folds_digest,
        "commit": git_tags()["mlflow.source.git.commit"],
        **{
            (f"run.seed_{cell.seed}." if several else "run.")
            + ("refit" if cell.fold == REFIT else f"fold_{cell.fold}"): run
            for cell, run in runs.items()
        },
    }


def _chosen(candidate: TrainedModel, runs: Mapping[CellKey, str]) -> dict[str, str]:
    """How the parameters of the members were chosen, and which they are."""
    lineage = candidate.lineage
    if not lineage.search:
        return {"parameters": lineage.chosen}
    said = {"parameters": f"{lineage.chosen}, by the search {lineage.search}", "chosen": lineage.parameters}
    if all(cell.fold == REFIT for cell in runs):
        said["refitted_with"] = f"what was chosen for fold {', '.join(map(str, refitted_folds(candidate)))}"
    return said


def sources_of(candidate: TrainedModel) -> list[str]:
    """The names of the sources that a model's networks learnt from."""
    return sorted(candidate.predictions["source"].unique())


def _trained_on(candidate: TrainedModel, members: str) -> str:
    sources = ", ".join(sources_of(candidate))
    if members != "refit":
        return sources
    return (
        f"{sources}; refitted on all of their images, so that none was left to validate or test on: calibration and "
        "threshold come from the validation predictions of the networks of the folds"
    )


def _verdict(report: GateReport, members: str) -> str:
    return (
        f"{report.verdict}, judged on the networks of the folds; {UNTESTED}" if members == "refit" else report.verdict
    )
