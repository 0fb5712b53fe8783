"""`RunSpec`: one training, identified by what it computes and by nothing else.

Two specs that compute the same numbers have the same canonical form, and with the digests of the data and the
folds the same fingerprint; a (fingerprint, fold) cell that the ledger holds as FINISHED is never trained again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self

from pydantic import Field, model_validator

from bus_mlops.config.base import Strict
from bus_mlops.config.training import Training

# Raise it when a change of the code changes the numbers that a spec leads to: every cell is then trained anew.
NUMERICS_VERSION = 2
# What came later: it counts only where it changes what was always done, so that what is recorded stays found.
LATER = ("steps_per_epoch", "plateau", "kept_epoch", "head_initializer", "validation")
# Likewise of the optimizer: the rule for its learning rate.
LATER_OF_OPTIMIZERS = ("schedule", "warmup_epochs")
# The most epochs that a training may have.
LONGEST = 10_000


class Task(StrEnum):
    """What a network predicts: the probability of malignancy, the lesion's mask, or both."""

    CLASSIFICATION = "classification"
    MULTITASK = "multitask"
    SEGMENTATION = "segmentation"

    @property
    def classifies(self) -> bool:
        """Whether there is an output "malignancy"."""
        return self is not Task.SEGMENTATION

    @property
    def segments(self) -> bool:
        """Whether there is an output "mask"."""
        return self is not Task.CLASSIFICATION


class CellKey(NamedTuple):
    """One training of a model whose spec is known: the fold (1-based) and the seed; sorts by fold first."""

    fold: int
    seed: int


class LedgerKey(NamedTuple):
    """What the ledger knows a cell by: the fingerprint of its spec (64 hexadecimal digits) and the fold."""

    fingerprint: str
    fold: int


class Inner(Strict):
    """One of the parts that the train and validation images of a fold are divided into: it validates, the others train.

    Attributes:
        fold: Which of them, from 1.
        count: How many there are.
    """

    fold: int = Field(ge=1)
    count: int = Field(ge=2, le=20)

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.fold > self.count:
            raise ValueError(f"inner fold {self.fold} of {self.count}: fold must lie between 1 and count")
        return self


class RunSpec(Strict):
    """One network, trained one way, on one cohort of images; the fold comes on top of it."""

    network: str = Field(description="name in the zoo, e.g. mobilenet or mt_estan")
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    cohort: tuple[str, ...] = Field(description="the sources whose images are used")
    task: Task
    training: Training
    seed: int
    code: str = Field(default="", description="sha256 of the file of a network of the user's own")
    inner: Inner | None = Field(
        default=None, description="of trials only: divides a fold's train and validation part anew, not its test part"
    )

    def canonical(self) -> dict[str, Any]:
        """What the run computes, with everything that has no effect removed."""
        values = self.model_dump(mode="json")
        values["numerics"] = NUMERICS_VERSION
        values["cohort"] = sorted(self.cohort)
        if not self.code:
            values.pop("code")
        if self.inner is None:
            values.pop("inner")
        for name in LATER:
            if not self._matters(name):
                values["training"].pop(name)
        for name in LATER_OF_OPTIMIZERS:
            if getattr(self.training.optimizer, name) == type(self.training.optimizer).model_fields[name].default:
                values["training"]["optimizer"].pop(name)
        loss = values["training"]["loss"]
        if not self.task.segments:
            loss.pop("mask_weight")
        if not self.task.classifies:
            loss.clear()
        return values

    def _matters(self, name: str) -> bool:
        """Whether one of the later settings changes any number."""
        training = self.training
        if getattr(training, name) == Training.model_fields[name].default:
            return False
        if name == "plateau":
            return training.plateau is not None and training.plateau.acts(
                training.optimizer.learning_rate, training.epochs
            )
        if name == "validation":  # an inner fold says itself who validates
            return self.inner is None
        if name == "head_initializer":  # that of all heads of the zoo; networks of the user's own may have another
            return self.task.classifies and (training.head_initializer != "glorot_uniform" or bool(self.code))
        return True

    def fingerprint(self, data_digest: str, folds_digest: str, refit: bool = False) -> str:
        """64 hexadecimal digits over the canonical form and the digests of images and folds.

        A `refit`, trained on all images of the folds, never shares one with the spec's fold runs.
        """
        values: dict[str, Any] = {"spec": self.canonical(), "data": data_digest, "folds": folds_digest}
        if refit:
            values["refit"] = True
        return _digest(values)

    def course(self, data_digest: str, folds_digest: str) -> str:
        """64 hexadecimal digits that trainings share which differ in `epochs` alone: one is the beginning of another.

        What acts only after some epochs counts too, so that no longer training takes up one that knows nothing of it.
        A learning rate that falls to 0 by the last epoch is another from the first on: nothing else is a beginning.
        """
        falls = self.training.optimizer.schedule == "cosine"
        training = self.training if falls else self.training.model_copy(update={"epochs": LONGEST})
        spec = self.model_copy(update={"training": training}).canonical()
        return _digest({"course": spec, "data": data_digest, "folds": folds_digest})

    def program_key(self) -> str:
        """Cells with the same key share one compiled program: all that shapes the graph, nothing that does not."""
        training = self.canonical()["training"]
        values: dict[str, Any] = {
            "network": self.network,
            "options": self.options,
            "code": self.code,
            "task": self.task,
            "input_size": self.training.input_size,
            "scaling": self.training.scaling,
            "dropout": self.training.dropout,
            "batch_norm_momentum": self.training.batch_norm_momentum,
            "head_initializer": training.get("head_initializer"),
            "optimizer": training["optimizer"],
        }
        # A variable of the program, not part of its graph, as are the rules for it.
        for name in ("learning_rate", *LATER_OF_OPTIMIZERS):
            values["optimizer"].pop(name, None)
        return json.dumps(values, sort_keys=True)


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def network_title(network: str, options: Mapping[str, object]) -> str:
    """A network with its options, which change its cost: what speeds are grouped by.

    >>> network_title("mt_estan", {"width": 0.25, "encoder": "mobilenet"})
    'mt_estan (encoder mobilenet, width 0.25)'
    """
    listed = ", ".join(f"{name} {value}" for name, value in sorted(options.items()))
    return f"{network} ({listed})" if listed else network
