"""What recorded networks answer for an external cohort: asked once, and kept in MLflow, a run a cohort.

Who reads a cohort says so first, as a decision does: the report is a look of the registered name, for all networks that
it asks, and a later candidate that is none of them needs a reason to be judged there.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bus_mlops.dataset.folds.sealed import SealedCohort
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.promotion.external_cohorts import announce_report
from bus_mlops.tracking.search import search_all

if TYPE_CHECKING:
    from mlflow.entities import Run

    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.tracking.ledger import Ledger

KIND = "external"
# Raise it when the same network gives the same images other answers.
VERSION = 1
Answers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CohortAnswers:
    """The answers for one cohort on record, and the means to add to them.

    Attributes:
        images: The ids of the cohort's images, in the order of all answers.
        run: Of MLflow, that keeps them.
    """

    cohort: SealedCohort
    digest: str
    images: tuple[str, ...]
    run: str
    ledger: Ledger

    @classmethod
    def open(cls, ledger: Ledger, experiment: str, name: str, cohort: SealedCohort, digest: str) -> CohortAnswers:
        """Find or create the run of a cohort.

        Args:
            ledger: Of the project.
            experiment: Its id, in MLflow.
            name: The registered model's.
            cohort: As folds.csv has it.
            digest: Of its images, labels and groups.
        """
        tags = {"kind": KIND, "model": name, "cohort": cohort.name, "digest": digest}
        query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
        found: list[Run] = search_all(ledger.client, experiment, query)
        if found:
            run = str(found[-1].info.run_id)
        else:
            title = f"{cohort.name}, {len(cohort.frame)} images"
            run = str(ledger.client.create_run(experiment, tags=tags, run_name=title).info.run_id)
            ledger.client.set_terminated(run, "FINISHED")
        return cls(cohort, digest, tuple(sorted(cohort.frame["image_id"])), run, ledger)

    def known(self, who: Iterable[str]) -> set[str]:
        """Which of some networks have answered already."""
        recorded = self.ledger.artifact_digests(self.run)
        return {each for each in who if self._file(each) in recorded}

    def announce(self, benchmark: Benchmark, predictions: Iterable[str]) -> None:
        """Write on record that recorded networks are about to be asked, before they are.

        Args:
            benchmark: The assembled images.
            predictions: The sha256 of what each of the networks predicted of its own parts.
        """
        cohort = ExternalCohort(self.cohort.name, self.digest, len(self.images), self.cohort.related)
        announce_report(self.ledger.client, self.run, cohort, self.images, benchmark, predictions)

    def ask(self, who: str, compute: Callable[[], Answers]) -> Answers:
        """The recorded answers of a network (N,), in the order of `images`; else they are computed and recorded."""
        import pandas as pd

        if not self.known([who]):
            frame = pd.DataFrame({"image_id": self.images, "probability": compute()})
            with tempfile.TemporaryDirectory(prefix="bus-external-") as name:
                path = Path(name) / self._file(who)
                path.parent.mkdir(parents=True)
                frame.to_csv(path, index=False, lineterminator="\n", na_rep="nan")
                digests = self.ledger.files.store(self.run, Path(name))
            self.ledger.writer.write(self.run, params=digests)
            self.ledger.files.forget(self.run)
        with tempfile.TemporaryDirectory(prefix="bus-external-") as name:
            path = self.ledger.artifact(self.run, self._file(who), Path(name))
            # As text first: how pandas reads numbers is not exact to the last digit in every version.
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        return frame.set_index("image_id")["probability"].loc[list(self.images)].to_numpy(np.float64)

    def _file(self, who: str) -> str:
        key = json.dumps({"version": VERSION, "who": who, "images": self.digest}, sort_keys=True)
        return f"answers/{hashlib.sha256(key.encode()).hexdigest()[:32]}.csv"
