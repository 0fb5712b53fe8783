"""What a model package holds: `package.json` as a typed object, within bounds, and the checksums beside it.

package.json            this module's `Package`
MODEL_CARD.md           the same for people: use, data, evidence, limits
members/fold_1.keras    a network without compile state, to go on training with
members/fold_1.onnx     the same network for consumers
example.png, example_prediction.json
sbom.cdx.json           what trained it and what runs it, with licences (CycloneDX); none in packages of before
SHA256SUMS              one line a file, as `sha256sum -c` reads it
model.sig               where it was signed: a signature over all of these files (`signatures`), not among the sums
registry.json           in an exported copy only: this module's `Origin`
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from bus_mlops.consumer.refusal import Refusal, Share
from bus_mlops.consumer.standing import Standing

PACKAGE_FILE = "package.json"
CARD_FILE = "MODEL_CARD.md"
SUMS_FILE = "SHA256SUMS"
ORIGIN_FILE = "registry.json"
SIGNATURE_FILE = "model.sig"
SBOM_FILE = "sbom.cdx.json"
EXAMPLE_IMAGE = "example.png"
EXAMPLE_PREDICTION = "example_prediction.json"
# Name of the package among the artifacts of the MLflow model.
ARTIFACT = "package"
# Tag of a model version that consumers read.
DIGEST_TAG = "package.sha256"
NOTICE = "Research use only: not a medical device, and not to be used for diagnosis."

# Float32 sigmoids reach 0 and 1 exactly, where the logit does not exist.
_TINY = 1e-7
# More than any package that is written: ten folds with twenty seeds, and sides that a network can take.
MAX_MEMBERS = 200
MAX_SIDE = 4096
MAX_DEPTH = 8


def logit(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)) of probabilities (N,) that are kept away from 0 and 1, where it does not exist."""
    inside = np.clip(probabilities, _TINY, 1 - _TINY)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-x)) of logits (N,), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))), dtype=np.float64)


class Calibration(BaseModel):
    """Platt scaling of a network's probability: sigmoid(slope * logit(p) + intercept); by default nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    intercept: float = Field(default=0.0, allow_inf_nan=False)

    def __call__(self, probability: float) -> float:
        """The calibrated probability, 0-1; never changes the order of two probabilities.

        >>> round(Calibration(slope=2, intercept=0)(0.75), 12)
        0.9
        """
        return float(self.apply([probability])[0])

    def apply(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The calibrated probabilities (N,), 0-1; NaN stays NaN."""
        p = np.asarray(probabilities, dtype=np.float64)
        if (self.slope, self.intercept) == (1.0, 0.0):
            return p
        return sigmoid(self.slope * logit(p) + self.intercept)


def combine(answers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The answer of several networks: the mean over the first axis of their calibrated probabilities (M, N).

    NaN where one of them has no answer: the mean over the others would be another model's.
    """
    return np.asarray(answers.mean(axis=0), dtype=np.float64)


def _require_inside(name: str) -> str:
    if not is_inside(name):
        raise ValueError(f"{name[:100]!r} is no path within the package")
    return name


Inside = Annotated[str, AfterValidator(_require_inside)]


class Member(BaseModel):
    """One network of the ensemble: the same weights as `.keras` and as ONNX."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keras: Inside
    onnx: Inside
    calibration: Calibration = Calibration()
    max_difference: float = Field(ge=0, le=1, description="greatest |Keras - ONNX| seen at export, in probability")


class JudgedNumber(BaseModel):
    """A number with its 95 % interval, all fractions; an interval that cannot be had is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimate: float = Field(allow_inf_nan=False)
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    method: str = Field(default="", description="how the interval was made, and what it does not cover")

    def __str__(self) -> str:
        """As people read it.

        >>> str(JudgedNumber(estimate=0.9, low=0.85, high=0.94)), str(JudgedNumber(estimate=0.9))
        ('0.900 (0.850 to 0.940)', '0.900 (no interval)')
        """
        known = self.low is not None and self.high is not None
        return f"{self.estimate:.3f} ({f'{self.low:.3f} to {self.high:.3f}' if known else 'no interval'})"


class ExternalNumbers(BaseModel):
    """What the whole package was measured at on images that no fold touches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(ge=1, description="that were judged")
    malignant: int = Field(ge=0, description="of these images")
    digest: str = Field(description="of these images, their labels and leakage groups")
    numbers: dict[str, JudgedNumber] = Field(description="by metric; at the threshold that ships")
    shares: dict[str, Share] = Field(
        default_factory=dict,
        description="that the package's rules refuse for their look, and call low, uncertain, high",
    )


class ScoreBins(BaseModel):
    """How probabilities were spread among the images that were judged, one of each case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        max_length=100, description="between the bins, rising; a probability on an edge lies above it"
    )
    counts: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=101, description="cases, by bin")

    @model_validator(mode="after")
    def _fit(self) -> ScoreBins:
        if len(self.counts) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges rise, and there is one bin more than edges")
        return self

    @classmethod
    def of(cls, probabilities: npt.ArrayLike, bins: int = 20) -> ScoreBins:
        """Bins of about as many of these probabilities (N,) each.

        >>> ScoreBins.of([0.1, 0.2, 0.6, 0.9], bins=2)
        ScoreBins(edges=(0.4,), counts=(2, 2))
        """
        values = np.asarray(probabilities, dtype=np.float64)
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins).round(6))
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        return cls(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))

    def place(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The bin (N,) of each probability, from 0."""
        return np.searchsorted(np.array(self.edges), np.asarray(probabilities), side="right")


class JudgedNumbers(BaseModel):
    """What the gate measured of what ships, on images that no network behind an answer had seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    construction: Literal["ensemble", "single", "refit"] = Field(
        description="what ships; of a refit its folds' networks"
    )
    images: int = Field(ge=1, description="that were judged")
    malignant: int = Field(ge=0, description="of these images")
    cases: int = Field(ge=1)
    folds: int = Field(ge=1)
    networks: int = Field(ge=1, description="behind each answer that was judged")
    ships: int = Field(ge=1, description="networks behind each answer that the package gives")
    answered: int = Field(ge=0, description="of the images, by the package itself; the others as its networks recorded")
    threshold: float = Field(ge=0, le=1, description="that ships, at which `numbers` hold")
    numbers: dict[str, JudgedNumber] = Field(
        description="sensitivity, specificity, roc_auc, brier, calibration_error of the answers; at `threshold`"
    )
    at_fold_thresholds: dict[str, JudgedNumber] = Field(
        description="sensitivity and specificity where each fold has the threshold of its own validation part"
    )
    external: dict[str, ExternalNumbers] = Field(
        default_factory=dict, description="by `locked` or source: what no fold touches, judged once"
    )
    scores: ScoreBins | None = Field(default=None, description="of the answers that were judged; for `bus-mlops drift`")
    alone: dict[str, float] = Field(
        default_factory=dict, description="the same as `numbers` of one network alone, in the mean over all networks"
    )

    @property
    def sentence(self) -> str:
        """What was judged, what ships instead, and what that means."""
        if self.answered == self.images:
            asked = "answers of this package"
        else:
            asked = f"answers, of which this package gave {self.answered} and the others are as its networks recorded"
        behind = "one network" if self.networks == 1 else f"the mean of {self.networks} networks"
        judged = (
            f"Judged on {self.images} test images ({self.malignant} malignant; {self.cases} cases) of {self.folds} "
            f"folds: {asked}. Each is {behind} of the image's fold, which had not seen it."
        )
        return f"{judged} {self._difference}"

    @property
    def in_words(self) -> str:
        """Sensitivity and specificity at the threshold that ships, in a line; "" where they were not computable."""
        said = [f"{name} {number}" for name in ("sensitivity", "specificity") if (number := self.numbers.get(name))]
        if not said:
            return ""
        return f"Of {self.images} test images, unseen by the networks that answered: {', '.join(said)}."

    @property
    def _difference(self) -> str:
        if self.construction == "refit":
            return f"What answers is {self.ships} refitted on all of these images, which were never tested."
        if self.construction == "single":
            return "What answers is one of these, the best on validation images."
        if self.ships == self.networks:
            return "The same networks answer."
        gain = ""
        if self.networks > 1 and "roc_auc" in self.alone and "roc_auc" in self.numbers:
            gain = (
                f" One network alone has an ROC AUC of {self.alone['roc_auc']:.3f}, the means that were judged have "
                f"{self.numbers['roc_auc'].estimate:.3f}."
            )
        return (
            f"What answers is the mean of all {self.ships}: a mean over more networks, trained on other images, which "
            f"no image is left to measure; the numbers are those of the smaller means.{gain}"
        )


class Package(BaseModel):
    """`package.json`: what a consumer must know to predict, and where the model comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=256, description="registered name, or the network's")
    bus_mlops_version: str
    input_size: int = Field(ge=1, le=MAX_SIDE, description="side of the square input in pixels")
    color: Literal["gray", "rgb"]
    threshold: float = Field(ge=0, le=1, description="probability from which on the label is malignant")
    outputs: tuple[Literal["malignancy", "mask"], ...] = Field(min_length=1, max_length=2)
    members: tuple[Member, ...] = Field(min_length=1, max_length=MAX_MEMBERS)
    phantom: bool = Field(description="trained on synthetic images")
    trained_on: str = Field(min_length=1, description="the sources, and what else a reader should know")
    lineage: dict[str, Any] = Field(default_factory=dict, description="run ids, digests, git commit")
    gate: str | None = Field(default=None, description="the promotion gate's verdict, if it has run")
    judged: JudgedNumbers | None = Field(default=None, description="what the gate measured, if it has run")
    refusal: Refusal | None = Field(default=None, description="how it tells what it cannot answer; None: it cannot")
    notice: str = NOTICE

    @field_validator("outputs")
    @classmethod
    def _outputs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "malignancy" not in value or len(set(value)) < len(value):
            raise ValueError("a package answers with 'malignancy' and, if multitask, 'mask'")
        return value

    @field_validator("members")
    @classmethod
    def _members(cls, value: tuple[Member, ...]) -> tuple[Member, ...]:
        names = [name for member in value for name in (member.keras, member.onnx)]
        if len(set(names)) < len(names):
            raise ValueError("each member has files of its own")
        return value

    @field_validator("lineage")
    @classmethod
    def _lineage(cls, value: dict[str, Any]) -> dict[str, Any]:
        if _depth(value) > MAX_DEPTH:
            raise ValueError(f"deeper than {MAX_DEPTH} levels")
        return value

    @property
    def has_mask(self) -> bool:
        """Whether the networks also predict the lesion mask."""
        return "mask" in self.outputs


class ExamplePrediction(BaseModel):
    """`example_prediction.json`: what the package answered to its example when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(ge=0, le=1)
    spread: float = Field(ge=0, le=1)
    label: Literal["benign", "malignant"]
    threshold: float = Field(ge=0, le=1)


class Origin(BaseModel):
    """`registry.json`: as which version a copy was registered, tied to its content by the digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str | None
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of SHA256SUMS")
    standing: Standing | None = Field(default=None, description="what was decided about it, as of the copy")
    decision: dict[str, str] | None = Field(default=None, description="the signed record that says so")

    def is_of(self, other: Origin) -> bool:
        """Whether both are copies of one version, whatever was decided about it between them."""
        return (self.name, self.version, self.digest) == (other.name, other.version, other.digest)

    @property
    def timeless(self) -> Origin:
        """The same whenever it was written."""
        standing = self.standing and self.standing.model_copy(update={"as_of": ""})
        return self.model_copy(update={"standing": standing})


def _depth(value: Any) -> int:
    """Levels of lists and mappings; no deeper than JSON's reader goes, which has a bound of its own."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 0


def is_inside(name: str) -> bool:
    """Whether a path is written plainly and names a file below the package on every system."""
    path = PurePosixPath(name)
    plain = str(path) == name and name.isprintable() and not set(name) & set('\\:*?"<>|')
    return plain and len(name) <= 255 and not path.is_absolute() and not {"", ".", ".."} & set(path.parts)
