"""The bill of materials of a package: CycloneDX 1.6, JSON, of what trained it, what runs it, its data and its weights.

It bears no serial number and no time, so that the same environment and the same data give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

import bus_mlops
from bus_mlops.consumer.package_format import Package

# Lineage of a package: what its networks began with.
INITIAL_WEIGHTS = "initial_weights"
WEIGHTS = {
    "imagenet": "as https://keras.io/api/applications publishes them, under their authors' licences",
    "radimagenet": "as RadImageNet's owners give them out (https://www.radimagenet.com), on their terms",
}
CONSUMER, TRAINING = "consumer", "training"


@dataclass(frozen=True)
class DataSet:
    """A source that networks learnt from, and on which terms its owner gives it."""

    name: str
    title: str
    terms: str


def bill_of_materials(package: Package, data_sets: Iterable[DataSet] = ()) -> dict[str, Any]:
    """The document, as JSON values; `data_sets` are those that the package's networks learnt from."""
    model = f"model:{package.name}"
    data = [_data(each) for each in data_sets]
    weights = [_weights(each) for each in str(package.lineage.get(INITIAL_WEIGHTS, "")).split(", ") if each in WEIGHTS]
    software = list(_software())
    own = {
        "type": "machine-learning-model",
        "bom-ref": model,
        "name": package.name,
        "description": f"{package.trained_on}. {package.notice}",
        "licenses": [_licence("that of its data sets and of the weights that it began with; see these")],
        "properties": [_property("phantom", str(package.phantom).lower())],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [*data, *weights, *software],
        "dependencies": [{"ref": model, "dependsOn": [each["bom-ref"] for each in (*data, *weights, *software)]}],
    }


def _data(known: DataSet) -> dict[str, Any]:
    return {"type": "data", "bom-ref": f"data:{known.name}", "name": known.title, "licenses": [_licence(known.terms)]}


def _weights(name: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{name}",
        "name": f"{name} weights",
        "licenses": [_licence(WEIGHTS[name])],
    }


def _software() -> Iterator[dict[str, Any]]:
    """Every distribution here that trains or runs a model, and which of the two."""
    uses = {
        use: {_key(each): each for each in closure(extras)} for use, extras in ((CONSUMER, ""), (TRAINING, "train"))
    }
    for key in sorted({*uses[CONSUMER], *uses[TRAINING]}):
        by = [use for use, found in uses.items() if key in found]
        found = uses[by[0]][key]
        pinned = f"pkg:pypi/{key}@{bus_mlops.__version__ if key == 'bus-mlops' else found.version}"
        yield {
            "type": "library",
            "bom-ref": pinned,
            "name": key,
            "version": found.version,
            "purl": pinned,
            "scope": "required" if CONSUMER in by else "excluded",
            **_licences(found),
            "properties": [_property("environment", use) for use in by],
        }


@cache
def closure(extra: str) -> tuple[Distribution, ...]:
    """bus-mlops with an extra ("" for none), and all that it needs and that is installed here."""
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}
    waiting, asked = [Requirement(f"bus-mlops[{extra}]" if extra else "bus-mlops")], set()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if (name, frozenset(requirement.extras)) in asked:
            continue
        asked.add((name, frozenset(requirement.extras)))
        try:
            found[name] = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # of another system, or an extra that nobody wanted
        for each in map(Requirement, found[name].requires or ()):
            if each.marker is None or any(each.marker.evaluate({"extra": one}) for one in {"", *requirement.extras}):
                waiting.append(each)  # noqa: PERF401 - the list is being worked on
    return tuple(found.values())


def _key(found: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()


def _licences(found: Distribution) -> dict[str, Any]:
    """As its own metadata says it: an SPDX expression, else the classifiers, else its words; may be silent."""
    told = found.metadata
    expression, words = (told[key] if key in told else "" for key in ("License-Expression", "License"))  # noqa: SIM401
    if expression:
        return {"licenses": [{"expression": expression}]}
    marks = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier", []) if each.startswith("License ::")]
    names = marks or words.strip().splitlines()[:1]
    return {"licenses": [_licence(each) for each in names]} if names else {}


def _licence(name: str) -> dict[str, Any]:
    return {"license": {"name": name}}


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"bus-mlops:{name}", "value": value}
