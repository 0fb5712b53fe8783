"""MLflow's login, with a line of JSON for every request that may change something: when, who, from where, what.

Written by the server into AUDIT_LOG, which no account of MLflow can reach. Whether a request was allowed is in the
server's own log; here stands who asked.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from flask import Response, g, request
from mlflow.server.auth import authenticate_request_basic_auth
from werkzeug.datastructures import Authorization

# What a request is about. No password, and no value of a metric, parameter or tag.
KEYS = (
    "name",
    "alias",
    "version",
    "source",
    "key",
    "experiment_id",
    "run_id",
    "username",
    "is_admin",
    "resource_type",
    "resource_id",
    "resource_pattern",
    "permission",
    "role_id",
)
# Training sends thousands of these, and they change nothing that others rely on.
QUIET = ("/runs/log-metric", "/runs/log-batch", "/search", "/get", "/list")


def authenticate() -> Authorization | Response:
    """As MLflow's own basic login does; its answer is the same."""
    answer = authenticate_request_basic_auth()
    if request.method not in ("GET", "HEAD", "OPTIONS") and not hasattr(g, "audited"):
        g.audited = True
        if isinstance(answer, Response) or not request.path.endswith(QUIET):
            _write(None if isinstance(answer, Response) else answer.username)
    return answer


def _write(user: str | None) -> None:
    body = request.get_json(silent=True) if request.mimetype == "application/json" else None
    values: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "user": user,  # null: the login failed
        "from": request.headers.get("X-Forwarded-For", request.remote_addr),
        "method": request.method,
        "path": request.path[:500],
        **{key: str(body[key])[:200] for key in KEYS if isinstance(body, dict) and key in body},
    }
    file = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (json.dumps(values) + "\n").encode())
    finally:
        os.close(file)
