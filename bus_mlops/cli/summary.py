"""What a reproduction came to, read from the files that it left: the verdict, a ranking, findings, what to do next.

`Summary.to_dict` is `bus-mlops summary --json`, whose keys docs/reference/json.md explains.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.cli.commands import command
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.results import read_headings
from bus_mlops.files import read_json
from bus_mlops.profiles import FIRST_REAL

if TYPE_CHECKING:
    from bus_mlops.config import Config

RANKED_BY = "roc_auc"
SHOWN_METRICS = (RANKED_BY, "sensitivity", "specificity")
FINDINGS = 5
# What a sentence on a finding begins with, beside what it is about.
_LEAD = re.compile(
    r"^(Not beyond chance among .*?, though alone: )?(It does not show that |[Tt]he opposite shows: |Not tested: )?"
)
# The most telling ones first.
_VERDICTS = ("shown", "opposite", "not shown", "not tested")


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate: `decision` is promoted, refused, forced or none, then `note` says why.

    `reasons` are the sentences of the gate's rules: of those that refused, or of superiority where none did; and that
    the profile names the baseline, where it does.
    """

    decision: str
    candidate: str = ""
    baseline: str = ""
    model: str = ""
    version: int | None = None
    is_champion: bool = False
    reasons: tuple[str, ...] = ()
    note: str = ""

    @property
    def uri(self) -> str | None:
        """How a consumer names the version; a refused one has no alias, so by its number."""
        if not self.model or (self.version is None and not self.is_champion):
            return None
        return f"models:/{self.model}@champion" if self.is_champion else f"models:/{self.model}/{self.version}"


@dataclass(frozen=True)
class Row:
    """A row of the ranking; of each metric (fraction) its mean over folds and the 95 % interval of that, or None."""

    rank: int
    title: str
    strategies: tuple[str, ...]
    images: int
    metrics: dict[str, dict[str, float | None]]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper on our rows: `difference` in percentage points, where there is one for all networks."""

    name: str
    strategy: str
    verdict: str
    text: str
    difference: float | None
    p: float | None
    statement: str
    paper: str


@dataclass(frozen=True)
class Next:
    """A command to go on with, and what for."""

    purpose: str
    command: str


@dataclass(frozen=True)
class Summary:
    """All of it; None or empty where nothing is known."""

    profile: str
    phantom: bool
    verdict: Verdict
    challengers: dict[str, Verdict]
    ranking: tuple[Row, ...]
    findings: tuple[Finding, ...]
    left_out: tuple[dict[str, str], ...]
    left_to_paper: tuple[str, ...]
    searches: dict[str, str]
    time: dict[str, Any] | None
    report: str | None
    next: tuple[Next, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for programs; fractions, seconds, and paths from the project folder."""
        values = asdict(self)
        values["verdict"]["uri"] = self.verdict.uri
        for name, verdict in self.challengers.items():
            values["challengers"][name]["uri"] = verdict.uri
        return values

    @property
    def highlights(self) -> list[Finding]:
        """A few findings in the paper's order: the most telling one of each strategy, then what is left."""
        order = {each.name: place for place, each in enumerate(self.findings)}
        telling = sorted(self.findings, key=lambda each: (_VERDICTS.index(each.verdict), order[each.name]))
        first = {each.strategy: each for each in reversed(telling)}.values()
        chosen = sorted(telling, key=lambda each: (each.verdict == "not tested", each not in first))[:FINDINGS]
        return sorted(chosen, key=lambda each: order[each.name])


def read_summary(
    results: Path, config: Config, left_to_paper: Sequence[str] = (), image: Path | None = None
) -> Summary:
    """Read what a reproduction left under `results`.

    Args:
        results: The folder.
        config: Of the project.
        left_to_paper: What the profile leaves to the profile `paper`, in words.
        image: An example for the consumer's next command.

    Raises:
        EvaluationError: No table has been written.
    """
    from bus_mlops.evaluation.report.searches import search_line
    from bus_mlops.evaluation.searched import read_results

    promotion = results / "promotion"
    record = _read(promotion / "promotion.json")
    verdict = _verdict(record, _read(promotion / "gate.json"), _named(config.promotion.baseline))
    challengers = {
        path.stem: _verdict(_read(path), _read(path.with_suffix("") / "gate.json"))
        for path in sorted(promotion.glob("challengers/*.json"))
    }
    if record and record.get("example"):  # the one that the decision names
        image = Path(record["example"])
    phantom, report = config.data.kind == "phantom", results / "report.html"
    variants = [name for name, search in config.searches.items() if search.is_variant]
    return Summary(
        profile=config.profile,
        phantom=phantom,
        verdict=verdict,
        challengers=challengers,
        ranking=_ranking(_records(results)),
        findings=tuple(_finding(each) for each in _read(results / "findings.json") or ()),
        left_out=tuple(_table(results / "plan" / "left_out.csv")),
        left_to_paper=tuple(left_to_paper),
        searches={name: search_line(each) for name, each in read_results(results).items() if name not in variants},
        time=_read(results / "timing.json"),
        report=str(report) if report.is_file() else None,
        next=tuple(_next(verdict, challengers, phantom, image, report.is_file())),
    )


def example_image(config: Config, manifest: Path, folds: Path) -> Path | None:
    """The first malignant image that the first fold tests, of a source that was used; None before there are folds."""
    tested = next((row["image_id"] for row in _table(folds) if row["label"] == "1" and row.get("fold_1") == "test"), "")
    paths = (row["path"] for row in _table(manifest) if row["image_id"] == tested)
    return next((config.data.root / path for path in paths), None)


def _read(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _records(results: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of the planned strategies that have a table, each with its strategy's title, in their order."""
    found = [
        (heading.title, record)
        for name, heading in read_headings(results / "plan").items()
        for record in _table(results / "tables" / f"{name}.csv")
    ]
    if not found:
        raise EvaluationError(
            f"no results table in {results / 'tables'}: run `make reproduce`, or `dvc repro evaluate`, first."
        )
    return found


def _ranking(records: Sequence[tuple[str, Mapping[str, str]]]) -> tuple[Row, ...]:
    """Rows that classify, the best first; what several tables share (a spec is trained once) stands here once."""
    from bus_mlops.evaluation.report.rows import incomplete, leaks

    shared: dict[object, list[tuple[str, Mapping[str, str]]]] = {}
    for title, record in records:
        if record.get(f"{RANKED_BY}_mean"):  # a network that only draws masks has none
            key = record.get("fingerprint") or (title, record["model"], record["variant"])
            shared.setdefault(key, []).append((title, record))
    ranked = sorted(shared.values(), key=lambda rows: -float(rows[0][1][f"{RANKED_BY}_mean"]))
    made = []
    for rank, rows in enumerate(ranked, start=1):
        record = rows[0][1]
        marks = (leaks(record), leaks(record, "validation_leaks"), incomplete(record))
        made.append(
            Row(
                rank=rank,
                title=f"{record['model']} {record['variant']}".strip(),
                strategies=tuple(dict.fromkeys(title for title, _ in rows)),
                images=int(float(record.get("images") or 0)),
                metrics={name: _metric(record, name) for name in SHOWN_METRICS},
                marks=tuple(filter(None, marks)),
            )
        )
    return tuple(made)


def _metric(record: Mapping[str, str], name: str) -> dict[str, float | None]:
    texts = {part: record.get(f"{name}_{part}", "") for part in ("mean", "low", "high")}
    return {part: float(text) if text else None for part, text in texts.items()}


def _named(baseline: str) -> str:
    """A sentence on a baseline that the profile names, which need not be the best other row; empty for a chosen one."""
    chosen = ("champion", "best")
    return "" if baseline in chosen else f"The profile names the baseline (promotion.baseline: {baseline})."


def _verdict(record: Mapping[str, Any] | None, gate: Mapping[str, Any] | None, named: str = "") -> Verdict:
    if record is None:
        return Verdict("none", note="the gate has not run yet: dvc repro promote")
    if "note" in record:
        return Verdict("none", note=record["note"])
    rules = (gate or {}).get("rules", ())
    failed = [rule for rule in rules if not rule["passed"]]
    said = failed or [rule for rule in rules if "p_adjusted" in rule["values"]]
    return Verdict(
        decision=record["decision"],
        candidate=record["candidate"],
        baseline=record["baseline"],
        model=record["model"],
        version=record["version"],
        is_champion=record.get("alias") == "champion",
        reasons=(*(f"{rule['id']} {rule['title']}: {rule['sentence']}" for rule in said), *((named,) if named else ())),
    )


def _finding(values: Mapping[str, Any]) -> Finding:
    statement, overall = values["statement"], values["overall"]
    text = _LEAD.sub("", statement)
    text = text.partition(": ")[0].partition(" (")[0].rstrip(".")
    if values["verdict"] == "not tested":
        text = values["claim"].rstrip(".") or values["name"].replace("_", " ")
    return Finding(
        name=values["name"],
        strategy=values["strategy"],
        verdict=values["verdict"],
        text=text[:1].upper() + text[1:],
        difference=None if overall is None else 100 * overall["difference"],
        p=values.get("p_adjusted"),
        statement=statement,
        paper=values["paper"],
    )


def _next(
    verdict: Verdict, challengers: Mapping[str, Verdict], phantom: bool, image: Path | None, reported: bool
) -> list[Next]:
    kind = "phantom" if phantom else "image"
    # The last one that became champion, or the refused candidate by its number.
    judged = [each for each in (verdict, *challengers.values()) if each.uri]
    asked = next((each for each in reversed(judged) if each.is_champion), judged[0] if judged else None)
    found = []
    if asked is not None:
        who = "champion" if asked.is_champion else "refused version"
        seen = f"ask the {who} about a malignant {kind}" if image else f"ask the {who} about an image of yours"
        arguments = ("predict", "--model", str(asked.uri), image.as_posix() if image else "IMAGE")
        found.append(Next(seen, command("bus-mlops", *arguments)))
    elif verdict.decision == "none":
        found.append(Next("what the gate could see with these images", command("bus-mlops", "gate", "--power")))
    if phantom:
        found.append(Next("switch to real images (README: your own data)", command("bus-mlops", "profile", FIRST_REAL)))
    else:
        found.append(Next("what changed since the last commit", command("dvc", "metrics", "diff")))
    if not reported:
        found.append(Next("write the report", command("dvc", "repro", "report")))
    found.append(Next("MLflow: leaderboard, curves, searches, registry", command("bus-mlops", "ui")))
    return found
