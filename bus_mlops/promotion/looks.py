"""The ledger of alpha: which looks a registered name has had at which test images, read from the records of decisions.

A record says, before anybody can see a number of it, which look it is: the tag `look`, whose sha256 is a parameter of
the run, which MLflow lets nobody change. Where somebody has taken the tag away, the evidence beside it still says so.
Nothing else is kept: what is left is computed from all records, those included that were deleted or never came to a
decision. A decision of an earlier version counts as the look that it would have been.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bus_mlops.config import PromotionConfig
from bus_mlops.dataset.folds.assignment import TEST
from bus_mlops.errors import BusMlopsError
from bus_mlops.gate.look import Look, PastLook, next_look
from bus_mlops.gate.rules.superiority import SuperiorityLimits
from bus_mlops.promotion import records
from bus_mlops.tracking.run_files import RunFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from bus_mlops.promotion.trained_model import TrainedModel

LOOK_DIGEST = "look.sha256"
# Beside the report of a look: the ids of the images that it tested, one a line.
TESTED_FILE = "gate/tested.txt"
_EVIDENCE_FILE, _FOLDS_FILE = "gate/evidence.json", "gate/folds.csv"
# How p is computed, apart from what parameters say; with another number the same predictions have another p.
METHOD = 2
# Of `promotion`: what p depends on, the limits of the rule on superiority apart.
_OF_P = ("metric", "threshold", "bootstrap", "test")
# Earlier looks count where they tested this share of today's images.
SHARED = 0.5
TOLERANCE = 1e-12


class TakenLook(BaseModel):
    """A look as records and evidence keep it.

    Attributes:
        share: Of what was left, that this look may spend.
        key: What p depends on, as a digest: the same key is the same look.
        tested: Digest of the ids of the images that it tests; `images` is their number.
        p: What the rule on superiority found; None in evidence, and where it found none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    budget: float
    before: float
    level: float
    share: float
    key: str
    tested: str
    images: int
    p: float | None = None

    @property
    def look(self) -> Look:
        """What the gate is given."""
        return Look(self.number, self.budget, self.before, self.level)

    @property
    def line(self) -> str:
        """Number, p, level and what it leaves, for the history."""
        p = "no p" if self.p is None else f"p = {self.p:.2g}"
        return (
            f"look {self.number} at {self.images} test images: {p}, level {self.level:.2g}; spent before "
            f"{self.before:.2g} of {self.budget:g}, left unless it promotes {self.look.left:.2g}"
        )

    @property
    def sentence(self) -> str:
        """What may be spent, for people."""
        if not self.level:
            return (
                f"Look {self.number} of this name at these {self.images} test images: nothing is left of alpha "
                f"{self.budget:g}, so that no p is small enough. Judge on images that were not looked at: new data, a "
                "locked part (folds.locked) or an external cohort (cohorts.external)."
            )
        return (
            f"Look {self.number} of this name at these {self.images} test images: p must be below {self.level:.2g}; "
            f"{self.look.left:.2g} of alpha {self.budget:g} is left after it"
            f"{'' if self.number == 1 else f', {self.before:.2g} was spent before'}. A look that promotes spends "
            "nothing."
        )


@dataclass(frozen=True)
class SeenLook:
    """A look on record.

    Attributes:
        since: When its first record was opened (ms since 1970).
        promoted: When its candidate became champion through the gate; None if it did not.
        decision: The latest on it; "" if there was none.
        amended: Why terms that were changed hold, and `changes` which.
        stated: Whether the record says which look it is; else it was reckoned.
    """

    taken: TakenLook
    record: str
    since: int
    promoted: int | None = None
    decision: str = ""
    amended: str = ""
    changes: str = ""
    stated: bool = True
    deleted: bool = False

    def past(self, at: int | None = None) -> PastLook:
        """What it had spent at a time (ms since 1970); None: by now."""
        return PastLook(self.taken.level, self.promoted is not None and (at is None or self.promoted <= at))

    def decided(self, run: Run) -> SeenLook:
        """The same with what another closed record of it says."""
        tags = run.data.tags
        promoted = int(run.info.end_time) if tags.get("decision") == records.PROMOTED else None
        return replace(
            self,
            decision=tags.get("decision", ""),
            promoted=self.promoted or promoted,
            amended=tags.get("amended") or self.amended,
            changes=tags.get("changes") or self.changes,
        )


@dataclass(frozen=True)
class Question:
    """A look that is asked for: its `key`, the `images` that it tests, and what `params.yaml` says of alpha."""

    key: str
    images: frozenset[str]
    alpha: float
    share: float


def look_key(
    candidates: Iterable[TrainedModel], baseline: TrainedModel, terms: Mapping[str, Any], promotion: Mapping[str, Any]
) -> str:
    """64 hexadecimal digits over all that p depends on: the same predictions, compared in the same way.

    Args:
        candidates: All of the decision, in any order.
        baseline: What they are compared with.
        terms: Else what the comparison is computed of, such as its seed.
        promotion: The section of `params.yaml`.
    """
    values = {
        "method": METHOD,
        "candidates": sorted(_predictions(each) for each in candidates),
        "baseline": _predictions(baseline),
        "terms": dict(terms),
        "promotion": {name: promotion[name] for name in _OF_P if name in promotion},
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digest_of_ids(images: Iterable[str]) -> str:
    """64 hexadecimal digits over ids of images, in any order."""
    return hashlib.sha256("\n".join(sorted(images)).encode()).hexdigest()


class Looks:
    """All looks of a registered name, each once however many records it has, the first one first: `history`."""

    def __init__(self, client: MlflowClient, model: str) -> None:
        self._client = client
        self._known: dict[str, frozenset[str]] = {}
        found: dict[str, SeenLook] = {}
        key_of: dict[str, str] = {}
        for run in records.every_record(client, model):
            key = key_of.get(run.data.tags.get("first_record", ""))
            if key is None:
                seen = self._seen(run, list(found.values()))
                if seen is None:
                    continue
                key = seen.taken.key
                found.setdefault(key, seen)
            key_of[str(run.info.run_id)] = key
            if records.is_closed(run):
                found[key] = found[key].decided(run)
        self.history = list(found.values())

    def find(self, key: str) -> SeenLook | None:
        """The look with a key."""
        return next((each for each in self.history if each.taken.key == key), None)

    def take(self, asked: Question, *, amended: bool = False) -> tuple[TakenLook, tuple[str, ...]]:
        """The look that a judgement is, and what of its budget was raised; the same key is the same look again.

        A budget that was raised after the first look at these images holds for a new look once it is `amended`.
        """
        again = self.find(asked.key)
        earlier = self.history if again is None else self.history[: self.history.index(again)]
        relevant = [each for each in earlier if self.shares(each, asked.images)]
        allowed = _allowed(relevant, asked.alpha if again is None else again.taken.budget)
        said = f"promotion.alpha of this name on these images was {allowed:g} and is {asked.alpha:g}"
        raised = (said,) if asked.alpha > allowed else ()
        if again is not None:
            return again.taken.model_copy(update={"p": None}), raised
        budget = asked.alpha if amended else min(asked.alpha, allowed)
        look = next_look([each.past() for each in relevant], budget, asked.share)
        taken = TakenLook(
            number=look.number,
            budget=budget,
            before=look.before,
            level=look.level,
            share=asked.share,
            key=asked.key,
            tested=digest_of_ids(asked.images),
            images=len(asked.images),
        )
        return taken, raised

    def coming(self, images: Collection[str], alpha: float, share: float) -> Look:
        """What another look at some images could spend."""
        relevant = [each for each in self.history if self.shares(each, images)]
        return next_look([each.past() for each in relevant], min(alpha, _allowed(relevant, alpha)), share)

    def disagreements(self) -> list[str]:
        """Which looks are not those that the looks before them lead to, as where two were taken at once."""
        said = []
        for index, each in enumerate(self.history):
            if not each.stated:
                continue
            taken = each.taken
            before = [other for other in self.history[:index] if self.shares(other, self.images(each))]
            due = next_look([other.past(each.since) for other in before], taken.budget, taken.share)
            pairs = ((taken.number, due.number), (taken.before, due.before), (taken.level, due.level))
            if not all(math.isclose(*pair, abs_tol=TOLERANCE) for pair in pairs):
                said.append(
                    f"the record {each.record} is look {taken.number} with the level {taken.level:.3g}, but the "
                    f"records before it lead to look {due.number} with the level {due.level:.3g}"
                )
            if taken.budget > _allowed(before, taken.budget) and not each.amended:
                said.append(f"the record {each.record} spends of alpha {taken.budget:g}, which was raised unamended")
        return said

    def shares(self, seen: SeenLook, images: Collection[str]) -> bool:
        """Whether a look has tested at least half of some images; one of which nobody can tell any more counts."""
        if not images or seen.taken.tested == digest_of_ids(images):
            return True
        known = self.images(seen)
        return not known or len(known & set(images)) >= SHARED * len(images)

    def images(self, seen: SeenLook) -> frozenset[str]:
        """The images that a look has tested; empty where nobody can tell any more."""
        known = seen.taken.tested or seen.record
        if known not in self._known:
            run = self._client.get_run(seen.record)
            try:
                self._known[known] = frozenset(self._fetch(run, TESTED_FILE).splitlines())
            except (BusMlopsError, OSError):
                self._known[known] = _tested(*self._evidence(run))
        return self._known[known]

    def _seen(self, run: Run, before: Sequence[SeenLook]) -> SeenLook | None:
        """The look of a record; None of one that is none: a rollback, or what was cut off before it was judged.

        What says which look it was is taken only as far as nobody can have changed it.
        """
        tags, params = run.data.tags, run.data.params
        seen = SeenLook(_NOTHING, str(run.info.run_id), int(run.info.start_time))
        seen = replace(seen, deleted=run.info.lifecycle_stage == "deleted")
        text = tags.get(records.LOOK_TAG, "")
        taken = read_taken(text)
        if taken is not None and params.get(LOOK_DIGEST) == hashlib.sha256(text.encode()).hexdigest():
            return replace(seen, taken=taken)
        judged = text or LOOK_DIGEST in params or f"sha256.{_EVIDENCE_FILE}" in params or records.is_closed(run)
        if tags.get("kind") not in (records.PROMOTION_KIND, records.LOOK_KIND) or not judged:
            return None
        evidence, folds = self._evidence(run)
        if evidence.get("look") is not None:
            return replace(seen, taken=TakenLook.model_validate(evidence["look"]))
        # Of an earlier version, or edited: what it would have had to spend of the alpha that it was judged with.
        images = _tested(evidence, folds)
        shared = [each for each in before if self.shares(each, images)]
        alpha = float(evidence.get("promotion", {}).get("alpha", SuperiorityLimits().alpha))
        share = PromotionConfig().look_share
        look = next_look([each.past(seen.since) for each in shared], _allowed(shared, alpha), share)
        taken = TakenLook(
            number=look.number,
            budget=look.budget,
            before=look.before,
            level=look.level,
            share=share,
            key=seen.record,
            tested=digest_of_ids(images) if images else "",
            images=len(images),
        )
        return replace(seen, taken=taken, stated=False)

    def _evidence(self, run: Run) -> tuple[dict[str, Any], str]:
        """Evidence and folds (text) beside a record; empty where they are no longer there."""
        try:
            return dict(json.loads(self._fetch(run, _EVIDENCE_FILE))), self._fetch(run, _FOLDS_FILE)
        except (BusMlopsError, ValueError, OSError):
            return {}, ""

    def _fetch(self, run: Run, name: str) -> str:
        with tempfile.TemporaryDirectory(prefix="bus-looks-") as folder:
            return RunFiles(self._client).fetch(str(run.info.run_id), name, Path(folder)).read_text(encoding="utf-8")


def tags_and_params(taken: TakenLook) -> tuple[dict[str, str], dict[str, str]]:
    """What a record says of its look: tags, and parameters, which nobody can change."""
    text = taken.model_dump_json()
    return {records.LOOK_TAG: text}, {LOOK_DIGEST: hashlib.sha256(text.encode()).hexdigest()}


def read_taken(text: str) -> TakenLook | None:
    """The look that a tag holds; None where it holds none."""
    try:
        return TakenLook.model_validate_json(text)
    except ValidationError:
        return None


def write_tested(folder: Path, images: Iterable[str]) -> None:
    """Write `TESTED_FILE` below the folder of a record's artifacts."""
    path = folder / TESTED_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{each}\n" for each in sorted(images)), encoding="utf-8")


def _predictions(model: TrainedModel) -> list[list[Any]]:
    return [[cell.fold, cell.seed, model.digests[run]] for cell, run in sorted(model.runs.items())]


def _allowed(looks: Iterable[SeenLook], alpha: float) -> float:
    """The budget that looks have fixed: that of the first, or of the latest that was amended."""
    past = list(looks)
    budgets = [each.taken.budget for each in past[:1] + [each for each in past if each.amended]]
    return budgets[-1] if budgets else alpha


def _tested(evidence: Mapping[str, Any], folds: str) -> frozenset[str]:
    """The images that the folds of evidence test."""
    import pandas as pd

    if not folds:
        return frozenset()
    frame = pd.read_csv(io.StringIO(folds))
    tested = (frame[[f"fold_{each}" for each in evidence["expected_folds"]]] == TEST).any(axis=1)
    return frozenset(frame.loc[tested, "image_id"].astype(str))


# In place of a look until it is read.
_NOTHING = TakenLook(number=0, budget=0, before=0, level=0, share=0, key="", tested="", images=0)
