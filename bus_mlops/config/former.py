"""Sections of `params.yaml` that earlier versions had, and what is written now to say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# What was tried of each path, if a section did not say, and on what steps.
_RANGES = {
    "classification_weight": ((0.5, 5.0), 0.25, ""),
    "positive_weight": ((1.0, 5.0), 0.25, "cross_entropy"),
    "gamma": ((1.0, 5.0), 0.5, "focal"),
    "alpha": ((0.2, 0.9), 0.05, "focal"),
}


def search_now(section: Any) -> str:
    """What the section `search`, one study of the loss of MT-ESTAN, is today.

    >>> print(search_now({"trials": 3, "losses": ["cross_entropy"]}))
    there may be several searches now, each with a name. In its place write
    searches:
      mt_estan_loss:
        network: mt_estan
        strategy: approaches
        space:
          loss.classification_weight: {low: 0.5, high: 5, step: 0.25}
          loss.kind: [cross_entropy]
          loss.positive_weight: {low: 1, high: 5, step: 0.25}
        trials: 3
        objective: roc_auc
    and mt_estan_loss for tuned in promotion.candidates (network: promotion.candidate_network). It then
    chooses for each fold on images outside its test part; what was done before is `nested: false` with `folds: [1]`
    """
    old: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    losses = list(old.get("losses", ("cross_entropy", "focal")))
    lines = []
    for name, (usual, step, kind) in _RANGES.items():
        if kind and kind not in losses:
            continue
        low, high = old.get(name, usual)
        fits = abs((high - low) / step - round((high - low) / step)) < 1e-6
        inside = [f"low: {low:g}, high: {high:g}", *([f"step: {step:g}"] if fits else [])]
        inside += [f"when: {{loss.kind: {kind}}}"] if kind and len(losses) > 1 else []
        lines.append(f"      loss.{name}: {{{', '.join(inside)}}}")
    lines.insert(1, f"      loss.kind: [{', '.join(map(str, losses))}]")
    folds = ", ".join(map(str, old.get("folds", (1,))))
    return "\n".join(
        [
            "there may be several searches now, each with a name. In its place write",
            "searches:",
            "  mt_estan_loss:",
            "    network: mt_estan",
            "    strategy: approaches",
            "    space:",
            *lines,
            f"    trials: {old.get('trials', 20)}",
            *([f"    epochs: {old['epochs']}"] if old.get("epochs") else []),
            f"    objective: {old.get('objective', 'roc_auc')}",
            "and mt_estan_loss for tuned in promotion.candidates (network: promotion.candidate_network). It then",
            "chooses for each fold on images outside its test part; what was done before is `nested: false` with "
            f"`folds: [{folds}]`",
        ]
    )


# A whole key -> what its value is today.
FORMER: dict[str, Callable[[Any], str]] = {"quality": lambda _: "did you mean 'audit'?", "search": search_now}
