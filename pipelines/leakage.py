"""Stage `leakage`: stops the run when a leakage group or a case lies in two parts of a fold; the last before training.

Official and image-level folds leak by their nature; there it goes on, and the count stays with every number.
So it is also where it is said what the gate will hardly pass with these folds.
"""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.audit import read_groups
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.exclusions import kept, read_exclusions
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import LEAKING_KINDS, check_leakage, describe, require_current
from bus_mlops.entry import run_stage
from bus_mlops.errors import DatasetError
from bus_mlops.files import write_json
from bus_mlops.paragraphs import tell
from bus_mlops.promotion.cohort import power_notes


def main(config: Config) -> None:
    exclusions = read_exclusions(paths.AUDIT / "exclusions.csv")
    frame = kept(Benchmark.open(paths.BENCHMARK).frame, exclusions, config.audit.exclude)
    folds = Folds.open(paths.FOLDS / "folds.csv", frame["image_id"])
    if folds.kind != config.folds.kind:
        raise DatasetError(
            f"{paths.FOLDS} holds folds of kind {folds.kind}, params.yaml asks for {config.folds.kind}. "
            "Run `dvc repro folds`."
        )
    require_current(folds, frame, read_groups(paths.AUDIT / "groups.csv"))
    checked = check_leakage(folds, tolerate=folds.kind in LEAKING_KINDS)
    write_json(paths.FOLDS.parent / "leakage.json", checked)
    tell("leakage", describe(checked))
    for note in power_notes(config, folds):
        tell("leakage", note)


if __name__ == "__main__":
    run_stage(main)
