"""What MLflow's user interface is told: the store, and the names that it answers to."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request

from bus_mlops.errors import LedgerError
from bus_mlops.tracking.ui import address_of, has_screen, require_free, ui_arguments


def told(arguments: list[str]) -> dict[str, str]:
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_the_registry_is_that_of_the_store(tmp_path):
    found = told(ui_arguments(f"sqlite:///{tmp_path}/mlflow.db", "127.0.0.1", 5000))
    assert found["--backend-store-uri"] == found["--registry-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert "--allowed-hosts" not in found


def test_names_of_this_machine_are_allowed_beside_what_mlflow_allows_by_itself():
    found = told(ui_arguments("sqlite:///mlflow.db", "0.0.0.0", 5000, "lab, lab.example.org:8080"))
    hosts, origins = (found[name].split(",") for name in ("--allowed-hosts", "--cors-allowed-origins"))
    called = ["lab", "lab:5000", "lab.example.org:8080", "localhost:5000", "127.0.0.1:5000", "192.168.0.7:5000"]
    assert [name for name in called if not is_allowed_host_header(hosts, name)] == []
    others = ["lab.example.org", "evil.example.org", "lab:5001"]
    assert [name for name in others if is_allowed_host_header(hosts, name)] == []
    assert not should_block_cors_request("http://lab:5000", "POST", origins)
    assert should_block_cors_request("http://evil.example.org", "POST", origins)


def test_a_star_allows_every_name():
    assert is_allowed_host_header(
        told(ui_arguments("sqlite:///mlflow.db", "0.0.0.0", 5000, "*"))["--allowed-hosts"].split(","), "any"
    )


def test_a_port_that_is_taken_is_named_with_who_has_it_and_the_next_one():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LedgerError, match=rf"port {port} is taken by .*process \d+.*bus-mlops ui --port \d+"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)
    with pytest.raises(LedgerError, match="Is --host one of this machine"):
        require_free("203.0.113.1", port)


def test_addresses_are_such_that_a_browser_here_finds_them():
    hosts = ("127.0.0.1", "0.0.0.0", "::", "::1", "lab")
    found = [address_of(host, 5000) for host in hosts]
    assert found == [f"http://{each}:5000" for each in ("127.0.0.1", "127.0.0.1", "[::1]", "[::1]", "lab")]


def test_no_browser_is_opened_where_nobody_would_see_it(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    assert not has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_screen()
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")
    assert not has_screen()
