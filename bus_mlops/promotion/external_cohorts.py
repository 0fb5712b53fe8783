"""Cohorts that no fold touches, as a decision knows them: which there are, and who has read them already.

A look is announced on the decision's record before anything is predicted, as parameters of its run: MLflow lets nobody
change those, and whatever comes next, the cohort has been read. A second look of the same registered name at the same
images, for anything but the same evidence, needs a reason that stays on record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.sealed import sealed_cohorts
from bus_mlops.files import sha256_file, write_json
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.promotion import records

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bus_mlops.promotion.trained_model import TrainedModel

COHORTS_FILE = "cohorts.json"
LOOK_PARAM = "external."
# The experiment with a run for each cohort that was reported on, which keeps what networks answered.
REPORTS = "external"
NETWORKS_PARAM = "networks."
# Of each network's digest as many digits, and so many networks a parameter, whose length MLflow limits.
DIGITS, PER_PARAM = 12, 400
# An earlier look counts where it had at least this share of today's images.
SAME = 0.5
# What MLflow returns at most in one answer; more decisions about one name are none that people made.
MOST_RECORDS = 50_000
# Hashes of images that a look keeps: all of them up to here, of more the smallest, which estimate the share.
KEPT = 256


# Of the columns of answers those that are no text.
NUMBERS = {
    "label": "int64",
    **dict.fromkeys(("probability", "oddness", "threshold", "probability_baseline", "threshold_baseline"), "float64"),
}


class JudgedCohort(BaseModel):
    """A cohort in a record's evidence; `answers` is the sha256 of the file with the answers, empty if nobody looked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    images: int
    related: int = 0
    closed: str = ""
    note: str = ""
    answers: str = ""


class CohortLook(BaseModel):
    """One reading of a cohort: by which models (`by`, a digest of their predictions), when, and why once more.

    `hashes` are those of its images, or the smallest of them. A report on rows of tables names their `networks`, by
    the first digits of the digests of what each predicted: of them nothing new is seen by asking again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: str
    digest: str
    images: int
    hashes: tuple[str, ...]
    by: str
    when: str
    amended: str = ""
    record: str = ""
    reported: int = 0
    networks: frozenset[str] = frozenset()

    @property
    def sentence(self) -> str:
        """Which cohort was read, for people."""
        if self.reported:
            return (
                f"{self.cohort} ({self.images} images, {self.digest[:12]}) was reported on {self.when}, for "
                f"{self.reported} networks"
            )
        why = f"; once more, since: {self.amended}" if self.amended else ""
        return f"{self.cohort} ({self.images} images, {self.digest[:12]}) was read on {self.when}{why}"

    def is_by(self, models: Sequence[TrainedModel]) -> bool:
        """Whether it was these models that looked, candidate and baseline, or a report that showed the candidate."""
        if not self.reported:
            return self.by == identity(models)
        own = {models[0].digests[run][:DIGITS] for run in models[0].runs.values()}
        return own <= self.networks


def cohorts_of(
    client: MlflowClient,
    name: str,
    models: Sequence[TrainedModel],
    folds: Folds,
    benchmark: Benchmark,
    amend: str | None = None,
) -> tuple[ExternalCohort, ...]:
    """The cohorts that a candidate could be judged on, unopened; closed where another one has read them before.

    Args:
        client: Of the store with the records.
        name: The registered one.
        models: Candidate and baseline.
        folds: With what no fold touches.
        benchmark: The assembled images.
        amend: Why a cohort may be read once more.
    """
    found = []
    past = looks_of(client, name)
    for each in sealed_cohorts(folds.frame, models[0].predictions["source"].unique()):
        ids = each.frame["image_id"]
        cohort = ExternalCohort(each.name, digest_of(folds, benchmark, ids), len(ids), each.related)
        hashes = _hashes(benchmark, ids)
        earlier = [look for look in past if not look.is_by(models) and _shared(hashes, look.hashes) >= SAME]
        again = [look for look in past if look.is_by(models) and look.digest == cohort.digest and not look.reported]
        if not earlier or again:
            note = again[0].amended if again else ""
            found.append(replace(cohort, note=f"read once more, since: {note}" if note else ""))
        elif amend:
            found.append(replace(cohort, note=f"read once more, since: {amend}"))
        else:
            first = earlier[0]
            found.append(
                replace(
                    cohort,
                    closed=f"{first.sentence}, {_for_whom(first)}; a cohort is read once, and again only with "
                    "`bus-mlops promote --amend REASON`, which stays on record",
                )
            )
    return tuple(found)


def announce(
    client: MlflowClient,
    record: str,
    cohorts: Iterable[ExternalCohort],
    models: Sequence[TrainedModel],
    folds: Folds,
    benchmark: Benchmark,
    amend: str | None,
) -> None:
    """Write on a record which cohorts it reads, before anything of them can be seen."""
    frames = {each.name: each.frame for each in sealed_cohorts(folds.frame, models[0].predictions["source"].unique())}
    for each in cohorts:
        look = CohortLook(
            cohort=each.name,
            digest=each.digest,
            images=each.images,
            hashes=_hashes(benchmark, frames[each.name]["image_id"]),
            by=identity(models),
            when=records.now(),
            amended=amend or "" if each.note else "",
        )
        client.log_param(record, f"{LOOK_PARAM}{each.name}", look.model_dump_json(exclude={"record"}))


def announce_report(
    client: MlflowClient,
    run: str,
    cohort: ExternalCohort,
    images: Iterable[str],
    benchmark: Benchmark,
    predictions: Iterable[str],
) -> None:
    """Write on the run of a cohort that a report asks recorded networks about it, before any of them is asked.

    Args:
        client: Of the store.
        run: In the experiment `REPORTS`.
        cohort: With its name, digest and number of images.
        images: Their ids.
        benchmark: The assembled images.
        predictions: The sha256 of what each network predicted of its own parts.
    """
    networks = sorted({each[:DIGITS] for each in predictions})
    number = sum(key.startswith(LOOK_PARAM) for key in client.get_run(run).data.params)
    where = f"{cohort.name}.{number + 1}"
    look = CohortLook(
        cohort=cohort.name,
        digest=cohort.digest,
        images=cohort.images,
        hashes=_hashes(benchmark, images),
        by="",
        when=records.now(),
        reported=len(networks),
    )
    # The networks first: a look that is on record names all of its own.
    for part, at in enumerate(range(0, len(networks), PER_PARAM)):
        client.log_param(run, f"{NETWORKS_PARAM}{where}.{part}", " ".join(networks[at : at + PER_PARAM]))
    client.log_param(run, f"{LOOK_PARAM}{where}", look.model_dump_json(exclude={"record", "networks"}))


def looks_of(client: MlflowClient, name: str) -> list[CohortLook]:
    """All looks of a registered name, the first one first: whatever was decided, of deleted records too."""
    from mlflow.entities import ViewType

    experiments = [client.get_experiment_by_name(each) for each in (records.EXPERIMENT, REPORTS)]
    there = [str(each.experiment_id) for each in experiments if each is not None]
    if not there:
        return []
    runs = client.search_runs(there, f"tags.model = '{name}'", ViewType.ALL, max_results=MOST_RECORDS)
    found = []
    for run in sorted(runs, key=lambda run: run.info.start_time):
        for key, value in sorted(run.data.params.items()):
            if key.startswith(LOOK_PARAM):
                look = CohortLook.model_validate_json(value)
                prefix = f"{NETWORKS_PARAM}{key.removeprefix(LOOK_PARAM)}."
                parts = (text for name, text in run.data.params.items() if name.startswith(prefix))
                known = frozenset(network for text in parts for network in text.split())
                found.append(look.model_copy(update={"record": str(run.info.run_id), "networks": known}))
    return sorted(found, key=lambda look: look.when)


def _for_whom(look: CohortLook) -> str:
    if look.reported:
        return f"the candidate's not among them (run {look.record} of the experiment {REPORTS})"
    return f"for another decision ({look.record})"


def identity(models: Sequence[TrainedModel]) -> str:
    """64 hexadecimal digits of the predictions of candidate and baseline: who looks."""
    digests = [sorted(model.digests[run] for run in model.runs.values()) for model in models[:2]]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def digest_of(folds: Folds, benchmark: Benchmark, images: Iterable[str]) -> str:
    """64 hexadecimal digits of some images: their pixels and masks, labels and leakage groups."""
    ids = sorted(images)
    pixels = benchmark.frame.set_index("image_id")[["label", "digest"]].reindex(ids).astype(str)
    groups = folds.frame.set_index("image_id")["group"].reindex(ids)
    rows = [[*row] for row in zip(ids, groups, pixels["label"], pixels["digest"], strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def judged_cohorts(cohorts: Iterable[ExternalCohort]) -> tuple[JudgedCohort, ...]:
    """The cohorts as evidence names them, without answers."""
    return tuple(
        JudgedCohort(
            name=each.name,
            digest=each.digest,
            images=each.images,
            related=each.related,
            closed=each.closed,
            note=each.note,
        )
        for each in cohorts
    )


def write_cohorts(folder: Path, cohorts: Sequence[ExternalCohort]) -> None:
    """Write cohorts.json, and a csv of each cohort's answers, in full precision, into a record's evidence."""
    if not cohorts:
        return
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for each, judged in zip(cohorts, judged_cohorts(cohorts), strict=True):
        digest = ""
        if each.answers is not None:
            path = folder / f"external_{each.name}.csv"
            each.answers.to_csv(path, index=False, lineterminator="\n", na_rep="nan")
            digest = sha256_file(path)
        written.append(judged.model_copy(update={"answers": digest}).model_dump(mode="json"))
    write_json(folder / COHORTS_FILE, written)


def read_cohorts(folder: Path) -> tuple[ExternalCohort, ...]:
    """What `write_cohorts` wrote; nothing where it did not.

    Raises:
        ValueError: A file is not the one that was written.
    """
    path = folder / COHORTS_FILE
    if not path.exists():
        return ()
    try:
        judged = [JudgedCohort.model_validate(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except ValidationError as error:
        raise ValueError(f"{COHORTS_FILE} is not as it was written: {error}") from error
    found = []
    for each in judged:
        answers = None
        if each.answers:
            file = folder / f"external_{each.name}.csv"
            if sha256_file(file) != each.answers:
                raise ValueError(f"{file.name} is not the file that {COHORTS_FILE} names")
            # As text first: how pandas reads numbers is not exact to the last digit in every version.
            text = pd.read_csv(file, dtype=str, keep_default_na=False)
            answers = text.astype({name: kind for name, kind in NUMBERS.items() if name in text})
        found.append(ExternalCohort(each.name, each.digest, each.images, each.related, answers, each.closed, each.note))
    return tuple(found)


def _hashes(benchmark: Benchmark, images: Iterable[str]) -> tuple[str, ...]:
    pixels = benchmark.frame.set_index("image_id")["pixel_digest"].reindex(sorted(images))
    return tuple(sorted({hashlib.sha256(str(each).encode()).hexdigest()[:8] for each in pixels})[:KEPT])


def _shared(today: Sequence[str], then: Sequence[str]) -> float:
    """The share of today's images that an earlier look had; an estimate where not all hashes were kept."""
    ends = [hashes[-1] for hashes in (today, then) if len(hashes) == KEPT]
    comparable = [each for each in today if each <= min(ends)] if ends else list(today)
    return len(set(comparable) & set(then)) / len(comparable) if comparable else 0.0
