"""`bus-mlops drift`: a log of answers beside what the model was judged on. Needs the base install alone."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bus_mlops.cli.consumer import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bus_mlops.consumer.answer_log_reading import Answers, Line
    from bus_mlops.consumer.client import BusModel
    from bus_mlops.consumer.drift import Drift, Refusals
    from bus_mlops.consumer.package_format import ScoreBins

_BAR = 24
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def drift(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="The FILE of `--log FILE`; rotated files are read, too.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="What answered. Default: the copy on this machine that the log names."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=_FORMATS, metavar="UTC", help="Answers from then on: 2026-03-31[T08:00:00]."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_FORMATS, metavar="UTC", help="Answers before then.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance of a false alarm, however often one looks (fraction).")
    ] = 0.01,
    apart: Annotated[
        float, typer.Option(min=0, help="Count one answer in so many seconds: images of one patient are alike.")
    ] = 60,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")] = False,
    tracking_uri: Store = None,
) -> None:
    """Are answers still spread as those that the model was judged by?

    Exits with 1 if they are not, if a line of the log was changed or cut off, or if it cannot tell.
    """
    from bus_mlops.consumer import answer_log_reading as reading
    from bus_mlops.consumer.drift import compare

    answers = reading.read(log)
    loaded = _model(answers, log, model, tracking_uri)
    reference, networks = _reference(loaded)
    window = reading.taken(answers.lines, loaded.digest, _utc(since), _utc(until))
    counted = reading.apart(window, apart)
    given = sum(line.probability is not None for line in window)
    found = compare(reading.scores(counted, networks), reference, alpha, given)
    refused = _refusals(loaded, reading.spaced(window, apart), alpha)
    if svg is not None:
        from bus_mlops.consumer.drift_picture import picture
        from bus_mlops.files import replacing

        with replacing(svg) as temporary:
            temporary.write_text(picture(found, reference), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(_values(loaded, answers, window, found, reference, refused), indent=2) + "\n")
    else:
        print("\n".join(_told(loaded, answers, window, found, reference, apart, refused)))
    problems = [*answers.problems, *([] if found.counted else [_nothing_counted(log, answers, window)])]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems or found.noticed is not None or (refused is not None and refused.noticed is not None):
        raise typer.Exit(1)


def _nothing_counted(log: Path, answers: Answers, window: list[Line]) -> str:
    from bus_mlops.files import printable

    if window:
        return f"{printable(log)}: none of the {len(window)} images in the window got an answer that could be compared."
    first, last = answers.lines[0].time, answers.lines[-1].time
    return (
        f"{printable(log)}: no answer of this model lies in the window; the log goes from {first:%Y-%m-%dT%H:%M:%S} to "
        f"{last:%Y-%m-%dT%H:%M:%S} UTC. Set --since and --until around what is to be compared."
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)


def _model(answers: Answers, log: Path, uri: str | None, tracking_uri: str | None) -> BusModel:
    from bus_mlops.consumer.cache import cache_folder
    from bus_mlops.consumer.client import load_model
    from bus_mlops.environment import IMPATIENT, settings
    from bus_mlops.errors import AnswerLogError
    from bus_mlops.files import printable

    if not answers.lines:
        broken = f" It has {len(answers.problems)} lines that cannot be read." if answers.problems else ""
        raise AnswerLogError(f"{printable(log)} holds no answer: there is nothing to compare.{broken}")
    digests = {line.model for line in answers.lines}
    last = answers.lines[-1].model
    if uri is None and not (cache_folder() / last).is_dir():
        raise AnswerLogError(
            f"{printable(log)}: the model that answered last ({last[:12]}) is not kept on this machine. Name it: "
            "--model MODEL, as for `predict`."
        )
    with settings(IMPATIENT):
        loaded = load_model(uri or cache_folder() / last, tracking_uri)
    if loaded.digest not in digests:
        raise AnswerLogError(
            f"no line of {printable(log)} is of {loaded.name} ({loaded.digest[:12]}); its models are "
            f"{', '.join(sorted(each[:12] for each in digests))}. Name one of them: --model."
        )
    return loaded


def _reference(model: BusModel) -> tuple[ScoreBins, int]:
    from bus_mlops.errors import RegistryError

    judged = model.package.judged
    if judged is None or judged.scores is None:
        raise RegistryError(
            f"the package of {model.name} does not say how the answers were spread that it was judged by: it was "
            "written by an earlier version, or never judged. Promote it anew with this version to compare with them."
        )
    return judged.scores, judged.networks


def _refusals(model: BusModel, lines: list[Line], alpha: float) -> Refusals | None:
    """Refusals of the window beside those of images that the rule of the package was fitted to."""
    from bus_mlops.consumer.drift import refusals
    from bus_mlops.consumer.refusal import HELD_OUT

    rule = model.package.refusal and model.package.refusal.oddity
    known = rule.refused.get(HELD_OUT) if rule else None
    if known is None or known.share is None:
        return None
    return refusals([line.status == "refused" for line in lines], known.of, known.share, alpha)


def _values(
    model: BusModel,
    answers: Answers,
    window: list[Line],
    found: Drift,
    reference: ScoreBins,
    refused: Refusals | None,
) -> dict[str, Any]:
    stable = found.stability
    return {
        "model": model.name,
        "digest": model.digest,
        "window": [line.time.isoformat() for line in (window[:1] + window[-1:])],
        "answers": found.answers,
        "without_answer": len(window) - found.answers,
        "uncertain": sum(line.status == "uncertain" for line in window),
        "counted": found.counted,
        "judged": sum(reference.counts),
        "edges": reference.edges,
        "shares": (found.here / max(1, found.counted)).tolist(),
        "shares_judged": [count / max(1, sum(reference.counts)) for count in reference.counts],
        "stability": stable and {"index": stable.index, "expected": stable.expected, "usual": stable.usual},
        "evidence": float(found.evidence[-1]) if found.counted else 1.0,
        "evidence_most": float(found.evidence.max()) if found.counted else 1.0,
        "alpha": found.alpha,
        "noticed": found.noticed,
        "refusals": refused
        and {
            "counted": refused.counted,
            "refused": refused.refused,
            "expected": refused.expected,
            "evidence": float(refused.evidence[-1]) if refused.counted else 1.0,
            "noticed": refused.noticed,
        },
        "other_lines": len(answers.lines) - len(window),
        "end": answers.end,
        "problems": answers.problems,
    }


def _told(
    model: BusModel,
    answers: Answers,
    window: list[Line],
    found: Drift,
    reference: ScoreBins,
    apart: float,
    refused: Refusals | None,
) -> Iterator[str]:
    yield f"{model.name} {model.digest[:12]}: {len(window)} images in the window, each counted once"
    if window:
        yield f"  from {window[0].time:%Y-%m-%d %H:%M} to {window[-1].time:%Y-%m-%d %H:%M} UTC"
    uncertain = sum(line.status == "uncertain" for line in window)
    yield f"  {len(window) - found.answers} without an answer, {uncertain} uncertain"
    yield from _told_refusals(refused)
    others = sum(line.model != model.digest for line in answers.lines)
    yield from [f"  {others} lines of other models left out"] * (others > 0)
    judged = sum(reference.counts)
    yield f"  {found.counted} of {found.answers} answers counted, {apart:g} s apart, beside {judged} judged"
    if not found.counted or found.stability is None:
        yield "Nothing to compare."
        return
    if found.counted < found.answers / 2:
        yield "  (one patient an image, or a folder predicted at once? `--apart 0` counts every answer)"
    yield ""
    yield from _bars(found, reference)
    stable = found.stability
    yield ""
    yield f"Population stability index {stable.index:.3f}; without drift {stable.expected:.3f} on average,"
    yield f"  and below {stable.usual:.3f} in 95 of 100 windows of this size."
    yield f"Evidence of drift, which may be looked at at any time: {found.evidence[-1]:.3g}"
    yield f"  (at most {found.evidence.max():.3g}; an alarm from {1 / found.alpha:g} on)"
    if found.noticed is None:
        yield "No drift is shown. With few answers that says little."
    else:
        yield f"DRIFT: answers are spread otherwise than those that were judged; shown by answer {found.noticed}."
        yield "  Look at recent images (scanner, settings, patients), then try `bus-mlops accept` on labelled cases."
    yield f"End of the log: {answers.end}"


def _told_refusals(found: Refusals | None) -> Iterator[str]:
    if found is None or not found.counted:
        return
    yield (
        f"  {found.refused} of {found.counted} images counted were refused ({found.refused / found.counted:.1%}; of "
        f"training images, held out, {found.expected:.1%}); evidence of a change {found.evidence[-1]:.3g}"
    )
    if found.noticed is not None:
        yield f"DRIFT: more or fewer images are refused than of those that the model knows; shown by {found.noticed}."
        yield "  Look at what was refused: another scanner, another examination, a screen instead of its image?"


def _bars(found: Drift, reference: ScoreBins) -> Iterator[str]:
    """The shares of both, bin by bin."""
    here, there = found.here / found.counted, [count / sum(reference.counts) for count in reference.counts]
    most = max(*here, *there)
    bounds = (0.0, *reference.edges, 1.0)
    yield f"{'probability':<15} {'here':>5} {'judged':>6}  # here, | judged"
    for k, (share, judged) in enumerate(zip(here, there, strict=True)):
        bar = list("#" * round(_BAR * share / most) + " " * _BAR)[: _BAR + 1]
        bar[round(_BAR * judged / most)] = "|"
        yield f"{bounds[k]:.3f} to {bounds[k + 1]:.3f}  {share:5.1%} {judged:5.1%}   {''.join(bar).rstrip()}"
