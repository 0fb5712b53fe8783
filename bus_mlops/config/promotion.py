"""What `params.yaml` says about promotion: who is compared with whom, by what, and what is registered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bus_mlops.config.base import MetricName, Strict


class PromotionConfig(Strict):
    """Which models are compared, and by what; the limits that a candidate must keep come from the gate's rules.

    `project.promotion_section` derives the model that has the keys of every registered rule. Margins and floors are
    fractions, those of sources in the metric. The defaults are for models of patients' images.
    """

    candidate_network: str = Field(
        default="mt_estan", description="the network that wants to be champion; names the model"
    )
    candidates: tuple[str, ...] = Field(
        default=("approaches",),
        min_length=1,
        description="searches of the candidate network, by name, or approaches: as it is; several share alpha (Holm)",
    )
    challengers: tuple[str, ...] = Field(
        default=(),
        description="named like candidates; after these each is judged alone, in this order, against the champion then",
    )
    baseline: str = Field(
        default="champion",
        description="'champion' (for the first one: the best row of `multitask` and `approaches` that is not "
        "of the candidate network), 'best' (always that row) or a network",
    )
    threshold: Literal["youden", "half"] = Field(
        default="youden", description="where malignant begins: youden, chosen on validation parts, or half, 0.5"
    )
    look_share: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="share of what is left of alpha on these test images, spent by a look [fraction]",
    )
    protocol: str | None = Field(
        default=None, description="the digest of the terms, as `bus-mlops protocol` prints it; null: not pinned"
    )
    signing_key: str | None = Field(
        default=None,
        description="the private key (PEM), outside of the project, that signs what is registered and decided; "
        "BUS_MLOPS_SIGNING_KEY goes before it; null: nothing is signed",
    )
    signing_certificate: str | None = Field(
        default=None,
        description="the key's certificate and those between it and an authority (PEM); null: consumers trust the key",
    )
    bootstrap: int = Field(
        default=2000, ge=100, description="resamples of each interval, of whole leakage groups [resamples]"
    )
    metric: MetricName = Field(
        default="roc_auc",
        description="what must be better, and must fall in no source: a metric of probabilities, also your own",
    )


class PackageConfig(Strict):
    """What is registered of a candidate."""

    members: Literal["all", "one", "refit"] = Field(
        default="all",
        description="the networks of all folds and seeds, the one that is best on its validation part, or one a seed "
        "trained anew on all images, which the gate cannot test",
    )
    refusal_rate: float = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="share of looks at training images, held out and perturbed, that may be refused as odd [fraction]",
    )
    miss_rate: float = Field(
        default=0.05, gt=0, lt=0.5, description="nominal share of malignant cases that triage may call low [fraction]"
    )
    false_alarm_rate: float = Field(
        default=0.1, gt=0, lt=0.5, description="nominal share of benign cases that triage may call high [fraction]"
    )
