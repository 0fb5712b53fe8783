"""A spec as parameters of a run, which MLflow keeps flat and as text, and back."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from bus_mlops.config.intent import INTENT_DIGEST

# Which kind of loss or optimizer has a field: runs of earlier versions record all of them, without effect.
OF_ONE_KIND = {
    "loss": ("kind", {"positive_weight": "cross_entropy", "gamma": "focal", "alpha": "focal"}),
    "optimizer": ("name", {"momentum": "sgd"}),
}


# Before a file's path: the name of the parameter that holds its sha256 (`run_files`).
DIGEST_PREFIX = "sha256."


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping with dots in its names and text as values; what is None is left out.

    >>> flatten({"training": {"epochs": 3, "sizes": [1, 2], "plateau": None}})
    {'training.epochs': '3', 'training.sizes': '1, 2'}
    """
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, list):
            flat[name] = ", ".join(str(item) for item in value)
        elif value is not None:  # "None" could not be told from a text
            flat[name] = str(value)
    return flat


def nested(flat: Mapping[str, str]) -> dict[str, Any]:
    """What `flatten` made of a spec, as a mapping again; all values but those of options stay text.

    Digests, of a run's files and of the intent that it was begun with, are parameters too; they are left out.

    >>> nested({"training.loss.kind": "cross_entropy", "training.loss.gamma": "2.0", "cohort": "busi, busis"})
    {'training': {'loss': {'kind': 'cross_entropy'}}, 'cohort': ['busi', 'busis'], 'options': {}}
    """
    values: dict[str, Any] = {}
    for name, text in flat.items():
        if name.startswith(DIGEST_PREFIX) or name == INTENT_DIGEST:
            continue
        *path, last = name.split(".")
        inner = values
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = text
    values["cohort"] = values.get("cohort", "").split(", ")
    # An option may be of any type; the other fields know theirs.
    values["options"] = {name: _literal(text) for name, text in values.get("options", {}).items()}
    for section, (key, owners) in OF_ONE_KIND.items():
        inner = values.get("training", {}).get(section, {})
        for name, owner in owners.items():
            if inner.get(key) != owner:
                inner.pop(name, None)
    return values


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
