"""The page at `/`, in a real Chromium: an image is dropped; probability, threshold, mask and notice are seen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from browser import chromium
from service import served
from tiny_package import speckle, write_refusing_package

from bus_mlops.consumer.client import load_model

READY = "!document.getElementById('result').hidden"
GREEN = """(() => {
    const c = document.getElementById('picture');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) n += d[i + 1] > d[i] + 30 ? 1 : 0;
    return n;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def text(browser, name: str) -> str:
    return str(browser.run(f"document.getElementById('{name}').textContent"))


def test_a_dropped_image_is_answered(browser, service, package_folder, tmp_path):
    scan = tmp_path / "scan.png"
    pixels = np.zeros((301, 420), np.uint8)
    pixels[:, :200] = 255  # a picture in which these untrained networks see a lesion
    PIL.Image.fromarray(pixels).save(scan)
    expected = load_model(package_folder).predict([scan], masks=True)[0]
    assert expected.probability is not None
    browser.open(f"{service}/")
    browser.wait("document.getElementById('model').textContent")
    assert "tiny-phantom" in text(browser, "model")
    assert "Research use only" in text(browser, "notice")
    assert text(browser, "standing") == "Passed the gate; no decision is known. UNSIGNED: who made it is not known."
    assert browser.run("document.getElementById('refused').hidden")
    assert not browser.run("document.getElementById('phantom').hidden")

    browser.drop(scan, "#drop")
    browser.wait(READY)
    assert text(browser, "probability") == f"{expected.probability:.3f}"
    assert text(browser, "label") == expected.label
    assert text(browser, "threshold").startswith("0.400")
    assert browser.run("(c => [c.width, c.height])(document.getElementById('picture'))") == [420, 301]
    assert "Research use only" in browser.run("document.getElementById('result').innerText")
    _mask_is_overlaid(browser, expected)
    browser.run("document.getElementById('explain').click()")
    browser.wait(f"shown.heat && {READY}")
    if folder := os.environ.get("BUS_MLOPS_SCREENSHOTS"):
        browser.screenshot(Path(folder) / "serve.png")
    assert browser.problems == []


def _mask_is_overlaid(browser, expected) -> None:
    """Green within the mask, and gone when the box is unticked."""
    seen = browser.run(GREEN)
    assert expected.mask is not None
    assert expected.mask.sum() > 100
    assert 0.5 * expected.mask.sum() <= seen <= 1.2 * expected.mask.sum()
    browser.run("document.getElementById('show-mask').click()")
    assert browser.run(GREEN) == 0
    browser.run("document.getElementById('show-mask').click()")
    assert browser.run(GREEN) == seen


def test_what_is_no_image_is_said_so(browser, service, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nonsense")
    browser.open(f"{service}/")
    browser.choose(broken, "#file")
    browser.wait("document.getElementById('status').className === 'error'")
    assert "not an image" in text(browser, "status")
    assert browser.run("document.getElementById('result').hidden")


def test_what_is_refused_and_what_is_uncertain_is_said_in_words(browser, package_folder, tmp_path):
    package = write_refusing_package(tmp_path / "package", package_folder)
    scan, white = tmp_path / "scan.png", tmp_path / "white.png"
    picture = speckle(60, 80)
    PIL.Image.fromarray(picture).save(scan)
    picture[20:] = 255
    PIL.Image.fromarray(picture).save(white)
    uncertain, refused = load_model(package).predict([scan, white])
    with served(package) as url:
        browser.open(f"{url}/")
        browser.choose(white, "#file")
        browser.wait(READY)
        assert text(browser, "verdict") == "No answer: refused."
        assert text(browser, "reasons") == refused.reasons[0]
        assert (text(browser, "probability"), text(browser, "label")) == ("", "")
        assert browser.run("document.getElementById('numbers').hidden")
        browser.choose(scan, "#file")
        browser.wait(f"{READY} && document.getElementById('verdict').textContent === 'Uncertain:'")
        assert text(browser, "reasons") == uncertain.reasons[0]
        assert text(browser, "probability") == f"{uncertain.probability:.3f}"
        assert text(browser, "triage").startswith("uncertain: neither")
    assert browser.problems == []


def test_an_image_that_the_browser_cannot_draw_still_gets_its_answer(browser, service, tmp_path):
    scan = tmp_path / "scan.tif"
    PIL.Image.fromarray(speckle(90, 120, 3)).save(scan)
    browser.open(f"{service}/")
    browser.choose(scan, "#file")
    browser.wait(READY)
    assert "mask is shown alone" in text(browser, "status")
    assert browser.run("document.getElementById('picture').width") == 120
