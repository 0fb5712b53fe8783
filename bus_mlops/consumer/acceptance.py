"""Whether a model holds up on a hospital's own labelled cases, and what threshold and calibration fit there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from bus_mlops.consumer.acceptance_verdict import (
    ROC_AUC,
    SENSITIVITY,
    SPECIFICITY,
    Compared,
    Verdict,
    claims_of,
    compared,
    verdict,
)
from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.local_cases import LocalCases, LocalImage
from bus_mlops.consumer.local_statistics import Estimate, roc_area, share_of
from bus_mlops.consumer.local_triage import called_by, fit_rule
from bus_mlops.consumer.package_format import Calibration
from bus_mlops.consumer.recalibration import Draw, band, draws_of, fit_all, refits, too_few
from bus_mlops.consumer.refusal import TriageRule
from bus_mlops.errors import SourceError

Array = npt.NDArray[Any]

COUNTS = (10, 20, 50, 100)
MARGIN = 0.1
IMAGE, MAXIMUM, MEAN = "image", "patient, maximum", "patient, mean"


@dataclass(frozen=True)
class Measured:
    """A metric here, at the threshold that ships: per image, per patient, or per image of one scanner."""

    unit: str
    metric: str
    images: int
    malignant: int
    here: Estimate


@dataclass(frozen=True)
class Band:
    """The median over draws, and between which two 95 of 100 draws lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """As people read it.

        >>> str(Band(0.5, 0.4, 0.6))
        '0.500 (0.400 to 0.600)'
        """
        return str(Estimate(self.median, self.low, self.high))


@dataclass(frozen=True)
class Recalibrated:
    """What so many local cases give: fits to them, and how these do on all other cases; `why_not` says if they cannot.

    Attributes:
        cases: How many are drawn.
        bands: By name: threshold; sensitivity, specificity (there, of the other cases); slope, intercept (Platt's);
            temperature; brier, brier_platt, brier_temperature (of the other cases); of triage calibrated on them,
            where so many can be: nominal_npv, and of the other cases npv (share of benign images among those called
            low), missed (of malignant ones), low (of all).
    """

    cases: int
    bands: dict[str, Band] = field(default_factory=dict)
    why_not: str = ""


@dataclass(frozen=True)
class Acceptance:
    """What was found of a model at a place.

    Attributes:
        failed: Name and reason of each image that got no answer.
        measured: At the threshold that ships.
        shipped: Beside what the package claims, at the threshold that ships.
        recalibrated: For each number of local cases.
        fitted: What all cases fit: threshold, slope, intercept, temperature.
        local: Beside the claims at thresholds fitted to `judged_with` cases, on the others; empty where there are none.
        reasons: Of the verdict.
        triage: Shares of what was refused and ruled out, by name; empty of a package that can neither.
        local_triage: The package's rule of triage, calibrated on all of these cases; None where it has none.
    """

    model: str
    version: str | None
    digest: str
    threshold: float
    margin: float
    images: int
    cases: int
    malignant: int
    malignant_cases: int
    failed: tuple[tuple[str, str], ...]
    measured: tuple[Measured, ...]
    shipped: tuple[Compared, ...]
    recalibrated: tuple[Recalibrated, ...]
    fitted: dict[str, Band]
    judged_with: int | None
    local: tuple[Compared, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    triage: dict[str, Estimate] = field(default_factory=dict)
    local_triage: TriageRule | None = None
    answers: tuple[tuple[LocalImage, float | None], ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all fields but the answers; what is not a number is null."""
        whole = {name: value for name, value in vars(self).items() if name != "answers"}
        return {name: _plain(value) for name, value in whole.items()}


@dataclass(frozen=True)
class _Rows:
    """The answered images as arrays, (N,)."""

    labels: Array
    probabilities: Array
    cases: Array
    scanners: Array

    def only(self, rows: Array) -> _Rows:
        return _Rows(self.labels[rows], self.probabilities[rows], self.cases[rows], self.scanners[rows])

    def of_patients(self, how: str) -> _Rows:
        """A row a patient: malignant when one of the images is, with the maximum or the mean of the answers."""
        names, member = np.unique(self.cases, return_inverse=True)
        labels = np.zeros(len(names), np.int64)
        np.maximum.at(labels, member, self.labels)
        if how == MAXIMUM:
            answers = np.zeros(len(names))
            np.maximum.at(answers, member, self.probabilities)
        else:
            answers = np.bincount(member, self.probabilities) / np.bincount(member)
        return _Rows(labels, answers, names, np.full(len(names), ""))


def accept(
    model: BusModel, cases: LocalCases, counts: Sequence[int] = COUNTS, margin: float = MARGIN, seed: int = 0
) -> Acceptance:
    """Ask a model about labelled cases and hold the answers against what its package claims.

    Args:
        model: With its threshold, which is held as it is and fitted anew.
        cases: Of the place; none that the model was trained on.
        counts: How many cases to fit to, each.
        margin: The fall of a metric (fraction) that must be ruled out.
        seed: Of the draws.

    Raises:
        SourceError: Of the images that the model answers, all are of one label.
    """
    answers, triage = [], []
    for image, row in zip(cases.images, model.stream([each.path for each in cases.images]), strict=True):
        answers.append((image, row.probability, row.error or " ".join(row.reasons)))
        # What cannot be read is no picture that a rule has refused.
        if row.error is None:
            triage.append((image, row.triage or row.status))
    told = [(image, probability) for image, probability, _ in answers if probability is not None]
    rows = _Rows(
        np.array([image.label for image, _ in told], np.int64),
        np.array([probability for _, probability in told], np.float64),
        np.array([image.patient for image, _ in told], np.str_),
        np.array([image.scanner for image, _ in told], np.str_),
    )
    failed = tuple((image.name, error) for image, probability, error in answers if probability is None)
    if len(np.unique(rows.labels)) < 2:
        first = f", the first: {failed[0][1]}" if failed else ""
        raise SourceError(f"the {len(told)} images that got an answer are of one label; {len(failed)} got none{first}.")
    claims = claims_of(model)
    cut = model.package.threshold
    shipped = compared(_shipped(rows, cut), claims, margin)
    operating = (claims[SENSITIVITY].value, claims[SPECIFICITY].value)
    wanted = (0.0, 0.0) if math.isnan(sum(operating)) else operating
    recalibrated, local, judged_with = [], tuple[Compared, ...](), None
    for count in sorted(set(counts)):
        if why := too_few(rows.labels, rows.cases, count):
            recalibrated.append(Recalibrated(count, why_not=why))
            continue
        drawn = list(draws_of(rows.labels, rows.probabilities, rows.cases, count, wanted, seed=seed))
        recalibrated.append(Recalibrated(count, _bands(rows, drawn, _rates(model))))
        local, judged_with = compared(_local(rows, drawn), claims, margin), count
    of_patients = rows.of_patients(MAXIMUM)
    said, reasons = verdict(shipped, local, judged_with, of_patients.labels, margin)
    return Acceptance(
        model=model.name,
        version=model.version,
        digest=model.digest,
        threshold=cut,
        margin=margin,
        images=len(told),
        cases=len(of_patients.labels),
        malignant=int(rows.labels.sum()),
        malignant_cases=int(of_patients.labels.sum()),
        failed=failed,
        measured=tuple(_measured(rows, cut)),
        shipped=shipped,
        recalibrated=tuple(recalibrated),
        fitted=_fitted(rows, wanted, seed),
        judged_with=judged_with,
        local=local,
        verdict=said,
        reasons=reasons,
        notes=cases.notes,
        triage={} if model.package.refusal is None else _triage(triage),
        local_triage=_fitted_triage(rows, _rates(model)),
        answers=tuple((image, probability) for image, probability, _ in answers),
    )


def _triage(rows: Sequence[tuple[LocalImage, str]]) -> dict[str, Estimate]:
    """What the rules of a package do to images that all are true ones."""
    said = np.array([word for _, word in rows], np.str_)
    labels = np.array([image.label for image, _ in rows], np.int64)
    cases = np.array([image.patient for image, _ in rows], np.str_)
    shares = {
        "refused": (said == "refused", labels >= 0),
        "uncertain": (said == "uncertain", labels >= 0),
        "malignant called low": (said == "low", labels == 1),
        "benign called high": (said == "high", labels == 0),
        "benign among low": (labels == 0, said == "low"),
    }
    return {name: share_of(event[of].astype(np.float64), cases[of]) for name, (event, of) in shares.items()}


def _shipped(rows: _Rows, threshold: float) -> dict[str, Estimate]:
    """The claimed metrics at one threshold; NaN of one whose label is not there."""
    called = (rows.probabilities >= threshold).astype(np.float64)
    positive = rows.labels == 1
    return {
        ROC_AUC: roc_area(rows.labels, rows.probabilities, rows.cases),
        SENSITIVITY: share_of(called[positive], rows.cases[positive]),
        SPECIFICITY: share_of(1 - called[~positive], rows.cases[~positive]),
    }


def _local(rows: _Rows, drawn: Sequence[Draw]) -> dict[str, Estimate]:
    """The same at the thresholds of fits, each image as those call it that were fitted without its case."""
    cuts = np.array([each.fit.threshold for each in drawn])
    called = (rows.probabilities >= cuts[:, None]).astype(np.float64)
    outside = np.stack([each.rest for each in drawn])
    times = np.maximum(outside.sum(axis=0), 1)
    share = (called * outside).sum(axis=0) / times
    found = {ROC_AUC: roc_area(rows.labels, rows.probabilities, rows.cases)}
    for metric, label in ((SENSITIVITY, 1), (SPECIFICITY, 0)):
        own = (rows.labels == label) & outside.any(axis=0)
        values = share[own] if label else 1 - share[own]
        # How the share differs from one fit to the next is not to be had from the mean over them.
        between = float(called[:, own].mean(axis=1).var(ddof=1))
        found[metric] = share_of(values, rows.cases[own], between)
    return found


def _measured(rows: _Rows, threshold: float) -> Iterator[Measured]:
    kinds = {IMAGE: rows}
    if len(np.unique(rows.cases)) < rows.labels.size:
        kinds |= {how: rows.of_patients(how) for how in (MAXIMUM, MEAN)}
    names = sorted(set(rows.scanners) - {""})
    kinds |= {f"scanner {name}": rows.only(rows.scanners == name) for name in names}
    for unit, own in kinds.items():
        for metric, found in _shipped(own, threshold).items():
            yield Measured(unit, metric, own.labels.size, int(own.labels.sum()), found)


def _rates(model: BusModel) -> tuple[float, float] | None:
    """Nominal rates of missed cases and of false alarms; None of a package without triage."""
    rule = model.package.refusal and model.package.refusal.triage
    return (rule.miss_rate, rule.false_alarm_rate) if rule else None


def _fitted_triage(rows: _Rows, rates: tuple[float, float] | None) -> TriageRule | None:
    return None if rates is None else fit_rule(rows.labels, rows.probabilities, rows.cases, *rates)


def _triaged(rows: _Rows, rule: TriageRule | None) -> dict[str, float]:
    """What a rule does to images that it was not calibrated on; nothing where it calls none low."""
    if rule is None or rule.low is None or rule.nominal_npv is None:
        return {}
    low = called_by(rule, rows.probabilities) == "low"
    shares = {"nominal_npv": rule.nominal_npv, "low": float(low.mean())}
    shares["missed"] = float(low[rows.labels == 1].mean())
    return shares | ({"npv": float(1 - rows.labels[low].mean())} if low.any() else {})


def _bands(rows: _Rows, drawn: Sequence[Draw], rates: tuple[float, float] | None) -> dict[str, Band]:
    lines: dict[str, list[float]] = {}
    for each in drawn:
        fit, own = each.fit, rows.only(each.rest)
        called = own.probabilities >= fit.threshold
        values = {
            "threshold": fit.threshold,
            SENSITIVITY: float(called[own.labels == 1].mean()),
            SPECIFICITY: float(1 - called[own.labels == 0].mean()),
            **_parameters(fit.platt, fit.temperature),
            "brier": _brier(own, Calibration()),
            "brier_platt": _brier(own, fit.platt),
            "brier_temperature": _brier(own, fit.temperature),
            **_triaged(own, _fitted_triage(rows.only(~each.rest), rates)),
        }
        for name, value in values.items():
            lines.setdefault(name, []).append(value)
    return {name: Band(*band(values)) for name, values in lines.items()}


def _fitted(rows: _Rows, wanted: tuple[float, float], seed: int) -> dict[str, Band]:
    """What all cases fit, and between which two 95 of 100 fits to as many other cases would lie."""
    whole = fit_all(rows.labels, rows.probabilities, wanted)
    fits = refits(rows.labels, rows.probabilities, rows.cases, wanted, seed)
    drawn = [{"threshold": each.threshold, **_parameters(each.platt, each.temperature)} for each in fits]
    own = {"threshold": whole.threshold, **_parameters(whole.platt, whole.temperature)}
    return {name: Band(value, *band([each[name] for each in drawn])[1:]) for name, value in own.items()}


def _parameters(platt: Calibration, temperature: Calibration) -> dict[str, float]:
    return {"slope": platt.slope, "intercept": platt.intercept, "temperature": 1 / temperature.slope}


def _brier(rows: _Rows, calibration: Calibration) -> float:
    return float(np.mean((calibration.apply(rows.probabilities) - rows.labels) ** 2))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return _plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
