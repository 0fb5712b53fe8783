"""Stage `folds`: cross-validation with a validation part in every fold, made by ourselves or imported."""

from bus_mlops import paths
from bus_mlops.config import IMPORTED_FOLDS, Config
from bus_mlops.dataset.audit import read_groups
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.exclusions import kept, read_exclusions
from bus_mlops.dataset.folds.make import describe_balance, make_folds, require_sources, write_folds
from bus_mlops.dataset.folds.official import official_folds, read_imported
from bus_mlops.dataset.folds.sealed import sealed_counts, sealed_words
from bus_mlops.entry import run_stage
from bus_mlops.paragraphs import tell


def main(config: Config) -> None:
    manifest = Benchmark.open(paths.BENCHMARK).frame
    groups = read_groups(paths.AUDIT / "groups.csv")
    remaining = kept(manifest, read_exclusions(paths.AUDIT / "exclusions.csv"), config.audit.exclude)
    if config.folds.kind == "source":
        require_sources(remaining[~remaining["source"].isin(config.external)], config.fold_sources)
    kind, count = config.folds.kind, config.folds.count
    if kind in IMPORTED_FOLDS:
        rows = read_imported(paths.OFFICIAL_FOLDS, kind, count)
        folds = official_folds(rows, manifest, groups, config.external, kind)
        folds = folds[folds["image_id"].isin(remaining["image_id"])].reset_index(drop=True)
    else:
        folds = make_folds(remaining, groups, config.folds, config.seed, config.external)
    reached = write_folds(folds, config.folds.kind, paths.FOLDS)
    count = reached["fold"].nunique()
    groups_used = folds["group"].nunique()
    tell("folds", f"{count} {config.folds.kind} folds of {len(folds)} images in {groups_used} leakage groups")
    for line in sealed_words(sealed_counts(folds)):
        tell("folds", line)
    if len(remaining) < len(manifest):
        tell("folds", f"audit.exclude: {config.audit.exclude} leaves out {len(manifest) - len(remaining)} images")
    if config.folds.kind not in ("source", "device"):  # whose test parts are one source or scanner each
        tell("folds", describe_balance(reached))


if __name__ == "__main__":
    run_stage(main)
