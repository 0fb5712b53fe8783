"""Triage that is calibrated on cases: at promotion on validation parts, and by `bus-mlops accept` on a hospital's own.

What a package's rule promises holds for images like those that it was calibrated on. A rule that was fitted to local
cases promises the same for local ones; it is kept in a file, beside the digest of the package whose answers it is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from bus_mlops.consumer.refusal import TriageRule, conformal_cut, conformal_place
from bus_mlops.errors import RegistryError
from bus_mlops.files import printable, replacing

Array = npt.NDArray[Any]


class LocalTriage(BaseModel):
    """A rule of triage and whose answers it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    digest: str
    triage: TriageRule


def fit_rule(
    labels: Array, probabilities: Array, cases: Array, miss_rate: float, false_alarm_rate: float
) -> TriageRule:
    """Class-conditional split conformal cuts, on one score a case: of its images the one that is easiest got wrong.

    Args:
        labels: Of the images, (N,), 0 or 1.
        probabilities: What was answered, (N,), 0-1.
        cases: The case of each, (N,).
        miss_rate: Of malignant cases, nominal.
        false_alarm_rate: Of benign cases, nominal.
    """
    least, member = _of_cases(np.minimum, probabilities[labels == 1], cases[labels == 1], 1.0)
    most, _ = _of_cases(np.maximum, probabilities[labels == 0], cases[labels == 0], 0.0)
    high = conformal_cut(-most, false_alarm_rate)
    rule = TriageRule(
        miss_rate=miss_rate,
        false_alarm_rate=false_alarm_rate,
        malignant_cases=len(least),
        benign_cases=len(most),
        low=conformal_cut(least, miss_rate),
        high=None if high is None else -high,
    )
    low = called_by(rule, probabilities) == "low"
    benign = float((low & (labels == 0)).mean())
    malignant = float((labels == 1).mean()) * _expected_misses(rule, least, probabilities[labels == 1], member)
    return rule.model_copy(update={"nominal_npv": benign / (benign + malignant) if low.any() else None})


def _expected_misses(rule: TriageRule, least: Array, probabilities: Array, member: Array) -> float:
    """The share of malignant images that the rule is expected to call low in cases that it was not calibrated on.

    Each calibration case (least probability (K,)) is judged by the k-th least of the others. Of one image a case, that
    finds k of K, and k of K + 1 is expected of a new one; of several, only some of a case's images lie as low as its
    least. `member` has the case of each of the probabilities (n,).
    """
    if rule.low is None:
        return 0.0
    after_it = min(conformal_place(len(least), rule.miss_rate), len(least) - 1)
    without = np.where(least <= rule.low, np.sort(least)[after_it], rule.low)[member]
    high = np.inf if rule.high is None else rule.high
    return float(((probabilities < without) & (probabilities <= high)).mean()) * len(least) / (len(least) + 1)


def called_by(rule: TriageRule, probabilities: Array) -> Array:
    """What a rule says of each of (N,) probabilities."""
    return np.array([rule.of(float(p)) for p in probabilities], np.str_)


def _of_cases(best: np.ufunc, values: Array, cases: Array, start: float) -> tuple[Array, Array]:
    """The best value of each case, (K,), and the place there of each value's case, (n,)."""
    names, member = np.unique(cases, return_inverse=True)
    found = np.full(len(names), start)
    best.at(found, member, values)
    return found, member


def write_triage(path: Path, model: str, digest: str, rule: TriageRule) -> None:
    """Write a rule for the answers of a model, told by its name and its package's digest."""
    known = LocalTriage(model=model, digest=digest, triage=rule)
    with replacing(path) as temporary:
        temporary.write_text(known.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_triage(path: str | Path, model: str, digest: str) -> TriageRule:
    """The rule in a file, for the answers of that model.

    Raises:
        RegistryError: The file cannot be read, holds no such rule, or one for another package.
    """
    try:
        known = LocalTriage.model_validate_json(Path(path).read_bytes(), strict=True)
    except OSError as error:
        raise RegistryError(f"{printable(path)} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise RegistryError(
            f"{printable(path)} holds no triage of `bus-mlops accept --out DIR`: {error.errors()[0]['msg']} at "
            f"{'.'.join(map(str, error.errors()[0]['loc'])) or 'its beginning'}."
        ) from error
    if known.digest != digest:
        raise RegistryError(
            f"{printable(path)} was calibrated on answers of {known.model} {known.digest[:12]}, and this is {model} "
            f"{digest[:12]}: its probabilities are others. Run `bus-mlops accept` with this model."
        )
    return known.triage
