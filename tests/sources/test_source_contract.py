"""All sources keep the contract of `bus_mlops.testing.sources`, and what breaks it is noticed."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT
from tiny_sources import (
    breast_folder,
    buid_folder,
    bus_uclm_folder,
    busbra_folder,
    busi_folder,
    busis_folder,
    dataset_b_folder,
    gdph_sysucc_folder,
    hmss_folder,
    hmss_row,
    mask,
    picture,
    thammasat_folder,
)

from bus_mlops.errors import SourceError
from bus_mlops.sources.phantoms.plan import PhantomPlan
from bus_mlops.sources.record import Crop, Record, images_by_name
from bus_mlops.sources.registry import SOURCES
from bus_mlops.sources.source import Official, Source, Survey
from bus_mlops.testing.contract import ContractError
from bus_mlops.testing.sources import check_source


def hmss(folder: Path) -> Path:
    rows = [hmss_row("2879", "2879", "Malignant"), hmss_row("1-Afbeelding2", "2879", "Malignant", note="changed")]
    return hmss_folder(folder, [*rows, hmss_row("0012-3", "0012-3", "Benign", group="Malignant")])


def busi(folder: Path) -> Path:
    busi_folder(folder)
    mask(folder / "benign" / "benign (2)_mask_1.png", mode="RGBA")
    return folder


def thammasat(folder: Path) -> Path:
    names = [("Case-1-U-1-1", "Case-1"), ("Case-103-U1", "Case-103"), ("Case-103-U2", "Case-103")]
    return thammasat_folder(folder, [f"u,{name},{case},benign,1,5,1,6" for name, case in names])


FOLDERS: dict[str, list[Callable[[Path], Path]]] = {
    "hmss": [hmss],
    "busi": [busi, lambda folder: busi_folder(folder, below="Dataset_BUSI_with_GT")],
    "busis": [busis_folder, lambda folder: busis_folder(folder, suffix=".bmp", table="BUSIS.xlsx")],
    "thammasat": [thammasat],
    "dataset_b": [dataset_b_folder, lambda folder: dataset_b_folder(folder, images="original")],
    "busbra": [busbra_folder],
    "breast": [breast_folder, lambda folder: breast_folder(folder, table=".csv", inner="images")],
    "bus_uclm": [bus_uclm_folder],
    "gdph_sysucc": [gdph_sysucc_folder, lambda folder: gdph_sysucc_folder(folder, hospitals=False)],
    "buid": [buid_folder],
}


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in FOLDERS for form in range(len(FOLDERS[name]))])
def test_it_keeps_the_contract(name, form, tmp_path):
    check_source(SOURCES[name], FOLDERS[name][form](tmp_path / name))


GOOD = SOURCES["busis"]


def changed(**values: Any) -> Source:
    """BUSIS, its records changed alike."""

    def look(folder: Path) -> Survey:
        survey = GOOD.look(folder)
        return replace(survey, records=tuple(replace(record, **values) for record in survey.records))

    return replace(GOOD, look=look)


def looked(look) -> Source:
    return replace(GOOD, look=look)


def shuffled(folder: Path) -> Survey:
    survey = GOOD.look(folder)
    return replace(survey, records=tuple(sorted(survey.records, key=lambda record: record.image.stat().st_ino)))


def careless(folder: Path) -> Survey:
    (folder / "BUSIS562.csv").read_text()
    return GOOD.look(folder)


def silent(folder: Path) -> Survey:
    return replace(GOOD.look(folder), problems=())


def writing(folder: Path) -> Survey:
    survey = GOOD.look(folder)
    (folder / "cache.json").write_text("{}")
    return survey


def disturbed(folder: Path) -> Survey:
    survey = GOOD.look(folder)
    extra = [path for path in (folder / "imgs").iterdir() if path.suffix != ".png" or path.name.startswith(".")]
    if extra:
        raise SourceError(f"{extra} is no image.")
    return survey


def first_alone(folder: Path) -> Survey:
    survey = GOOD.look(folder)
    return replace(survey, records=survey.records[:1])


def mislabelled() -> PhantomPlan:
    plan = GOOD.phantoms() if GOOD.phantoms else None
    assert plan

    def write(folder, phantoms, rng):
        return plan.write(folder, [replace(phantom, label=1 - phantom.label) for phantom in phantoms], rng)

    return replace(plan, write=write)


def never_the_same() -> PhantomPlan:
    plan = GOOD.phantoms() if GOOD.phantoms else None
    assert plan

    def write(folder, phantoms, rng):
        names = plan.write(folder, phantoms, rng)
        (folder / "made-at.txt").write_text(str(time.perf_counter_ns()))
        return names

    return replace(plan, write=write)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (looked(shuffled), "differ|depend on where"),
        (looked(careless), "raises FileNotFoundError"),
        (looked(silent), "must name it|must be a good copy|lost in silence"),
        (looked(writing), "must name|changes? files|changed files|depend on where"),
        (looked(disturbed), "must disturb nothing"),
        (looked(first_alone), "two images or more"),
        (changed(label=2), "neither 0"),
        (changed(origin=""), "origin must name"),
        (changed(case=""), "the case is empty"),
        (changed(masks=()), "contradict has_masks"),
        (changed(image=Path(__file__)), "names a file outside"),
        (changed(crop=Crop(0, 0, 99, 99)), "verify finds errors"),
        (replace(GOOD, has_masks=False, official=None), "contradict has_masks"),
        (replace(GOOD, official=Official(1, 1, cases=3, with_mask=2)), "more official cases"),
        (replace(GOOD, official=Official(1, 1, cases=2)), r"official\.with_mask contradicts"),
        (replace(GOOD, official=Official(1, 1, cases=2, with_mask=2, names=("a", "a"))), "official names"),
        (replace(GOOD, phantoms=mislabelled), "but were drawn as"),
        (replace(GOOD, phantoms=never_the_same), "from one drawing to the next"),
    ],
)
def test_a_source_that_breaks_the_contract_is_noticed(broken, message, tmp_path):
    folder = busis_folder(tmp_path / "busis", "BMB")
    with pytest.raises(ContractError, match=message):
        check_source(broken, folder)


def test_two_images_of_one_name_are_an_error_that_names_both(tmp_path):
    def look(folder: Path) -> Survey:
        records = GOOD.look(folder).records
        return Survey((*records, replace(records[0], origin="elsewhere")))

    with pytest.raises(SourceError, match=r"elsewhere: image name 'case0001' was already used by .*row 2"):
        looked(look).survey(busis_folder(tmp_path))


def test_a_missing_image_that_nothing_lists_is_gone_and_the_others_stay(tmp_path):
    """A source without masks whose folders are its labels."""

    def look(folder: Path) -> Survey:
        if not any((folder / word).is_dir() for word in ("benign", "malignant")):
            raise SourceError(f"{folder} holds neither benign/ nor malignant/. Unpack the source there.")
        records = [
            Record("plain", f"{word}-{name}", f"{word}-{name}", label, path, origin=str(path))
            for label, word in enumerate(("benign", "malignant"))
            for name, path in images_by_name(folder / word).items()
        ]
        return Survey(tuple(records))

    for word in ("benign", "malignant"):
        for shade, name in enumerate("ab"):
            picture(tmp_path / "plain" / word / f"{name}.png", shade=shade)
    plain = Source("plain", "Plain", look, has_masks=False)
    check_source(plain, tmp_path / "plain", images_are_listed=False)
    with pytest.raises(ContractError, match="must name it"):
        check_source(plain, tmp_path / "plain")


def test_no_module_but_a_sources_own_names_it():
    """What depends on a source is in its module: elsewhere a name would have to be added for every new source."""
    own = {ROOT / "bus_mlops" / "sources" / "registry.py", ROOT / "bus_mlops" / "profiles" / "__init__.py"}
    own |= {ROOT / "bus_mlops" / "sources" / f"{name}.py" for name in SOURCES}
    named = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "bus_mlops").rglob("*.py")
        if path not in own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in [*SOURCES, *(each.title for each in SOURCES.values())]
    }
    assert named == set()
