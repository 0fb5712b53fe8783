"""What a model card says beside `Package`: values that a promotion has at hand when it writes the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus_mlops.consumer.package_format import JudgedNumber

if TYPE_CHECKING:
    from bus_mlops.gate.report import GateReport
    from bus_mlops.spec import RunSpec


@dataclass(frozen=True)
class SourceCounts:
    """What became of the images of one source.

    Attributes:
        listed: Entries of the source; `kept` of them were assembled.
        excluded: How many of the others were left out, by reason.
        in_folds: Of those kept: the folds hold them, locked and external ones included.
    """

    name: str
    listed: int
    kept: int
    cases: int
    benign: int
    malignant: int
    with_mask: int
    excluded: Mapping[str, int]
    in_folds: int


@dataclass(frozen=True)
class AuditCounts:
    """What the audit of all assembled images found."""

    images: int
    groups: int
    exact_duplicate_pairs: int
    near_duplicate_pairs: int
    conflicting_clusters: int
    conflicting_cases: int


@dataclass(frozen=True)
class PartCounts:
    """One part of one fold, or what no fold touches."""

    name: str
    images: int
    cases: int
    malignant: int


@dataclass(frozen=True)
class SubgroupNumbers:
    """What was judged, at the threshold that ships, in one subgroup; `too_small` says of a metric why it is not."""

    grouping: str
    name: str
    images: int
    malignant: int
    numbers: Mapping[str, JudgedNumber]
    too_small: Mapping[str, str]


@dataclass(frozen=True)
class Failures:
    """Test images on the wrong side of the threshold that ships; `worst` are the furthest from it: id, probability."""

    kind: str
    count: int
    of: int
    worst: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Corrupted:
    """How far a metric fell when images were changed (fraction; positive is worse)."""

    corruption: str
    parameter: str
    metric: str
    drop: JudgedNumber


@dataclass(frozen=True)
class Probed:
    """What the stage `probe` found of the candidate's own networks, one a fold.

    Attributes:
        explanations: By metric of the explanations' table.
        robustness: At the greatest strength of each corruption.
        cost: Of one network, by metric: parameters, multiply_accumulates, latency_ms, peak_memory_mb.
    """

    images: int = 0
    explanations: Mapping[str, JudgedNumber] = field(default_factory=dict)
    robustness: tuple[Corrupted, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CardEvidence:
    """What the items of a card are answered from; what is empty there is no evidence of.

    Attributes:
        report: The gate's, on the package's answers; rules that look at the finished package come after the card.
        spec: Of the run of the first member.
        seeds: Of the trainings.
        chosen: How the parameters were chosen.
        leaks: What the check of the folds says: `passed`, or where a group is torn.
        groups: Leakage groups in the folds, the largest of which has `largest_group` images.
        intent: The sha256 of the terms on which the first run was begun; `terms` says what was changed since.
        look: What could be spent of alpha.
        absent: Why there is nothing of a kind (`sources`, `probed`), with what would make it.
    """

    report: GateReport | None = None
    spec: RunSpec | None = None
    seeds: tuple[int, ...] = ()
    chosen: str = ""
    sources: tuple[SourceCounts, ...] = ()
    audit: AuditCounts | None = None
    folds_kind: str = ""
    parts: tuple[PartCounts, ...] = ()
    groups: int = 0
    largest_group: int = 0
    leaks: str = ""
    intent: str = ""
    terms: str = ""
    look: str = ""
    subgroups: tuple[SubgroupNumbers, ...] = ()
    failures: tuple[Failures, ...] = ()
    probed: Probed = Probed()
    absent: Mapping[str, str] = field(default_factory=dict)
