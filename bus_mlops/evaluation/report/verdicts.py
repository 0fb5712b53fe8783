"""What the gate decided in this run, in words: the candidate's verdict and its reason, and those of challengers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus_mlops.files import read_json

# Of several rules that refuse, the one that a reader wants to know of first.
FIRST = "superiority"


def read_challengers(promotion: Path) -> dict[str, dict[str, Any]]:
    """The records `challengers/NAME.json` by name, each with the gate's report on it as `gate`, where there is one."""
    found = {}
    for path in sorted((promotion / "challengers").glob("*.json")):
        report = path.with_suffix("") / "gate.json"
        found[path.stem] = {**read_json(path), "gate": read_json(report) if report.is_file() else None}
    return found


def verdict(gate: Mapping[str, Any] | None, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """State (`promoted`, `refused` or `open`), headline and reason."""
    if gate is None:
        note = (record or {}).get("note") or "The gate has not judged a candidate: run `dvc repro promote`."
        return {"state": "open", "headline": "No verdict", "against": "", "reason": note}
    state = "promoted" if gate["passed"] else "refused"
    judged = [rule for rule in gate["rules"] if rule["passed"] == gate["passed"]]
    decisive = next((rule for rule in judged if rule["title"] == FIRST), judged[0] if judged else None)
    because = f"{decisive['id']} ({decisive['title']}): {decisive['sentence']}" if decisive else ""
    further = len(judged) - 1 if state == "refused" else 0
    return {
        "state": state,
        "headline": f"{state.capitalize()}: {_short(gate['candidate'])}",
        "against": f"{'beats' if gate['passed'] else 'judged against'} {_short(gate['baseline'])}",
        "reason": because + (f" {further} further rule{'s' if further > 1 else ''} refused it too." if further else ""),
    }


def challenger_lines(challengers: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Of each challenger its name, candidate, baseline, decision, and why, where its record says so."""
    lines = []
    for name, record in challengers.items():
        decided = str(record.get("decision") or ("promoted" if record.get("passed") else "refused"))
        gate = record.get("gate")
        why = verdict(gate, None)["reason"] if gate else str(record.get("note") or "")
        lines.append(
            {
                "name": name.replace("_", " "),
                "candidate": _short(str(record.get("candidate", ""))),
                "baseline": _short(str(record.get("baseline", ""))),
                "decision": "not judged" if record.get("passed") is None and "note" in record else decided,
                "state": "promoted" if record.get("passed") else "refused",
                "why": why,
            }
        )
    return lines


def roles(
    gate: Mapping[str, Any] | None,
    record: Mapping[str, Any] | None,
    challengers: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """What rows are to the gate, by its names for them."""
    if gate is None:
        return {}
    found = {gate["baseline"]: "baseline"}
    for each in challengers.values():
        if each.get("candidate"):
            found[str(each["candidate"])] = "champion" if each.get("alias") == "champion" else "challenger, refused"
    champion = bool(record and record.get("alias") == "champion")
    found[gate["candidate"]] = "champion" if champion else "candidate, promoted" if gate["passed"] else "refused"
    return found


def _short(title: str) -> str:
    """A row without its strategy, which the page's tables say."""
    return title.split(": ", 1)[-1]
