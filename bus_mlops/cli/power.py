"""`bus-mlops gate --power`: what the gate can see, before anything is trained. Heavy imports happen inside."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from bus_mlops.paragraphs import say

if TYPE_CHECKING:
    from bus_mlops.gate.power_cohort import Cohort

Power = Annotated[
    bool, typer.Option("--power", help="What the gate could see with these images; before anything is trained.")
]
Images = Annotated[
    int | None, typer.Option("--images", help="With --power: this many images, instead of those of the folds.", min=1)
]
Malignant = Annotated[
    int | None, typer.Option("--malignant", help="With --images: how many of them are malignant.", min=1)
]
FoldCount = Annotated[
    int | None, typer.Option("--folds", help="With --power: this many folds, instead of your own.", min=2)
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="With --power: this many seeds, instead of your own.", min=1)
]
Area = Annotated[
    float | None,
    typer.Option("--area", help="With --power: the baseline's true area under the ROC curve, 0.5 to 1. Default: 0.91."),
]


@dataclass(frozen=True)
class PowerQuestion:
    """What a user asks instead of what the project has; None: as the project has it."""

    images: int | None = None
    malignant: int | None = None
    folds: int | None = None
    seeds: int | None = None
    area: float | None = None

    def require_nothing(self) -> None:
        """Refuse options that are for --power alone."""
        if self != PowerQuestion():
            raise typer.BadParameter("--images, --malignant, --folds, --seeds and --area are for --power")

    def answer(self, as_json: bool) -> None:
        """Print the report: of the project's folds, or of the counts that were given."""
        from bus_mlops.gate.power import USUAL_AREA, power_report
        from bus_mlops.paths import PARAMS
        from bus_mlops.project import load_config

        promotion = load_config().promotion.model_dump(mode="json") if PARAMS.exists() or self.images is None else {}
        report = power_report(self._cohort(), promotion, USUAL_AREA if self.area is None else self.area)
        if as_json:
            print(json.dumps(report.to_dict(), indent=2))
            return
        for line in report.to_lines():
            say(line)

    def _cohort(self) -> Cohort:
        from bus_mlops.dataset.folds.assignment import Folds
        from bus_mlops.gate.power_cohort import Cohort
        from bus_mlops.paths import FOLDS, PARAMS
        from bus_mlops.project import load_config
        from bus_mlops.promotion.cohort import cohort_of, seeds_of

        if (self.images is None) != (self.malignant is None):
            raise typer.BadParameter("--images and --malignant belong together: power depends on both")
        if self.images is not None and self.malignant is not None:
            config = load_config() if PARAMS.exists() else None
            folds = self.folds or (config.fold_count if config else None)
            seeds = self.seeds or (seeds_of(config) if config else None)
            if folds is None or seeds is None:
                raise typer.BadParameter("here is no params.yaml to take them from: give --folds and --seeds, too")
            share = config.folds.validation if config else 0.2
            return Cohort.of_counts(self.images, self.malignant, folds, seeds, share)
        path = FOLDS / "folds.csv"
        if not path.exists():
            raise typer.BadParameter(
                f"{path} is not there yet: run `dvc repro folds`, which trains nothing, or give --images and "
                "--malignant"
            )
        own = cohort_of(load_config(), Folds.open(path))
        folds = self.folds or own.folds
        # What lies outside a test part grows with the number of folds, and its validation part with it.
        validation = own.validation * (1 - 1 / folds) / (1 - 1 / own.folds)
        return replace(own, folds=folds, seeds=self.seeds or own.seeds, validation=validation)
