"""`bus-mlops gate`, `promote`, `history`, `rollback`, `verify`: what may be used. Heavy imports happen inside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from bus_mlops.cli.power import Area, FoldCount, Images, Malignant, Power, PowerQuestion, Seeds
from bus_mlops.paragraphs import say

if TYPE_CHECKING:
    from bus_mlops.gate.report import GateReport

Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate", help="Run id of a spec or of one of its folds; several share alpha. Default: params.yaml"
    ),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", help="Run id likewise. Default: promotion.baseline of params.yaml")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]
Full = Annotated[
    bool, typer.Option("--full", help="Predict all images anew with the recorded networks, not a sample of them.")
]
Amend = Annotated[
    str | None,
    typer.Option(
        "--amend",
        help="Why terms hold that were changed after training had begun, or why a cohort that no fold touches may be "
        "read once more; stays in the record.",
    ),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; stays in the record.")]


def gate(
    candidate: Candidates = None,
    baseline: Baseline = None,
    as_json: AsJson = False,
    full: Full = False,
    amend: Amend = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Who would be judged, and at which level; no test number, nothing on record."),
    ] = False,
    power: Power = False,
    images: Images = None,
    malignant: Malignant = None,
    folds: FoldCount = None,
    seeds: Seeds = None,
    area: Area = None,
) -> None:
    """Judge recorded runs by the gate's rules; changes no model.

    Exits with 1 on a refusal. Registers and moves nothing.

    It is a look at the test images all the same, and on record as such: it spends what `promote` would spend of alpha,
    once for the same evidence.

    With --dry-run: which models it would compare, and which look at these images it would be. No number of a test part
    is computed, so that nothing is spent; an account that may only read can do it.

    With --power: what the rules could see with your images, and what they would need; nothing has to be trained.
    """
    question = PowerQuestion(images, malignant, folds, seeds, area)
    if power:
        if candidate or baseline or full or dry_run or amend is not None:
            raise typer.BadParameter(
                "--candidate, --baseline, --full, --dry-run and --amend are for judging, which --power does not do"
            )
        question.answer(as_json)
        return
    question.require_nothing()
    import sys
    from contextlib import redirect_stdout
    from dataclasses import asdict

    from bus_mlops.project import load_config
    from bus_mlops.promotion import records
    from bus_mlops.promotion.inputs import PromotionInputs
    from bus_mlops.promotion.judgement import preview
    from bus_mlops.promotion.promote import look

    why = None if amend is None else records.require_reason(amend, "gate", "--amend")
    inputs = PromotionInputs.open(load_config())
    if dry_run:
        shown = preview(inputs, candidate or (), baseline)
        print(json.dumps(asdict(shown), indent=2) if as_json else "\n".join(shown.to_lines()))
        return
    # What a refit prints on its way is no part of the report, which may be JSON.
    with redirect_stdout(sys.stderr):
        report = look(inputs, candidate or (), baseline, why, full=full)
    _print_report(report, as_json)
    if not report.passed:
        raise typer.Exit(1)


def promote(
    candidate: Candidates = None,
    baseline: Baseline = None,
    force: Annotated[bool, typer.Option("--force", help="Make it champion though the gate refuses.")] = False,
    reason: Reason = None,
    amend: Amend = None,
    full: Full = False,
) -> None:
    """Judge, register, and make champion what passes the gate.

    The stage `promote` does the same. The version is registered with its evidence, whatever the verdict is.
    """
    from bus_mlops.errors import RegistryError
    from bus_mlops.project import load_config
    from bus_mlops.promotion import records
    from bus_mlops.promotion.inputs import PromotionInputs
    from bus_mlops.promotion.promote import promote as decide

    if reason and not force:
        raise RegistryError("--reason is for --force: a promotion through the gate has the gate's reasons.")
    why = records.require_reason(reason, "promote --force") if force else None
    amended = None if amend is None else records.require_reason(amend, "promote", "--amend")
    outcome = decide(PromotionInputs.open(load_config()), candidate or (), baseline, why, amended, full=full)
    for line in outcome.lines():
        say(line)


def history(as_json: AsJson = False) -> None:
    """Every decision about the registered model: who, when, and why."""
    from dataclasses import asdict

    from bus_mlops.project import load_config
    from bus_mlops.promotion import records
    from bus_mlops.promotion.aliases import read_aliases
    from bus_mlops.promotion.consistency import contradictions
    from bus_mlops.promotion.external_cohorts import looks_of
    from bus_mlops.promotion.inputs import registered_name, tested_today
    from bus_mlops.promotion.looks import Looks, read_taken
    from bus_mlops.tracking.store import open_client

    config = load_config()
    client, name = open_client(config.tracking), registered_name(config)
    found, aliases = records.decisions(client, name), asdict(read_aliases(client, name))
    disputed, looks, images = contradictions(client, name), Looks(client, name), tested_today(config)
    alpha, share = config.promotion.model_dump()["alpha"], config.promotion.look_share
    coming = looks.coming(images, alpha, share) if images else None
    cohort_looks = looks_of(client, name)
    if as_json:
        values = {
            "model": name,
            "aliases": aliases,
            "decisions": [{**asdict(each), "look": json.loads(each.look or "null")} for each in found],
            "looks": [asdict(each) | {"taken": each.taken.model_dump()} for each in looks.history],
            "next_look": asdict(coming) if coming is not None else None,
            "contradictions": disputed,
            "cohort_looks": [each.model_dump(exclude={"hashes", "networks"}) for each in cohort_looks],
        }
        print(json.dumps(values, indent=2))
        return
    for each in disputed:
        say(f"CONTRADICTION: {each}")
    if not found:
        say(f"no decision about {name} yet: `dvc repro promote` or `bus-mlops promote` makes the first.")
    if not (found or looks.history or cohort_looks):
        return
    say(f"{name}: " + ", ".join(f"{alias} {version or 'none'}" for alias, version in aliases.items()))
    if coming is not None:
        say(f"today's {len(images)} test images: {coming.coming}")
    for seen in looks.history:
        if not seen.decision:
            say(f"the record {seen.record} came to no decision; its look counts: {seen.taken.line}")
    on_record = {decision.record for decision in found}
    for look in (each for each in cohort_looks if each.record not in on_record):
        said = "" if look.reported else f"the record {look.record} came to no decision; its look counts: "
        say(f"{said}{look.sentence}")
    for decision in found:
        champion = f"champion {decision.champion_before or 'none'} -> {decision.champion_after or 'none'}"
        version = f"version {decision.version}" if decision.version else "no version"
        say(f"\n{decision.when}  {version}: {decision.decision.upper()}  ({champion})")
        say(
            f"  by {decision.who}, record {decision.record}"
            + (f", commit {decision.commit[:12]}" if decision.commit else "")
        )
        if decision.candidate:
            say(f"  {decision.candidate} against {decision.baseline}")
        taken = read_taken(decision.look)
        if taken is not None:
            say(f"  {taken.line}")
        say(f"  why: {decision.why}")
        for look in (each for each in cohort_looks if each.record == decision.record):
            say(f"  {look.sentence}")
        if decision.amended:
            print(f"  amended: {decision.amended} ({'; '.join(json.loads(decision.changes))})")


def protocol(as_json: AsJson = False) -> None:
    """Print the terms of judgement and their digest, to publish or pin.

    That is: before training, so that terms were not chosen by looking at results.
    """
    from bus_mlops.config.intent import intent_of
    from bus_mlops.project import load_config

    intent = intent_of(load_config())
    if as_json:
        print(intent.text)
        return
    for key, value in sorted(intent.terms.items()):
        print(f"{key}: {json.dumps(value)}")
    print(f"sha256 (of the --json form): {intent.digest}")
    say("`promotion.protocol: DIGEST` in params.yaml pins these terms: other ones are then refused unless amended.")


def rollback(
    reason: Annotated[str, typer.Option("--reason", help="Why; stays in the record.")],
    to: Annotated[str | None, typer.Option("--to", help="A former champion. Default: the alias `previous`.")] = None,
) -> None:
    """Make a former champion champion again.

    On the record like every other decision.
    """
    from bus_mlops.packaging.signing import configured_signer
    from bus_mlops.project import load_config
    from bus_mlops.promotion.inputs import registered_name
    from bus_mlops.promotion.rollback import roll_back
    from bus_mlops.tracking.store import open_client

    config = load_config()
    signer = configured_signer(config.promotion)
    done = roll_back(open_client(config.tracking), config.tracking, registered_name(config), reason, to, signer)
    say(f"{done.model}: version {done.version} is champion again, version {done.champion_before} is previous")


def verify(
    version: Annotated[str | None, typer.Argument(help="Number of a registered version.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every file of every run, and every registered version.")
    ] = False,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Recompute what a version rests on: files, predictions, gate.

    Exits with 1 where something no longer holds.
    """
    from dataclasses import asdict

    if everything == (version is not None):
        raise typer.BadParameter("give the number of a version, or --all")
    if everything:
        _verify_all(as_json)
        return
    assert version is not None  # noqa: S101 - see above
    from bus_mlops.project import load_config
    from bus_mlops.promotion.inputs import assembled, registered_name
    from bus_mlops.promotion.verification import verify_version
    from bus_mlops.tracking.ledger import Ledger

    config = load_config()
    checks = verify_version(Ledger(config.tracking), registered_name(config), version, assembled(), full=full)
    holds = all(check.holds for check in checks)
    unseen = [check.what for check in checks if not check.checked]
    if as_json:
        print(json.dumps({"holds": holds, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            state = "holds " if check.holds else "FAILED"
            say(f"{state if check.checked else 'UNSEEN'}  {check.what}: {check.found}")
        all_holds = f"all that was checked still holds; NOT checked: {', '.join(unseen)}"
        verdict = (all_holds if unseen else "everything still holds") if holds else "NOT everything holds"
        say(f"version {version}: {verdict}")
    if not holds:
        raise typer.Exit(1)


def _verify_all(as_json: bool) -> None:
    from dataclasses import asdict

    from bus_mlops.cli.repair import progress
    from bus_mlops.project import load_config
    from bus_mlops.promotion.repair import inspect_versions
    from bus_mlops.tracking.inspection import inspect
    from bus_mlops.tracking.ledger import Ledger

    ledger = Ledger(load_config().tracking)
    found, states = inspect(ledger, progress("runs")), inspect_versions(ledger, progress("versions"))
    holds = not (found.damages or found.unreachable or any(state.failed for state in states))
    if as_json:
        values = {"holds": holds, "ledger": asdict(found), "versions": [asdict(state) for state in states]}
        print(json.dumps(values, indent=2))
    else:
        for line in (*found.unreachable, *(damage.sentence for damage in found.damages)):
            say(f"FAILED  {line}")
        say(f"ledger: {found.sentence}")
        for state in states:
            say(f"{'FAILED' if state.failed else 'holds '}  {state.sentence}")
        mend = " `bus-mlops repair` mends what can be mended." if found.damages else ""
        say(f"{'everything still holds' if holds else 'NOT everything holds.'}{mend}")
    if not holds:
        raise typer.Exit(1)


def _print_report(report: GateReport, as_json: bool) -> None:
    if as_json:
        print(report.to_json(), end="")
        return
    for line in report.to_lines():
        say(line)
    say(f"gate: {report.verdict}")
