"""The page "What differs from the paper and from its code": `differences`, beside the values of the profiles.

`bus-mlops profile --differences` prints it, and a test compares it with the committed page: a changed profile, key or
default changes the page or has no value for it, which is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from bus_mlops.config import Config, Plateau
from bus_mlops.config.training import TrainingDefaults
from bus_mlops.experiments.differences import CODE, PAPER, Difference
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.models.zoo import entry
from bus_mlops.spec import LATER, RunSpec

_HEAD = """# What differs from the paper and from its code

<!-- Written by `bus-mlops profile --differences` from the profiles and bus_mlops/experiments/differences.py. -->

The profile `paper` does what the paper says, `official-code` what the authors' released scripts do where the two
differ. Neither does all of it. Each row says what they do, what is done here, why, and which key of `params.yaml`
decides it, with its value in that profile; where there is no key, it is not a choice. Facts about the scripts are from
`MIDA-Lab/busbench`, commit 9666bea.
"""


def render(paper: Config, code: Config) -> str:
    """The page, in Markdown.

    Args:
        paper: The profile `paper`.
        code: The profile `official-code`.

    Raises:
        KeyError: A difference names a key that a profile does not have.
    """
    parts = [
        _HEAD,
        "## The profile `paper` and the paper\n",
        *_table("the paper", paper, PAPER),
        "\n## The profile `official-code` and the scripts\n",
        *_table("the scripts", code, CODE),
        "\n## What the two profiles set differently\n",
        "Of the networks it is how they are trained unless a strategy says otherwise: the rows of Tables 4 to 7 vary",
        "what their tables are about, weights, changes of images, losses, optimizers.\n",
        *_contrast(paper, code),
        "\n## The keys behind it\n",
        "Below `training` for all networks, below `networks.NAME` for one (there `null` means: as `training`). In a",
        "run's fingerprint each counts only where it changes something: runs recorded before it existed are found.\n",
        "| key | default | what |",
        "|---|---|---|",
        *(_documented(TrainingDefaults, name, name) for name in LATER),
        *(_documented(Plateau, name, f"plateau.{name}") for name in Plateau.model_fields),
    ]
    return "\n".join(parts) + "\n"


def _table(theirs: str, config: Config, differences: Iterable[Difference]) -> Iterator[str]:
    yield f"| what | {theirs} | here | why | decided by |"
    yield "|---|---|---|---|---|"
    for each in differences:
        decided = "<br>".join(f"`{key}: {_text(_value(config, key))}`" for key in each.keys) or "-"
        yield f"| {each.topic} | {each.theirs} | {each.ours} | {each.reason} | {decided} |"


def _contrast(paper: Config, code: Config) -> Iterator[str]:
    yield "| key | `paper` | `official-code` | of |"
    yield "|---|---|---|---|"
    for name in Config.model_fields:
        if name not in ("profile", "networks"):
            for key, *values in _unequal(name, getattr(paper, name), getattr(code, name)):
                yield f"| `{key}` | {' | '.join(values)} | all |"
    networks: dict[tuple[str, ...], list[str]] = {}
    for name in code.networks:
        for found in _unequal("", _spec(paper, name).training, _spec(code, name).training):
            networks.setdefault(found, []).append(f"`{name}`")
    for (key, *values), names in networks.items():
        yield f"| `{key}` | {' | '.join(values)} | {', '.join(names)} |"


def _unequal(key: str, left: Any, right: Any) -> Iterator[tuple[str, str, str]]:
    """Key and both values wherever two models differ, down to the same kinds of sections."""
    if isinstance(left, BaseModel) and type(left) is type(right):
        for name in type(left).model_fields:
            yield from _unequal(f"{key}.{name}".lstrip("."), getattr(left, name), getattr(right, name))
    elif left != right:
        yield key, _text(left), _text(right)


def _spec(config: Config, network: str) -> RunSpec:
    return make_spec(config, network, "multitask" if entry(network).task.segments else "all")


def _value(config: Config, key: str) -> Any:
    """What a key comes to: of a network, what it is trained with in the end."""
    section, *path = key.split(".")
    value: Any = config
    if section == "networks":
        name, *path = path
        spec = _spec(config, name)
        value = spec if path[0] == "options" else spec.training
    else:
        path = [section, *path]
    for step in path:
        if step not in type(value).model_fields:
            raise KeyError(key)
        value = getattr(value, step)
    return value


def _text(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(each)}" for name, each in value.items()) + "}"
    if isinstance(value, tuple):
        return ", ".join(_text(each) for each in value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _documented(model: type[BaseModel], name: str, key: str) -> str:
    found = model.model_fields[name]
    return f"| `{key}` | `{_text(found.default)}` | {found.description} |"
