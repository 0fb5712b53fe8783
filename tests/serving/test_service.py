"""The service over HTTP: the client's answers, documented JSON, limits, and 4xx for whatever is malformed."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from altered import png_of_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_package import speckle

from bus_mlops.consumer.client import load_model
from bus_mlops.images.model_input import png
from bus_mlops.serving.guard import HEADERS
from bus_mlops.serving.limits import Limits
from bus_mlops.serving.requests import FORMS, RefusedError, parse

IMAGES = [png(speckle(60 + i, 80, i)) for i in range(3)]
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
WAYS = {
    "dataframe_records": [{"image": text} for text in TEXTS],
    "dataframe_split": {"columns": ["image"], "data": [[text] for text in TEXTS]},
}
RECORDS: dict[str, Any] = {"dataframe_records": WAYS["dataframe_records"]}


def post(url: str, body, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(
        f"{url}/invocations", data, headers={"Content-Type": "application/json", **headers}, timeout=60
    )


def test_health_and_version(service, package_folder):
    assert requests.get(f"{service}/health", timeout=10).status_code == 200
    assert requests.get(f"{service}/ping", timeout=10).status_code == 200
    about = requests.get(f"{service}/version", timeout=10).json()
    model = load_model(package_folder)
    assert (about["model"], about["version"], about["digest"]) == ("tiny-phantom", None, model.digest)
    assert (about["threshold"], about["members"], about["mask"], about["phantom"]) == (0.4, 2, True, True)
    assert about["standing"] == model.standing.to_dict()
    assert about["limits"] == {"images": 5, "megabytes": 1, "megapixels": 2, "requests": 4, "seconds": 60}
    assert "Research use only" in about["notice"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_clients_answers(service, package_folder, form):
    answer = post(service, {form: WAYS[form], "params": {"masks": True}})
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    expected = load_model(package_folder).predict(IMAGES, masks=True)
    assert [r["probability"] for r in rows] == pytest.approx([r.probability for r in expected], abs=1e-6)
    assert [r["label"] for r in rows] == [r.label for r in expected]
    assert {r["version"][:7] for r in rows} == {"sha256:"}
    assert {r["error"] for r in rows} == {None}
    assert {r["standing"] for r in rows} == {
        "Passed the gate; no decision is known. UNSIGNED: who made it is not known."
    }
    for row, reference in zip(rows, expected, strict=True):
        assert reference.mask is not None
        assert base64.decodebytes(row["mask"].encode()) == png(reference.mask * np.uint8(255))


def test_hostile_images_get_their_row(service):
    hostile = [b"no image", png_of_header(30_000, 30_000), png(np.zeros((1, 1), np.uint8)), b"", IMAGES[0]]
    records = [{"image": base64.b64encode(image).decode()} for image in hostile]
    answer = post(service, {"dataframe_records": records})
    assert answer.status_code == 200
    # Strict: NaN, which is no JSON, would be taken by most parsers and refused by browsers.
    rows = json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]
    kinds = ["ImageError", "ImageSizeError", "ImageSizeError", "ImageError", None]
    assert [row["error_type"] for row in rows] == kinds
    assert [row["probability"] is None for row in rows] == [True] * 4 + [False]


MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"dataframe_records": "\xff"}',
    "nested too deep": b"[" * 100_000,
    "a list": [],
    "a number": 7,
    "no form": {},
    "two forms": WAYS,
    "unknown key": {"dataframe_records": WAYS["dataframe_records"], "extra": 1},
    "a form for tensors": {"instances": WAYS["dataframe_records"]},
    "no image": {"dataframe_records": []},
    "rows that are no rows": {"dataframe_records": 5},
    "another column": {"dataframe_records": [{"picture": TEXTS[0]}]},
    "one column more": {"dataframe_records": [{"image": TEXTS[0], "age": 50}]},
    "a number for an image": {"dataframe_records": [{"image": 7}]},
    "no image in a row": {"dataframe_records": [{"image": None}]},
    "no base64": {"dataframe_records": [{"image": "%%%"}]},
    "base64 cut off": {"dataframe_records": [{"image": TEXTS[0][:-1]}]},
    "split without data": {"dataframe_split": {"columns": ["image"]}},
    "split with two columns": {"dataframe_split": {"columns": ["image", "x"], "data": [[TEXTS[0], 1]]}},
    "params that are none": {**RECORDS, "params": [1]},
    "param of another type": {**RECORDS, "params": {"masks": "yes"}},
    "unknown param": {**RECORDS, "params": {"mask": True}},
}


def test_what_is_no_http_gets_400_with_the_headers_of_every_answer(service):
    parts = urlsplit(service)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head = answer.partition("\r\n\r\n")[0].lower()
    assert head.startswith("http/1.1 400 ")
    for name, value in HEADERS.items():
        assert f"{name}: {value}".lower() in head


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bodies_get_400_and_a_reason(service, case):
    answer = post(service, MALFORMED[case])
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["error"]) > 20


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet", "multipart/form-data", "", "json"])
def test_other_content_types_get_415(service, kind):
    assert post(service, RECORDS, **{"Content-Type": kind}).status_code == 415
    assert post(service, b"image\nabc", **{"Content-Type": kind}).status_code == 415


def test_no_content_type_gets_415(service):
    connection = http.client.HTTPConnection(urlsplit(service).netloc, timeout=30)
    connection.request("POST", "/invocations", b"{}")
    assert connection.getresponse().status == 415


def test_other_methods_and_paths_get_4xx(service):
    assert requests.get(f"{service}/invocations", timeout=10).status_code == 405
    assert requests.post(f"{service}/version", timeout=10).status_code == 405
    assert requests.get(f"{service}/../params.yaml", timeout=10).status_code == 404
    assert requests.get(f"{service}/page/../commands.py", timeout=10).status_code == 404
    assert requests.get(f"{service}/docs", timeout=10).status_code == 404  # it would load scripts from elsewhere


def test_too_many_images_and_too_large_bodies_get_413(service):
    answer = post(service, {"dataframe_records": RECORDS["dataframe_records"] * 2})
    assert answer.status_code == 413
    assert "at most 5" in answer.json()["error"]
    large = post(service, b" " * (2**20 + 1))
    assert large.status_code == 413
    assert "1 MB" in large.json()["error"]


def test_body_without_announced_length_is_limited_too(service):
    def endless():
        for _ in range(40):
            yield b" " * 2**16

    try:
        answer = requests.post(
            f"{service}/invocations", endless(), headers={"Content-Type": "application/json"}, timeout=60
        )
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # the server may close before all is sent
    assert post(service, RECORDS).status_code == 200


def test_a_request_cut_off_does_no_harm(service):
    parts = urlsplit(service)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 1000\r\n\r\n{")
    assert post(service, RECORDS).status_code == 200


def test_under_load_nothing_fails(service):
    """As many clients as are allowed, each with one connection, and some that only hold one open."""
    parts = urlsplit(service)

    def client(count: int) -> list[int]:
        with requests.Session() as session:
            headers = {"Content-Type": "application/json"}
            body = json.dumps(RECORDS)
            answers = [session.post(f"{service}/invocations", body, headers=headers, timeout=60) for _ in range(count)]
            return [answer.status_code for answer in answers]

    idle = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        statuses = [status for each in pool.map(client, [25] * 4) for status in each]
    for connection in idle:
        connection.close()
    assert statuses == [200] * 100


def test_more_requests_than_allowed_get_503_and_the_others_answers(service):
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: post(service, RECORDS).status_code, range(60)))
    assert set(answers) == {200, 503}
    assert post(service, RECORDS).status_code == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*FORMS, "image"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FORMS, "image", "params"]), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_parse_refuses_or_reads_but_never_breaks(value):
    status = 0
    try:
        assert 1 <= len(parse(json.dumps(value).encode(), Limits(images=3)).images) <= 3
    except RefusedError as error:
        status = error.status
    assert status in (0, 400, 413)


rows = st.lists(st.fixed_dictionaries({"image": st.text(max_size=9)}))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values | st.fixed_dictionaries({"dataframe_records": rows}))
def test_whatever_comes_the_server_does_not_fail(service, value):
    assert post(service, value).status_code in (200, 400, 413)
