"""What the service writes down and counts of its answers, and that it answers nothing that it cannot write down."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tiny_package import speckle, write_refusing_package

from bus_mlops.consumer.client import BusModel, Prediction, load_model
from bus_mlops.images.model_input import png
from bus_mlops.serving.app import create_app
from bus_mlops.serving.limits import Limits
from bus_mlops.serving.metrics import LATEST, Metrics

IMAGE = base64.b64encode(png(speckle(60, 80, 1))).decode()
NONE = base64.b64encode(b"no image").decode()
ROW = Prediction("", 0.7, 0.1, (0.65, 0.75), "malignant", 0.5, "m", "1", seconds=0.2)


@pytest.fixture
def model(package_folder, tmp_path) -> BusModel:
    (tmp_path / "patient").mkdir()
    return load_model(package_folder, log=tmp_path / "patient" / "log")


class Client:
    """Asks the application itself: no port, no process."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def get(self, path: str) -> Answer:
        return asyncio.run(self._ask("GET", path, b""))

    def ask(self, *images: str) -> Answer:
        records = [{"image": image} for image in images]
        return asyncio.run(self._ask("POST", "/invocations", json.dumps({"dataframe_records": records}).encode()))

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        said: list[Any] = []

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            said.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
        await self.app({**scope, "root_path": "", "http_version": "1.1"}, receive, send)
        start, *rest = said
        given = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], given, b"".join(each.get("body", b"") for each in rest).decode())


class Answer(NamedTuple):
    status_code: int
    headers: dict[str, str]
    text: str


@pytest.fixture
def client(model) -> Client:
    return Client(create_app(model, Limits()))


def families(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """What the official parser reads: values by family, and by name and labels of the sample."""
    parser = pytest.importorskip("prometheus_client.parser", reason="make install: the lock file has prometheus-client")
    return {
        family.name: {(each.name, *each.labels.values()): each.value for each in family.samples}
        for family in parser.text_string_to_metric_families(text)
    }


def test_answers_are_written_down_and_counted(client, model):
    assert families(client.get("/metrics").text)["bus_mlops_answers"] == {
        ("bus_mlops_answers_total", status): 0 for status in ("answered", "uncertain", "refused")
    }
    rows = json.loads(client.ask(IMAGE, NONE).text)["predictions"]
    assert client.ask("not base64!").status_code == 400
    lines = [json.loads(line) for line in model.log.path.read_text().splitlines()]
    assert [(line["status"], line["probability"]) for line in lines] == [
        (row["status"], row["probability"]) for row in rows
    ]
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = families(answer.text)
    assert found["bus_mlops_answers"]["bus_mlops_answers_total", "answered"] == 1
    assert found["bus_mlops_answers"]["bus_mlops_answers_total", "refused"] == 1
    assert found["bus_mlops_errors"]["bus_mlops_errors_total", "ImageError"] == 1
    assert found["bus_mlops_requests"] == {
        ("bus_mlops_requests_total", "200"): 1,
        ("bus_mlops_requests_total", "400"): 1,
    }
    assert found["bus_mlops_log_lines"]["bus_mlops_log_lines_total",] == 2
    assert found["bus_mlops_score"]["bus_mlops_score_sum",] == rows[0]["probability"]
    assert found["bus_mlops_answer_seconds"]["bus_mlops_answer_seconds_count",] == 2
    assert found["bus_mlops_ready"]["bus_mlops_ready",] == 1
    assert "patient" not in answer.text


def test_an_alias_that_no_decision_explains_is_said_of_the_service_and_of_each_answer(tiny_registry):
    asked = Client(create_app(load_model("models:/tiny-phantom@champion", tiny_registry.uri), Limits()))
    unexplained = "UNEXPLAINED: the alias champion points to version 2, and no decision on record set it."
    assert unexplained in json.loads(asked.get("/version").text)["standing"]["sentence"]
    (row,) = json.loads(asked.ask(IMAGE).text)["predictions"]
    assert unexplained in row["standing"]


def test_what_is_refused_and_what_is_uncertain_is_said_in_every_row_and_counted(package_folder, tmp_path):
    loaded = load_model(write_refusing_package(tmp_path / "package", package_folder))
    white = speckle(60, 80)
    white[20:] = 255
    asked = Client(create_app(loaded, Limits()))
    rows = json.loads(asked.ask(IMAGE, base64.b64encode(png(white)).decode()).text)["predictions"]
    expected = loaded.predict([speckle(60, 80, 1), white])
    assert [row["status"] for row in rows] == [each.status for each in expected] == ["uncertain", "refused"]
    for row, each in zip(rows, expected, strict=True):
        said = (row["probability"], row["oddness"], row["triage"], tuple(row["reasons"]))
        assert said == (each.probability, each.oddness, each.triage, each.reasons)
        assert row["reasons"]
    counted = families(asked.get("/metrics").text)["bus_mlops_answers"]
    assert [counted["bus_mlops_answers_total", status] for status in ("answered", "uncertain", "refused")] == [0, 1, 1]


def test_pixels_of_all_requests_together_are_bounded(model):
    service: Any = create_app(model, Limits(megapixels=1))
    scoring = next(route.endpoint for route in service.app.routes if route.path == "/invocations")
    scoring.work.pixels.take(4_000_000 - 60 * 80 + 1)
    asked = Client(service)
    refused = asked.ask(IMAGE)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "too many pixels are under way" in refused.text
    scoring.work.pixels.give(1)
    assert asked.ask(IMAGE).status_code == 200
    assert scoring.work.pixels.held == 4_000_000 - 60 * 80


def test_what_cannot_be_written_down_is_not_answered_and_shows_no_path(client, model, caplog):
    assert client.ask(IMAGE).status_code == 200
    model.log.path.parent.rename(model.log.path.parent.with_name("gone"))
    with caplog.at_level(logging.ERROR):
        answer = client.ask(IMAGE)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "predictions" not in answer.text
    assert "patient" not in answer.text
    assert str(model.log.path) in caplog.text  # for who runs it
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    found = families(client.get("/metrics").text)
    assert found["bus_mlops_log_failures"]["bus_mlops_log_failures_total",] == 1
    assert found["bus_mlops_ready"]["bus_mlops_ready",] == 0
    model.log.path.parent.with_name("gone").rename(model.log.path.parent)
    assert client.ask(IMAGE).status_code == 200


def test_counts_are_right_at_the_bounds_and_quantiles_are_of_the_latest(model):
    metrics = Metrics(model)
    for n in range(2 * LATEST):
        metrics.observe(replace(ROW, probability=0.1 if n < LATEST else 0.8))
    metrics.observe(replace(ROW, status="refused", probability=None, spread=None, error_type="Of a plug-in\n"))
    found = families(metrics.text(3, True))
    score = found["bus_mlops_score"]
    assert [score["bus_mlops_score_bucket", bound] for bound in ("0.1", "0.7", "0.8", "+Inf")] == [
        LATEST,
        LATEST,
        2 * LATEST,
        2 * LATEST,
    ]
    assert found["bus_mlops_score_recent"]["bus_mlops_score_recent", "0.05"] == 0.8
    assert found["bus_mlops_errors"]["bus_mlops_errors_total", "other"] == 1
    assert found["bus_mlops_requests_under_way"]["bus_mlops_requests_under_way",] == 3


def test_what_a_model_is_called_cannot_break_the_format(model):
    model.name, model.version = 'a "name"\\\nbus_mlops_ready 0', "3"
    ((_, _, version, name),) = families(Metrics(model).text(0, True))["bus_mlops_model_info"]
    assert (version, name) == ("3", model.name)


def test_labels_are_few_whatever_is_asked(client):
    before = len(client.get("/metrics").text.splitlines())
    for n in range(20):
        client.ask(base64.b64encode(np.random.default_rng(n).bytes(50)).decode())
        client.get(f"/nothing-{n}")
    assert len(client.get("/metrics").text.splitlines()) == before


def test_where_a_log_may_not_be_the_service_does_not_start(tmp_path: Path, package_folder):
    from bus_mlops.errors import AnswerLogError

    with pytest.raises(AnswerLogError, match="cannot be written"):
        load_model(package_folder, log=tmp_path / "absent" / "log")
