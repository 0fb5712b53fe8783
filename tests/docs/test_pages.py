"""What is written by hand: links of the README, examples of pages, the notebook, and CITATION.cff."""

from __future__ import annotations

import doctest
import json
import re
from datetime import date

import yaml
from documented import blocks
from projects import ROOT

from bus_mlops import __version__
from bus_mlops.sources.registry import SOURCES

NOTEBOOK = ROOT / "docs" / "tutorial" / "from-a-run-to-figures.ipynb"
PERSON, ENTITY = {"given-names", "family-names"}, {"name"}


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_examples_of_explanations_give_what_they_show():
    page = "explanation/why-not-roc-auc.md"
    code = "\n".join(block.code for block in blocks(page) if block.language == "python")
    test = doctest.DocTestParser().get_doctest(code, {}, page, page, 0)
    assert len(test.examples) > 5
    assert doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test).failed == 0


def test_the_notebook_is_kept_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_the_citation_names_software_paper_and_data_sets():
    """As the Citation File Format 1.2.0 asks for."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["version"], citation["license"]) == ("1.2.0", __version__, "Apache-2.0")
    works = [citation, citation["preferred-citation"], *citation["references"]]
    for work in works:
        assert work["title"]
        assert all(set(each) == PERSON or set(each) == ENTITY for each in work["authors"]), work["title"]
        assert re.fullmatch(r"10\.\d{4,9}/\S+", work.get("doi", "10.1234/none"))
        assert isinstance(work.get("year", 2000), int)
        assert work.get("type", "software") in ("article", "data", "software", "dataset")
        assert work["title"] == citation["title"] or {"doi", "url"} & set(work)
    text = json.dumps(citation["references"])
    assert all(f"source {name})" in text or f"source {name}," in text for name in SOURCES)
    assert isinstance(citation.get("date-released", date(2000, 1, 1)), date)
