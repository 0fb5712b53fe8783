"""What a model package holds: `package.json` as a typed object, and the checksums of every file beside it.

package.json            this module's `Package`
MODEL_CARD.md           the same for people: use, data, evidence, limits
members/fold_1.keras    a network without compile state, to go on training with
members/fold_1.onnx     the same network for consumers
example.png, example_prediction.json
SHA256SUMS              one line a file, as `sha256sum -c` reads it
registry.json           in an exported copy only: this module's `Origin`
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus_mlops.errors import RegistryError

PACKAGE_FILE = "package.json"
CARD_FILE = "MODEL_CARD.md"
SUMS_FILE = "SHA256SUMS"
ORIGIN_FILE = "registry.json"
EXAMPLE_IMAGE = "example.png"
EXAMPLE_PREDICTION = "example_prediction.json"
# Name of the package among the artifacts of the MLflow model.
ARTIFACT = "package"
# Tags of a model version that consumers read.
DIGEST_TAG = "package.sha256"
GATE_TAG = "gate"
NOTICE = "Research use only: not a medical device, and not to be used for diagnosis."

# Float32 sigmoids reach 0 and 1 exactly, where the logit does not exist.
_TINY = 1e-7
_SUM_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")


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


class Member(BaseModel):
    """One network of the ensemble: the same weights as `.keras` and as ONNX."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keras: str
    onnx: str
    calibration: Calibration = Calibration()
    max_difference: float = Field(description="greatest |Keras - ONNX| seen at export, in probability")


class Package(BaseModel):
    """`package.json`: what a consumer must know to predict, and where the model comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, description="registered name, or the network's")
    bus_mlops_version: str
    input_size: int = Field(ge=1, description="side of the square input in pixels")
    color: Literal["gray", "rgb"]
    threshold: float = Field(ge=0, le=1, description="probability from which on the label is malignant")
    outputs: tuple[Literal["malignancy", "mask"], ...]
    members: tuple[Member, ...] = Field(min_length=1)
    phantom: bool = Field(description="trained on synthetic images")
    trained_on: str = Field(min_length=1, description="the sources, and what else a reader should know")
    lineage: dict[str, Any] = Field(default_factory=dict, description="run ids, digests, git commit")
    gate: str | None = Field(default=None, description="the promotion gate's verdict, if it has run")
    notice: str = NOTICE

    @property
    def has_mask(self) -> bool:
        """Whether the networks also predict the lesion mask."""
        return "mask" in self.outputs


class Origin(BaseModel):
    """`registry.json`: as which version a copy was registered, tied to its content by the digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str | None
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of SHA256SUMS")


def read_origin(folder: Path) -> Origin | None:
    """The origin of an exported copy; None for a package that was never exported."""
    path = folder / ORIGIN_FILE
    return parse_origin(path.read_bytes(), str(path)) if path.is_file() else None


def parse_origin(content: bytes, where: str) -> Origin:
    """The content of a `registry.json`.

    Raises:
        RegistryError: It is not one.
    """
    try:
        return Origin.model_validate_json(content)
    except ValidationError as error:
        raise RegistryError(f"{where} was changed: {error.errors()[0]['msg']}. Export the package again.") from None


def read_package(folder: Path) -> Package:
    """Read `package.json`.

    Raises:
        RegistryError: It is missing or not of this version.
    """
    path = folder / PACKAGE_FILE
    try:
        return Package.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RegistryError(
            f"{folder} is not a model package: it has no {PACKAGE_FILE}. Give `models:/NAME@champion`, "
            "`models:/NAME/VERSION` or the folder of a package."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or PACKAGE_FILE
        raise RegistryError(
            f"{path}: {key}: {first['msg']}. It was written by another version of bus-mlops, or changed by "
            "hand; write the package anew, or install the version that wrote it."
        ) from None


def sha256_file(path: Path) -> str:
    """64 hexadecimal digits over a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(folder: Path) -> Path:
    """Write SHA256SUMS over every file of a package."""
    apart = (folder / SUMS_FILE, folder / ORIGIN_FILE)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in apart)
    lines = [f"{sha256_file(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    path = folder / SUMS_FILE
    path.write_text("".join(lines), encoding="utf-8")
    return path


def verify(folder: Path, package: Package, digest: str | None = None) -> None:
    """Check every file of a package against SHA256SUMS, and that file against `digest` if one is given.

    Raises:
        RegistryError: Names the first file that is missing, changed, or used without being listed.
    """
    sums = read_sums(folder)
    if digest is not None and sha256_file(folder / SUMS_FILE) != digest:
        raise RegistryError(
            f"{folder / SUMS_FILE} is not the file that was registered (its sha256 is not {digest}): the "
            "package was changed after registration. Register a new version; do not use this one."
        )
    used = [PACKAGE_FILE, *(name for m in package.members for name in (m.keras, m.onnx))]
    for name in (*sums, *used):
        path = folder / name
        if name not in sums:
            raise RegistryError(f"{path} is not listed in {SUMS_FILE}: the package was changed. Do not use it.")
        if not path.is_file():
            raise RegistryError(f"{path} is missing, though {SUMS_FILE} lists it. Fetch the package again.")
        if sha256_file(path) != sums[name]:
            raise RegistryError(
                f"{path} was changed: its sha256 is not the one in {SUMS_FILE}. Do not use it; fetch the package again."
            )


def read_sums(folder: Path) -> dict[str, str]:
    """The sha256 of every file that SHA256SUMS lists.

    Raises:
        RegistryError: It is missing or names a file outside.
    """
    path = folder / SUMS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RegistryError(f"{path} is missing: the package cannot be checked. Fetch it again.") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _SUM_LINE.match(line)
        if match is None or not _inside(match[2]):
            raise RegistryError(f"{path}:{number}: not a checksum line: {line[:100]!r}. Fetch the package again.")
        sums[match[2]] = match[1]
    return sums


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
