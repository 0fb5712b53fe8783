"""Verification: recomputing a version's digests and its gate from the artifacts, and saying whether they still hold."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.config.intent import Intent
from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_files import open_package
from bus_mlops.consumer.package_format import DIGEST_TAG
from bus_mlops.consumer.signatures import check_package as check_signature
from bus_mlops.consumer.standing import SIGNED
from bus_mlops.consumer.trusted_keys import VARIABLE, trusted_keys
from bus_mlops.errors import BusMlopsError, RegistryError
from bus_mlops.gate.comparison import PackageCheck
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.report import GateReport
from bus_mlops.gate.rule import RULES
from bus_mlops.packaging.clean_load import check_package, packaged
from bus_mlops.promotion import records
from bus_mlops.promotion.answers import distance_from_recorded, read_answers
from bus_mlops.promotion.choices import with_choice
from bus_mlops.promotion.comparing import Terms, compare_models
from bus_mlops.promotion.consistency import contradictions
from bus_mlops.promotion.evidence import (
    EVIDENCE_FILE,
    FOLDER,
    JUDGING,
    REPORT_FILE,
    Evidence,
    JudgedModel,
    read_evidence,
)
from bus_mlops.promotion.external_answers import answers_anew
from bus_mlops.promotion.external_cohorts import read_cohorts
from bus_mlops.promotion.intents import intended_of
from bus_mlops.promotion.looks import Looks
from bus_mlops.promotion.promote import REPORT_TAG
from bus_mlops.promotion.recomputation import recompute
from bus_mlops.promotion.registration import (
    EVIDENCE_TAG,
    changed_files,
    check_files,
    differences,
    fetch_model,
    read_registration,
)
from bus_mlops.promotion.trained_model import TrainedModel, read_trained_model
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.gate.external import ExternalCohort

_UNWRITTEN = (
    "decided by an earlier version of bus-mlops, which wrote down no more than the digest of the package: what else is "
    "tagged, described or lies beside the package cannot be compared with anything. `bus-mlops promote` decides on the "
    "same runs anew, trains nothing, and registers a version whose record names all of it"
)
_JUDGED_EARLIER = (
    "judged in the way {0} of earlier versions (single networks, each at its own threshold), which this version does "
    "not compute: its numbers stand as they were recorded, and the bus-mlops that package.json of its package "
    f"names recomputes them. `bus-mlops promote` judges the same runs in today's way ({JUDGING}), and trains nothing"
)
# Another processor may differ in the last digits.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at again, or that could not be: then it is said why, and `holds` means nothing."""

    what: str
    holds: bool
    found: str
    checked: bool = True


def verify_version(
    ledger: Ledger, name: str, number: str, benchmark: Benchmark | None = None, *, full: bool = False
) -> list[Check]:
    """All checks of a registered version; one that cannot be made does not hold.

    Args:
        ledger: Of its runs and its record.
        name: The registered model's.
        number: Of the version.
        benchmark: The assembled images, a sample of which is predicted anew; None where they are not there.
        full: Predict all of them anew.

    Raises:
        RegistryError: The version is unknown.
    """
    version = _version(ledger, name, number)
    decided = records.decisions(ledger.client, name)
    checks = [
        _check("package files", lambda: _files(ledger, version)),
        *_registration(ledger, version, decided),
        _check("signature", lambda: _signature(ledger, version)),
        _check("record", lambda: _record(ledger, version, decided)),
        _check("registered model", lambda: _model(ledger, name)),
    ]
    with tempfile.TemporaryDirectory(prefix="bus-verify-") as temporary:
        try:
            folder = ledger.artifact(str(version.run_id), FOLDER, Path(temporary))
            evidence, folds, report = read_evidence(folder)
        except (BusMlopsError, OSError, ValueError) as error:
            return [*checks, Check("evidence", False, f"cannot be read: {error}")]
        checks.append(_check("gate report", lambda: _report_digest(folder, version)))
        judged = {"candidate": evidence.candidate, "baseline": evidence.baseline}
        judged |= {f"candidate {i} of the same decision": rival for i, rival in enumerate(evidence.rivals, 2)}
        models = {}
        for who, recorded in judged.items():
            try:
                model = read_trained_model(ledger, list(recorded.predictions))
                models[who] = with_choice(ledger, model, recorded.choice, folds, version.creation_timestamp)
                checks.append(_predictions(ledger, who, recorded, models[who]))
            except Exception as error:  # a deleted run, a missing file: whatever it is, the evidence is gone
                checks.append(Check(f"predictions of the {who}", False, str(error)))
        if len(models) < len(judged):
            return [*checks, Check("gate", False, "cannot be recomputed without the predictions")]
        judged_models = list(models.values())
        checks.append(_anew(ledger, version, judged_models, folds, benchmark, full))
        if evidence.look is not None:
            checks.append(_check("look", lambda: _look(ledger, version, evidence)))
            checks.append(_check("intent", lambda: _intent(ledger, models["candidate"], evidence)))
        if evidence.judging != JUDGING:
            return [*checks, Check("gate", True, _JUDGED_EARLIER.format(evidence.judging), checked=False)]
        try:
            cohorts = read_cohorts(folder)
        except (OSError, ValueError) as error:
            return [*checks, Check("cohorts that no fold touches", False, str(error))]
        if any(each.answers is not None for each in cohorts):
            checks.append(_cohorts_anew(ledger, version, models["baseline"], cohorts, folds, benchmark, full))
        again = _judge_again(ledger, version, evidence, folds, judged_models, read_answers(folder), cohorts)
    if isinstance(again, Check):
        return [*checks, again]
    return checks + _compare(report["rules"], again)


def _anew(
    ledger: Ledger,
    version: ModelVersion,
    models: list[TrainedModel],
    folds: Folds,
    benchmark: Benchmark | None,
    full: bool,
) -> Check:
    what = "predictions made anew"
    package = _package(ledger, version)
    try:
        found = recompute(ledger, models, folds, benchmark, package, full=full)
    except Exception as error:  # each store and runtime raises its own kind
        return Check(what, False, str(error))
    return Check(what, not found.problems, found.sentence, checked=bool(found.problems) or not found.unseen)


def _cohorts_anew(
    ledger: Ledger,
    version: ModelVersion,
    baseline: TrainedModel,
    cohorts: tuple[ExternalCohort, ...],
    folds: Folds,
    benchmark: Benchmark | None,
    full: bool,
) -> Check:
    """Whether the answers on cohorts that no fold touches are those of the package and of the baseline's networks."""
    what = "answers on cohorts that no fold touches"
    try:
        package = _package(ledger, version)
        problems, unseen, done = answers_anew(ledger, package, baseline, cohorts, folds, benchmark, full)
    except Exception as error:  # each store and runtime raises its own kind
        return Check(what, False, str(error))
    said = [*problems[:3], done, *(f"not predicted anew: {each}" for each in unseen)]
    return Check(what, not problems, "; ".join(said), checked=bool(problems) or not unseen)


def _package(ledger: Ledger, version: ModelVersion) -> BusModel | None:
    """The version's package; None where it cannot be opened, of which another check says why."""
    with contextlib.suppress(BusMlopsError):
        opened = open_package(packaged(check_files(ledger.client, version)))
        return BusModel(opened.folder, opened.package, opened=opened)
    return None


def _judge_again(
    ledger: Ledger,
    version: ModelVersion,
    evidence: Evidence,
    folds: Folds,
    models: list[TrainedModel],
    answers: pd.DataFrame | None,
    cohorts: tuple[ExternalCohort, ...],
) -> GateReport | Check:
    """The gate on the recorded terms; a check that does not hold where the models can no longer be compared."""
    terms = Terms(
        evidence.model,
        evidence.phantom,
        folds,
        evidence.expected_folds,
        evidence.seed,
        promotion=evidence.promotion,
        members=evidence.members,
        baseline_choice=evidence.baseline_choice,
        external=cohorts,
        look=evidence.look,
        intended=evidence.intended,
        stated=evidence.stated,
    )
    try:
        comparison = compare_models(models, terms, answers=answers)
    except BusMlopsError as error:
        return Check("gate", False, f"cannot be recomputed: {error}")
    try:
        package = check_package(check_files(ledger.client, version))
    except BusMlopsError as error:
        package = PackageCheck(error=str(error))
    asked, distance = distance_from_recorded(models[0], answers)
    package = replace(package, asked=asked, distance=distance)
    return run_gate(replace(comparison, package=package), evidence.promotion)


def _compare(stored: list[dict[str, Any]], again: GateReport) -> list[Check]:
    """A check a rule: the same verdict, and the same numbers but for what depends on the machine."""
    computed = {rule.id: rule for rule in again.rules}
    checks = []
    for rule in stored:
        name = f"{rule['id']} {rule['title']}"
        now = computed.get(rule["id"])
        if now is None:
            checks.append(Check(name, False, "could not be recomputed: no rule of that id is registered here"))
            continue
        verdict = f"{'passed' if rule['passed'] else 'failed'} then, {'passes' if now.passed else 'fails'} now"
        # How far an example lies from its stored answer depends on the processor; the limit is what counts.
        exact = not RULES[rule["id"]].exact or _same(rule["values"], now.values)
        holds = now.passed == rule["passed"] and exact
        checks.append(Check(name, holds, f"{verdict}{'' if exact else ', with other numbers'}. {now.sentence}"))
    return checks


def _same(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if set(stored) != set(now):
        return False
    return all(_equal(stored[key], now[key]) for key in stored)


def _equal(stored: Any, now: Any) -> bool:
    if isinstance(now, str) or not math.isfinite(now):
        return str(stored) == str(now)
    return not isinstance(stored, str) and math.isclose(stored, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _version(ledger: Ledger, name: str, number: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        version = ledger.client.get_model_version(name, number)
    except MlflowException as error:
        decided = [each for each in records.decisions(ledger.client, name) if each.version == number]
        gone = f": it was {decided[0].decision} (record {decided[0].record}) and deleted since" if decided else ""
        raise RegistryError(
            f"{name} has no version {number}{gone}. `bus-mlops history` lists what there is."
        ) from error
    if not version.run_id:
        raise RegistryError(f"{name} version {number} was not registered by `bus-mlops promote`: it has no evidence.")
    return version


def _files(ledger: Ledger, version: ModelVersion) -> str:
    check_files(ledger.client, version)
    return "every file has the sha256 that was registered, and no other is there"


def _signature(ledger: Ledger, version: ModelVersion) -> str:
    """Who signed the package, where keys are trusted; else that nobody can know."""
    keys = trusted_keys()
    opened = open_package(packaged(check_files(ledger.client, version)), keep=False)
    if keys is None:
        said = SIGNED["unsigned" if opened.signature is None else "unchecked"].strip()
        return f"{said} {VARIABLE} names the keys that are trusted"
    what = f"{version.name} version {version.version}"
    signed = check_signature(opened.signature, opened.sums, opened.digest, what, keys)
    return f"of {signed.signer}, whom this machine trusts"


def _registration(ledger: Ledger, version: ModelVersion, decided: list[records.Decision]) -> list[Check]:
    """Version and model folder against what was registered, where that was written down."""
    what = "version and its model folder"
    try:
        written = read_registration(ledger.client, version)
        if written is None:
            return [Check(what, True, _UNWRITTEN, checked=False)]
        later = records.later_tags(decided, str(version.version))
        found = differences(version, written, later)
        found += changed_files(fetch_model(ledger.client, version), written)
    except Exception as error:  # each artifact store raises its own kind
        return [Check(what, False, str(error))]
    return [Check(what, not found, "; ".join(found) or "tags, texts, source and every file as they were registered")]


def _record(ledger: Ledger, version: ModelVersion, decided: list[records.Decision]) -> str:
    """Every record of a decision on a version, the one that registered it first."""
    own = [each for each in decided if each.version == str(version.version)]
    problems = [
        problem
        for record in dict.fromkeys([str(version.run_id), *(each.record for each in own)])
        if (problem := records.check_record(ledger.client, record))
    ]
    named = {DIGEST_TAG: "package", EVIDENCE_TAG: "evidence"}
    problems += [
        f"its tag {tag} is {version.tags.get(tag, 'missing')}, but the decision {each.record} names {value}"
        for each in own
        for tag, field in named.items()
        if (value := getattr(each, field)) and version.tags.get(tag) != value
    ]
    if problems:
        raise RegistryError("; ".join(problems))
    return f"{len(own)} decisions, as they were written when they were made"


def _model(ledger: Ledger, name: str) -> str:
    found = contradictions(ledger.client, name)
    if found:
        raise RegistryError("; ".join(found))
    return "aliases, tags, versions and decisions agree"


def _look(ledger: Ledger, version: ModelVersion, evidence: Evidence) -> str:
    """That the look of the evidence is the one on record, and that every look has the level that was due."""
    looks = Looks(ledger.client, version.name)
    taken = evidence.look
    assert taken is not None  # noqa: S101 - asked before
    seen = looks.find(taken.key)
    problems = looks.disagreements()
    if seen is None or seen.taken.model_copy(update={"p": None}) != taken:
        problems.append(f"the look of {EVIDENCE_FILE} is not the one on record")
    if problems:
        raise RegistryError("; ".join(problems))
    return f"{len(looks.history)} looks, each with the level that the records before it lead to. {taken.sentence}"


def _intent(ledger: Ledger, candidate: TrainedModel, evidence: Evidence) -> str:
    """That the runs still say on what terms the first of them was begun, and the evidence what was changed since."""
    then, stated = evidence.intended, Intent(evidence.stated or {})
    now = intended_of(ledger, candidate, stated)
    if (now.first, now.damages) != (then.first, then.damages) or not set(now.changes) <= set(then.changes):
        raise RegistryError(
            f"the runs say {'; '.join((*now.damages, *now.changes)) or 'that nothing was changed'}, and the evidence "
            f"{'; '.join((*then.damages, *then.changes)) or 'that nothing was changed'}"
        )
    return then.clause or "not recorded: the runs are of an earlier version or were imported"


def _report_digest(folder: Path, version: ModelVersion) -> str:
    if REPORT_TAG not in version.tags:
        raise RegistryError(f"the version has lost its tag {REPORT_TAG}, which names the gate's report")
    if hashlib.sha256((folder / REPORT_FILE).read_bytes()).hexdigest() != version.tags[REPORT_TAG]:
        raise RegistryError(f"{REPORT_FILE} was changed: its sha256 is not the one in the version's tag {REPORT_TAG}")
    return "has the sha256 of the version's tag"


def _predictions(ledger: Ledger, who: str, recorded: JudgedModel, model: TrainedModel) -> Check:
    for run, files in recorded.files.items():
        if ledger.artifact_digests(run) != files:
            return Check(f"predictions of the {who}", False, f"the record of the files of run {run} was changed")
    changed = [run for run, digest in recorded.predictions.items() if model.digests[run] != digest]
    if changed:
        return Check(f"predictions of the {who}", False, f"those of run {changed[0]} were changed")
    return Check(f"predictions of the {who}", True, f"{len(recorded.predictions)} runs as in {EVIDENCE_FILE}")


def _check(what: str, look: Any) -> Check:
    try:
        return Check(what, True, look())
    except BusMlopsError as error:
        return Check(what, False, str(error))
