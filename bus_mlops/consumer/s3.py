"""Packages in an S3 bucket: uploads in parts that are retried and resumed, downloads checked against their sums.

Credentials and endpoint are boto3's own affair (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...); MLflow's
MLFLOW_S3_ENDPOINT_URL is honoured too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus_mlops.consumer.cache import cache_folder, put
from bus_mlops.consumer.package_files import MAX_NETWORK, MAX_TEXT, parse_sums
from bus_mlops.consumer.package_format import ORIGIN_FILE, SIGNATURE_FILE, SUMS_FILE
from bus_mlops.errors import RegistryError, StoreError
from bus_mlops.files import sha256_file

# S3 takes at most 10,000 parts, none but the last below 5 MiB: enough for a file of 80 GB.
PART_BYTES = 8 * 2**20
PARALLEL = 4
ATTEMPTS = 6
_URI = re.compile(r"^s3://([^/]+)/+(.*[^/])/*$")


def split(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://BUCKET/PREFIX`.

    Raises:
        RegistryError: One is missing.
    """
    match = _URI.match(uri)
    if match is None:
        raise RegistryError(f"{uri!r} is not understood. Give s3://BUCKET/PREFIX.")
    return match[1], match[2]


def open_s3() -> Any:
    """A client that tries each request six times, waiting longer each time; it reads the credentials anew.

    Raises:
        StoreError: The address of the store is none.
    """
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "max_attempts": ATTEMPTS}
    config = Config(retries=retries, connect_timeout=10, read_timeout=60, max_pool_connections=PARALLEL)
    try:
        return boto3.Session().client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"), config=config)
    except ValueError as error:  # of an address without http:// or https://
        raise StoreError(
            f"S3 cannot be used: {error}. AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL must begin with http:// or https://."
        ) from error


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """Turn whatever boto3 raises into one StoreError that names the place."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise StoreError(
            f"{uri} cannot be used: {error}. Check bucket, credentials and AWS_ENDPOINT_URL, and run the same command "
            "again: it goes on where it stopped."
        ) from error


def upload(client: Any, path: Path, bucket: str, key: str, digest: str) -> bool:
    """Make an object hold a file with this sha256.

    A file of more than one part goes on with the parts that an upload cut off has left behind. It is read once: what is
    sent is what has the sum.

    Returns:
        False if it did already.

    Raises:
        RegistryError: The file has another sum.
    """
    content = memoryview(path.read_bytes())
    size = len(content)
    if hashlib.sha256(content).hexdigest() != digest:
        raise RegistryError(
            f"{path} was changed after it was checked: nothing of it is sent. Export the package again."
        )
    head = _head(client, bucket, key)
    if head is not None and head["ContentLength"] == size and head["Metadata"].get("sha256") == digest:
        return False
    if size <= PART_BYTES:
        client.put_object(Bucket=bucket, Key=key, Body=content.tobytes(), Metadata={"sha256": digest})
        return True
    there, upload_id = _unfinished(client, content, bucket, key)
    if upload_id is None:
        created = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"sha256": digest})
        upload_id = str(created["UploadId"])

    def send(number: int) -> tuple[int, str]:
        if number in there:
            return number, there[number]
        sent = client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=_part(content, number)
        )
        return number, str(sent["ETag"])

    with ThreadPoolExecutor(PARALLEL) as pool:
        done = list(pool.map(send, range(1, -(-size // PART_BYTES) + 1)))
    parts = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in done]}
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload=parts)
    return True


def fetch(uri: str, *, fresh: bool = False) -> tuple[Path, bytes | None]:
    """The package at `s3://BUCKET/PREFIX` as a folder of the cache, named by its digest; and its registry.json.

    One that is there already is not fetched, nor are files that were; with `fresh` it is, and takes its place. What the
    bucket's registry.json says is always asked, since it also says what was decided since.
    """
    bucket, prefix = split(uri)
    with readable(uri):
        client = open_s3()
        sums = get(client, bucket, f"{prefix}/{SUMS_FILE}")
        if sums is None:
            raise RegistryError(
                f"{uri} holds no complete package: it has no {SUMS_FILE}, which `bus-mlops export` writes last. "
                "Check the prefix, or export again."
            )
        digest = hashlib.sha256(sums).hexdigest()
        target = cache_folder() / digest
        origin = get(client, bucket, f"{prefix}/{ORIGIN_FILE}")
        if target.is_dir() and not fresh:
            return target, origin
        partial = cache_folder() / f"{digest}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        (partial / SUMS_FILE).write_bytes(sums)
        for name, expected in parse_sums(sums, partial / SUMS_FILE).items():
            _download(client, bucket, f"{prefix}/{name}", partial / name, expected)
        signature = get(client, bucket, f"{prefix}/{SIGNATURE_FILE}")
        if signature is not None:
            (partial / SIGNATURE_FILE).write_bytes(signature)
        if origin is not None:
            (partial / ORIGIN_FILE).write_bytes(origin)
    return put(partial, target), origin


def get(client: Any, bucket: str, key: str) -> bytes | None:
    """The bytes of a small object; None if there is none.

    Raises:
        RegistryError: It is larger than any such file of a package.
    """
    head = _head(client, bucket, key)
    if head is None:
        return None
    _require_small(f"s3://{bucket}/{key}", head, MAX_TEXT)
    content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def _download(client: Any, bucket: str, key: str, path: Path, digest: str) -> None:
    if path.is_file() and sha256_file(path) == digest:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    head = _head(client, bucket, key)
    if head is None:
        raise RegistryError(f"s3://{bucket}/{key} is missing, though {SUMS_FILE} lists it. Export the package again.")
    _require_small(f"s3://{bucket}/{key}", head, MAX_NETWORK)
    client.download_file(bucket, key, str(path))
    if sha256_file(path) != digest:
        path.unlink()
        raise RegistryError(
            f"s3://{bucket}/{key} was changed: its sha256 is not the one in {SUMS_FILE}. Do not use it; export the "
            "package again."
        )


def _require_small(where: str, head: dict[str, Any], limit: int) -> None:
    if head["ContentLength"] > limit:
        raise RegistryError(
            f"{where} has {head['ContentLength']} bytes, more than any such file of a package ({limit}). It is not "
            "fetched; export the package again."
        )


def _head(client: Any, bucket: str, key: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        head: dict[str, Any] = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return None
        raise
    return head


def _unfinished(client: Any, content: memoryview, bucket: str, key: str) -> tuple[dict[int, str], str | None]:
    """Parts (number to ETag) of an upload that was cut off, and its id; one of other content is thrown away."""
    listed = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
    for each in listed:
        if each["Key"] != key:
            continue
        upload_id = str(each["UploadId"])
        pages = client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload_id)
        parts = {int(p["PartNumber"]): str(p["ETag"]) for page in pages for p in page.get("Parts", [])}
        if parts and all(tag.strip('"') == _md5(_part(content, number)) for number, tag in parts.items()):
            return parts, upload_id
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    return {}, None


def _part(content: memoryview, number: int) -> bytes:
    return content[(number - 1) * PART_BYTES : number * PART_BYTES].tobytes()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
