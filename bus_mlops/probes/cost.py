"""What a network costs as it ships: parameters, multiply-accumulates, latency and memory, measured once a machine.

None of it depends on weights, so untrained networks are measured.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.consumer.package_format import PACKAGE_FILE, Member, Package
from bus_mlops.errors import NetworkError
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.files import write_json
from bus_mlops.probes.cache import ProbeCache
from bus_mlops.probes.rows import Trained, with_runs
from bus_mlops.spec import RunSpec, network_title
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

COST_COLUMNS = (
    *("strategy", "model", "variant", "network", "architecture", "input_size", "parameters"),
    *("multiply_accumulates", "latency_ms", "threads", "peak_memory_mb", "machine"),
)
# Of one measurement, with the start of the process.
TIMEOUT = 600


def architecture(spec: RunSpec) -> str:
    """A network with its options and input size: all that its cost depends on.

    >>> from bus_mlops.config import Training
    >>> training = Training.model_validate({"input_size": 64})
    >>> options = {"width": 0.5}
    >>> spec = RunSpec(network="estan", options=options, cohort=(), task="segmentation", training=training, seed=1)
    >>> architecture(spec)
    'estan (width 0.5) at 64 px'
    """
    return f"{network_title(spec.network, spec.options)} at {spec.training.input_size} px"


def specs_of(row: PlannedRow, plan: StrategyPlan, trained: Trained, ledger: Ledger) -> list[RunSpec]:
    """What a row was trained with: the plan's spec, or the recorded ones where a search chose for each fold."""
    if row.choice and not row.chosen_in:
        return [ledger.spec(run) for run in with_runs(row, trained, ledger).runs.values()]
    own = [each for each in plan.rows if each.model == row.model]
    return [next((each for each in own if each.variant == row.variant), own[0]).spec]


def row_costs(
    plans: Mapping[str, StrategyPlan], trained: Trained, ledger: Ledger, cache: ProbeCache, only: Collection[PlannedRow]
) -> Iterator[pd.DataFrame]:
    """A line with the cost of each row's network, of a row whose folds differ that of the costliest.

    Args:
        plans: Of all strategies.
        trained: Their rows.
        ledger: Of what was trained.
        cache: Of what was measured.
        only: These rows; empty: all.
    """
    frames: dict[str, pd.DataFrame] = {}
    for strategy, rows in trained.plans.items():
        for row in rows:
            if row.ensemble or (only and row not in only):
                continue
            specs = {architecture(spec): spec for spec in specs_of(row, plans[strategy], trained, ledger)}
            for name, spec in specs.items():
                if name not in frames:
                    frames[name] = measured(spec, cache)
            costliest = max(
                (frames[name] for name in specs), key=lambda each: int(each["multiply_accumulates"].iloc[0])
            )
            columns = {"strategy": strategy, "model": row.model, "variant": row.variant, "network": row.network}
            yield costliest.assign(**columns)[list(COST_COLUMNS)]


def measured(spec: RunSpec, cache: ProbeCache) -> pd.DataFrame:
    """One line: the cost of a spec's network, that of an earlier measurement on this machine if there is one."""
    import onnxruntime

    from bus_mlops.limits import core_count

    machine = f"{_processor()}, onnxruntime {onnxruntime.__version__}"
    key = {"cost": architecture(spec), "code": spec.code, "machine": machine, "threads": core_count()}
    return cache.frame(key, lambda: _measured(spec, machine))


def _measured(spec: RunSpec, machine: str) -> pd.DataFrame:
    import pandas as pd

    from bus_mlops.models import zoo
    from bus_mlops.models.cost import multiply_accumulates
    from bus_mlops.models.framework import keras
    from bus_mlops.packaging.onnx_export import write_onnx

    network = zoo.build(spec)
    with tempfile.TemporaryDirectory(prefix="bus-cost-") as name:
        folder = Path(name)
        shipped: dict[str, float] = {}
        if spec.task.classifies:  # a network for masks alone has no package
            shipped = _in_own_process(folder, spec, write_onnx(network, folder / "network.onnx"))
    values = {
        "architecture": architecture(spec),
        "input_size": spec.training.input_size,
        "parameters": network.count_params(),
        "multiply_accumulates": multiply_accumulates(network),
        **{name: shipped.get(name, float("nan")) for name in ("latency_ms", "threads", "peak_memory_mb")},
        "machine": machine,
    }
    keras.backend.clear_session()
    return pd.DataFrame([values])


def _in_own_process(folder: Path, spec: RunSpec, outputs: Sequence[str]) -> dict[str, float]:
    package = Package(
        name=spec.network,
        bus_mlops_version="measured",
        input_size=spec.training.input_size,
        color="gray",
        threshold=0.5,
        outputs=("malignancy", "mask") if "mask" in outputs else ("malignancy",),
        members=(Member(keras="network.keras", onnx="network.onnx", max_difference=0),),
        phantom=True,
        trained_on="nothing: measured only",
    )
    write_json(folder / PACKAGE_FILE, package.model_dump(mode="json"))
    command = [sys.executable, "-m", "bus_mlops.probes.shipped", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise NetworkError(
            f"{architecture(spec)} could not be measured as it ships: {done.stderr.strip().splitlines()[-1:]}. Set "
            "probes.cost to none in params.yaml to go on without."
        )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
