"""Items of the checklists on the model and its training."""

from __future__ import annotations

from bus_mlops.consumer.package_format import Calibration
from bus_mlops.packaging.card_item import Item, Known, ids, listed, software


def _architecture(known: Known) -> str:
    package, spec = known.package, known.evidence.spec
    options = ", ".join(f"{name} {value}" for name, value in spec.options.items()) if spec else ""
    name = f"`{spec.network}`{f' ({options})' if options else ''}, {spec.task}: " if spec else ""
    cost = known.evidence.probed.cost
    units = {"parameters": "parameters", "multiply_accumulates": "multiply-accumulates"}
    units |= {"latency_ms": "ms an image on the machine that probed it", "peak_memory_mb": "MB of memory at most"}
    size = listed((f"{cost[name]:,.4g} {unit}" for name, unit in units.items() if name in cost), "")
    size = size and f" One network: {size}."
    return (
        f"{name}one image of {package.input_size} x {package.input_size} x 3 in, {' and '.join(package.outputs)} "
        f"out.{size} Every layer and weight: {', '.join(member.keras for member in package.members)}."
    )


def _initialization(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    seeds = ", ".join(map(str, known.evidence.seeds))
    head = spec.training.head_initializer or "the network's own"
    return f"Weights: {spec.training.weights}; hidden layers of the head: {head}; seeds {seeds}."


def _training(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    values = spec.training.model_dump(mode="json")
    said = (f"{name} {_plain(value)}" for name, value in values.items() if value is not None)
    return f"The first run's (of others see 12c): {listed(said)}"


def _tuning(known: Known) -> str:
    chosen = {
        "fixed": "Parameters stood in params.yaml",
        "nested": "Parameters were chosen by a search, for each fold on images outside its test part",
        "flat": "Parameters were chosen by a search on images that are tested on",
    }
    said = chosen.get(known.evidence.chosen, "")
    which = known.package.lineage.get("chosen", "")
    return listed([said, f"which: {which}" if said and which else ""])


def _selection(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    kept = {"best": "the lowest validation loss", "last": "the last epoch"}[spec.training.kept_epoch]
    return f"Of each training the weights of {kept}; of several trainings those under Members, by `package.members`."


def _ensemble(known: Known) -> str:
    count = len(known.package.members)
    return "None: one network." if count == 1 else f"The mean of {count} members, each after its own calibration."


def _imbalance(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    loss = _plain(spec.training.loss.model_dump(mode="json"))
    return f"By the loss alone: {loss}. Probabilities are calibrated afterwards on parts that were not resampled."


def _output(known: Known) -> str:
    report = known.evidence.report
    chosen = {"youden": ", Youden's over the members' validation parts", "half": ", whatever the images"}
    how = chosen.get(report.threshold, "") if report else ""
    return f"A probability of malignancy (0-1), and a label: malignant from {known.package.threshold:.4f} on{how}."


def _prediction(known: Known) -> str:
    asked = known.package.judged.answered if known.package.judged else 0
    return (
        "`load_model(URI).predict(images)`: each member's probability p becomes sigmoid(slope * logit(p) + intercept) "
        f"with its numbers under Members, then their mean. The gate asked the same code about {asked} test images."
    )


def _updating(known: Known) -> str:
    fitted = sum(member.calibration != Calibration() for member in known.package.members)
    return (
        f"Platt's calibration of {fitted} of {len(known.package.members)} members, on validation parts; nothing was "
        "fitted to another setting."
    )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_plain(each)}' for name, each in value.items() if each is not None)})"
    return str(value)


ITEMS: dict[str, tuple[Item, ...]] = {
    "Model": (
        Item(ids("22", "22"), "architecture and full specification", _architecture),
        Item(ids("23"), "software", software),
        Item(ids("24"), "initial weights", _initialization),
        Item(ids("27"), "ensemble", _ensemble),
        Item(ids("", "15"), "output and threshold", _output),
        Item(ids("", "12g"), "how a prediction is computed", _prediction),
    ),
    "Training": (
        Item(ids("25"), "training", _training),
        Item(ids("", "12c"), "choice of model and of its parameters", _tuning),
        Item(ids("26"), "which training stays", _selection),
        Item(ids("", "13"), "imbalance of classes", _imbalance),
        Item(ids("", "12f 24"), "recalibration and updating", _updating),
    ),
}
