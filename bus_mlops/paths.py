"""Where the pipeline keeps its files, relative to the project folder (the one that holds params.yaml)."""

from pathlib import Path

PARAMS = Path("params.yaml")
# What users add: networks, strategies, metrics, rules of the gate (docs/how-to/add-a-*.md).
EXTENSIONS = Path("extensions")

PHANTOM = Path("data/phantom")
BENCHMARK = Path("data/benchmark")
AUDIT = Path("data/audit")
FOLDS = Path("data/folds")
# Written by `bus-mlops folds import`, by no stage.
OFFICIAL_FOLDS = Path("data/folds-official")

RESULTS = Path("results")
PLAN = RESULTS / "plan"
# Beside the plans: the rows that are left out of them, a line each.
LEFT_OUT_FILE = "left_out.csv"
PREDICTIONS = RESULTS / "predictions"
SEARCH = RESULTS / "search"
PROBES = RESULTS / "probes"
EXTERNAL = RESULTS / "external"
# Rows that were trained on folds that leak as well: the folds, what leaks, the predictions.
PREMIUM = RESULTS / "premium"
METRICS = RESULTS / "metrics.json"
HEADLINE = RESULTS / "headline.json"
REPORT = RESULTS / "report.html"
PROMOTION = RESULTS / "promotion"
# Says when results were given up since the store had lost their runs; whatever asks the ledger depends on it.
LEDGER = RESULTS / "ledger.json"

# Of trainings that were cut off; a file goes when its training ends. Safe to delete.
CHECKPOINTS = Path("checkpoints")
# Of probes, so that one that was cut off goes on, and a latency is measured once. Safe to delete.
PROBED = CHECKPOINTS / "probes"

# Optuna's journals: outside every DVC output, so that a stage that runs again resumes its study.
STUDIES = Path("studies")

_COPIES = "/.dvc/tmp/exps/"


def home() -> Path:
    """The project whose store, studies and caches a process in the working folder uses.

    That folder, or where it is a copy made by `dvc exp run --temp` or `--queue`, the project that it was copied from:
    a copy is thrown away, and its runs would be lost with it.
    """
    project, is_copy, _ = f"{Path.cwd().as_posix()}/".partition(_COPIES)
    return Path(project) if is_copy else Path()
