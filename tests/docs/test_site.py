"""`make docs`: the site is built strictly, asks no other host for anything, and is searched without a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium
from made_once import made_once
from projects import ROOT

# What a browser fetches by itself; a link that somebody may follow is none of these.
FETCHED = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^"' >]+""")


def _build(folder: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Path:
    return made_once(request, "site", _build) / "site"


def test_make_docs_builds_it():
    recipe = (ROOT / "Makefile").read_text().partition("docs: install")[2].partition("\n\n")[0]
    assert recipe.splitlines()[1].strip() == "$(BIN)/mkdocs build --quiet"


def test_every_page_is_there_and_none_asks_another_host(site):
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    sources = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".ipynb")]
    written = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in sources}
    assert written - pages == set()
    fetched = {path.name: FETCHED.findall(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert {name: found for name, found in fetched.items() if found} == {}
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)\"']*", styles) == []


def test_tables_are_made_where_pages_have_marks(site):
    texts = {name: (site / "reference" / f"{name}.html").read_text("utf-8") for name in ("parameters", "command-line")}
    assert 'id="training-loss-gamma-kind-focal"' in texts["parameters"]
    assert 'id="bus-mlops-predict"' in texts["command-line"]
    assert "bus_mlops.consumer.client.load_model" in (site / "reference" / "python.html").read_text("utf-8")


def test_search_finds_a_page_from_a_folder_without_a_server(site, tmp_path):
    with chromium(tmp_path) as browser:
        browser.open((site / "index.html").as_uri())
        browser.run("document.querySelector('[for=__search]').click()")
        browser.run(
            "(field => { field.focus(); field.value = 'balanced accuracy'; "
            "field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})); "
            "field.dispatchEvent(new Event('input', {bubbles: true})) })(document.querySelector('.md-search__input'))"
        )
        browser.wait("document.querySelector('.md-search-result__link')")
        links = browser.run("[...document.querySelectorAll('.md-search-result__link')].map(each => each.href)")
        assert any("why-not-roc-auc.html" in link for link in links)
        assert browser.problems == []
