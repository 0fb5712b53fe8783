"""Export and pull: complete copies in a folder, a bucket or the cache, resumed, refused by name if changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import typer
from botocore.exceptions import EndpointConnectionError
from s3_server import S3Server, s3_server
from typer.testing import CliRunner

from bus_mlops.cli.consumer import export, pull
from bus_mlops.consumer import export as bundle
from bus_mlops.consumer import s3
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_files import read_sums
from bus_mlops.errors import RegistryError, StoreError
from bus_mlops.files import sha256_file

app = typer.Typer()
app.command()(export)
app.command()(pull)
CHAMPION = "models:/tiny-phantom@champion"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as started:
        yield started


@pytest.fixture
def bucket(server: S3Server, monkeypatch) -> str:
    for name, value in {**server.environment, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    client = s3.open_s3()
    if not client.list_buckets(Prefix="models")["Buckets"]:
        client.create_bucket(Bucket="models")
    return "models"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def _with_handler(handler: Callable[..., None]) -> Iterator[None]:
    """Let a function see every request that sends data, before it leaves."""
    original = s3.open_s3

    def opened():
        client = original()
        client.meta.events.register("before-send.s3", handler)
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "open_s3", opened)
        yield


@contextmanager
def breaking(after: int, times: int | None = None) -> Iterator[None]:
    """Let the connection fail after so many uploads: so many times, or for good."""
    seen = count(1)

    def handler(request, **_):
        if request.method == "PUT" and (n := next(seen)) > after and (times is None or n <= after + times):
            raise EndpointConnectionError(endpoint_url=request.url)

    with pytest.MonkeyPatch.context() as patch:
        if times is None:
            patch.setattr(s3, "ATTEMPTS", 1)
        with _with_handler(handler):
            yield


@contextmanager
def watching(sent: list[str]) -> Iterator[None]:
    """Note the path of everything that is uploaded."""

    def handler(request, **_):
        if request.method == "PUT":
            sent.append(urlsplit(request.url).path)

    with _with_handler(handler):
        yield


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_export_to_a_folder_and_use_it(tiny_registry, scans, tmp_path):
    done = run("export", "2", tmp_path / "out", "--tracking-uri", tiny_registry.uri)
    assert done.exit_code == 0, done.output
    assert "tiny-phantom version 2" in done.stdout
    checked = subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "out")
    assert checked.returncode == 0
    expected = load_model(CHAMPION, tiny_registry.uri)
    copy = load_model(tmp_path / "out")
    assert (copy.name, copy.version, copy.digest) == ("tiny-phantom", "2", expected.digest)
    assert [r.probability for r in copy.predict(scans)] == [r.probability for r in expected.predict(scans)]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert run("export", CHAMPION, tmp_path / "out", "--tracking-uri", tiny_registry.uri).exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before


def test_export_spares_what_is_there(tiny_registry, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    with pytest.raises(RegistryError, match="not an exported package"):
        bundle.export(CHAMPION, str(tmp_path / "mine"), tiny_registry.uri)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["precious.txt"]
    bundle.export(CHAMPION, str(tmp_path / "out"), tiny_registry.uri)
    with pytest.raises(RegistryError, match="tiny-phantom version 2"):
        bundle.export("models:/tiny-phantom/1", str(tmp_path / "out"), tiny_registry.uri)


def test_changed_copy_is_refused_by_name(tiny_registry, tmp_path):
    bundle.export(CHAMPION, str(tmp_path / "out"), tiny_registry.uri)
    with (tmp_path / "out" / "members/fold_2.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(RegistryError, match=r"fold_2\.onnx was changed"):
        load_model(tmp_path / "out")
    with pytest.raises(RegistryError, match=r"fold_2\.onnx was changed"):
        bundle.export(CHAMPION, str(tmp_path / "out"), tiny_registry.uri)
    other = json.loads((tmp_path / "out" / "registry.json").read_text())
    (tmp_path / "out" / "registry.json").write_text(json.dumps({**other, "digest": "0" * 64}))
    with pytest.raises(RegistryError, match="SHA256SUMS is not the file that was registered"):
        load_model(tmp_path / "out")


def test_a_bare_number_needs_one_model(tiny_registry, package_folder, tmp_path):
    from bus_mlops.consumer.resolve import version_uri

    assert version_uri("2", tiny_registry.uri) == "models:/tiny-phantom/2"
    assert version_uri(CHAMPION) == CHAMPION
    assert version_uri(str(package_folder)) == str(package_folder)


def test_bucket_holds_the_same_and_is_used_from_there(tiny_registry, bucket, scans, cache):
    uri = f"s3://{bucket}/whole/2"
    assert run("export", CHAMPION, uri, "--tracking-uri", tiny_registry.uri).exit_code == 0
    model = load_model(uri)
    expected = load_model(CHAMPION, tiny_registry.uri)
    assert (model.name, model.version, model.digest) == ("tiny-phantom", "2", expected.digest)
    assert model.folder == cache / expected.digest
    assert [r.probability for r in model.predict(scans)] == [r.probability for r in expected.predict(scans)]
    with pytest.raises(RegistryError, match="holds tiny-phantom version 2"):
        bundle.export("models:/tiny-phantom/1", uri, tiny_registry.uri)


def test_half_an_export_is_no_package_and_is_finished_later(tiny_registry, bucket):
    """The connection breaks at the third object, for good: the next export sends only what is missing."""
    uri = f"s3://{bucket}/half/2"
    sent: list[str] = []
    with breaking(after=2), pytest.raises(StoreError, match="goes on where it stopped"):
        bundle.export(CHAMPION, uri, tiny_registry.uri)
    with pytest.raises(RegistryError, match="no SHA256SUMS"):
        load_model(uri)
    with watching(sent):
        bundle.export(CHAMPION, uri, tiny_registry.uri)
    files = len(read_sums(load_model(uri).folder))
    assert len(sent) == files - 1 + 1  # registry.json and one file were there; SHA256SUMS comes on top
    sent.clear()
    with watching(sent):
        bundle.export(CHAMPION, uri, tiny_registry.uri)
    assert sent == []


def test_changed_or_lost_object_is_refused_by_name(tiny_registry, bucket):
    uri = f"s3://{bucket}/changed"
    bundle.export(CHAMPION, uri, tiny_registry.uri)
    client = s3.open_s3()
    client.put_object(Bucket=bucket, Key="changed/members/fold_1.onnx", Body=b"other")
    with pytest.raises(RegistryError, match=r"fold_1\.onnx was changed"):
        load_model(uri)
    client.delete_object(Bucket=bucket, Key="changed/members/fold_1.onnx")
    with pytest.raises(RegistryError, match=r"fold_1\.onnx is missing"):
        load_model(uri)
    bundle.export(CHAMPION, uri, tiny_registry.uri)
    assert load_model(uri).check_example() < 1e-6


class TestMultipart:
    """Files of many parts: what `upload` sends, retries and resumes."""

    @pytest.fixture
    def large(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr(s3, "PART_BYTES", 5 * 2**20)
        path = tmp_path / "large.bin"
        path.write_bytes(np.random.default_rng(0).bytes(26 * 2**20))
        return path

    def same(self, client, bucket: str, key: str, path: Path) -> bool:
        return bool(client.get_object(Bucket=bucket, Key=key)["Body"].read() == path.read_bytes())

    def test_it_is_resumed_part_by_part(self, large, bucket):
        digest, client = sha256_file(large), s3.open_s3()
        sent: list[str] = []
        with breaking(after=3), pytest.raises(Exception, match="endpoint"):
            s3.upload(s3.open_s3(), large, bucket, "large", digest)
        with watching(sent):
            assert s3.upload(s3.open_s3(), large, bucket, "large", digest)
        assert 1 <= len(sent) <= 3  # of six; those under way when the connection broke may have arrived
        assert self.same(client, bucket, "large", large)
        sent.clear()
        with watching(sent):
            assert not s3.upload(s3.open_s3(), large, bucket, "large", digest)
        assert sent == []
        assert client.list_multipart_uploads(Bucket=bucket, Prefix="large").get("Uploads", []) == []

    def test_parts_of_another_file_are_thrown_away(self, large, bucket):
        with breaking(after=3), pytest.raises(Exception, match="endpoint"):
            s3.upload(s3.open_s3(), large, bucket, "other", sha256_file(large))
        large.write_bytes(large.read_bytes()[::-1])
        digest = sha256_file(large)
        assert s3.upload(s3.open_s3(), large, bucket, "other", digest)
        client = s3.open_s3()
        assert self.same(client, bucket, "other", large)
        assert client.head_object(Bucket=bucket, Key="other")["Metadata"]["sha256"] == digest

    @pytest.mark.parametrize("size", [100, 6 * 2**20])
    def test_what_was_changed_after_its_check_is_not_sent(self, large, bucket, size):
        large.write_bytes(large.read_bytes()[:size])
        digest = sha256_file(large)
        large.write_bytes(b"x" + large.read_bytes()[1:])
        with pytest.raises(RegistryError, match=r"large\.bin was changed after it was checked"):
            s3.upload(s3.open_s3(), large, bucket, "raced", digest)
        assert "Contents" not in s3.open_s3().list_objects_v2(Bucket=bucket, Prefix="raced")

    def test_a_short_failure_is_retried(self, large, bucket):
        with breaking(after=2, times=2):
            assert s3.upload(s3.open_s3(), large, bucket, "retried", sha256_file(large))
        assert self.same(s3.open_s3(), bucket, "retried", large)


def test_without_a_bucket_or_a_server_the_error_says_so(tiny_registry, bucket, monkeypatch):
    with pytest.raises(RegistryError, match="s3://BUCKET/PREFIX"):
        load_model(f"s3://{bucket}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match=r"s3://models/x cannot be used.*credentials"):
        bundle.export(CHAMPION, f"s3://{bucket}/x", tiny_registry.uri)
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        load_model(f"s3://{bucket}/x")


def test_pull_works_when_the_store_is_gone(tiny_registry, scans, tmp_path, cache, caplog):
    store = tmp_path / "store"
    store.mkdir()
    file = Path(tiny_registry.uri.removeprefix("sqlite:///"))
    shutil.copyfile(file, store / "mlflow.db")
    uri = f"sqlite:///{store / 'mlflow.db'}"
    expected = load_model(CHAMPION, uri)
    done = run("pull", CHAMPION, "--tracking-uri", uri)
    assert done.exit_code == 0, done.output
    assert str(cache / expected.digest) in done.stdout
    (store / "mlflow.db").write_text("the disk is gone" * 100)
    model = load_model(CHAMPION, uri)
    assert model.folder == cache / expected.digest
    assert (model.name, model.version) == ("tiny-phantom", "2")
    assert "using version 2, pulled" in caplog.text
    assert [r.probability for r in model.predict(scans)] == [r.probability for r in expected.predict(scans)]
    # What was never pulled is an error as before.
    with pytest.raises(StoreError):
        load_model("models:/tiny-phantom/1", uri)
    (cache / expected.digest / "members/fold_1.onnx").write_bytes(b"x")
    with pytest.raises(
        StoreError, match=r"copy in the cache is damaged .*fold_1\.onnx was changed.*cannot be fetched again"
    ):
        load_model(CHAMPION, uri)
    # Within reach of the store again, nobody need do anything.
    shutil.copyfile(file, store / "mlflow.db")
    caplog.clear()
    assert load_model(CHAMPION, uri).check_example() < 1e-6
    assert "damaged and is fetched again" in caplog.text


def _cut(folder: Path) -> None:
    (folder / "members/fold_1.onnx").unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _other_origin(folder: Path) -> None:
    origin = json.loads((folder / "registry.json").read_text())
    (folder / "registry.json").write_text(json.dumps({**origin, "digest": "0" * 64}))


@pytest.mark.parametrize("damage", [_cut, _empty, _other_origin])
def test_a_damaged_or_half_written_copy_is_fetched_again(tiny_registry, bucket, cache, caplog, damage):
    uri = f"s3://{bucket}/whole/{damage.__name__}"
    bundle.export(CHAMPION, uri, tiny_registry.uri)
    folder, _ = bundle.pull(uri)
    damage(folder)
    again = load_model(uri)
    assert again.folder == folder
    assert again.check_example() < 1e-6
    assert "damaged and is fetched again" in caplog.text
    assert {path.name for path in cache.iterdir()} == {folder.name, "pulled.json"}
    damage(folder)
    assert bundle.pull(uri)[0] == folder
    assert load_model(folder).version == "2"


def test_a_damaged_list_of_pulled_packages_stops_nothing(tiny_registry, cache, caplog):
    bundle.pull(CHAMPION, tiny_registry.uri)
    (cache / "pulled.json").write_text('[{"store": ')
    assert load_model(CHAMPION, tiny_registry.uri).version == "2"
    assert "nothing counts as pulled" in caplog.text
    bundle.pull(CHAMPION, tiny_registry.uri)
    assert len(json.loads((cache / "pulled.json").read_text())) == 1


def test_export_into_the_folder_where_one_stands(tiny_registry, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert bundle.export(CHAMPION, ".", tiny_registry.uri).version == "2"
    assert load_model(".").version == "2"
    (tmp_path / "here" / "SHA256SUMS").unlink()  # as a copy that was cut off
    bundle.export(CHAMPION, "", tiny_registry.uri)
    assert load_model(Path.cwd()).check_example() < 1e-6
    with pytest.raises(RegistryError, match="not an exported package"):
        bundle.export(CHAMPION, "..", tiny_registry.uri)


@pytest.mark.parametrize("target", ["/dev/null", "/dev/null/x", "~nobody-of-that-name/x", "a\0b", "n" * 300, "/proc/x"])
def test_a_target_that_cannot_be_written_is_an_error_that_names_it(tiny_registry, target):
    with pytest.raises(RegistryError, match="Name another folder"):
        bundle.export(CHAMPION, target, tiny_registry.uri)


def test_pulled_from_a_bucket_works_without_it(tiny_registry, bucket, scans, monkeypatch):
    uri = f"s3://{bucket}/pulled"
    bundle.export(CHAMPION, uri, tiny_registry.uri)
    folder, pulled = bundle.pull(uri)
    assert (pulled.name, pulled.version) == ("tiny-phantom", "2")
    assert bundle.pull(uri)[0] == folder
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert load_model(uri).predict(scans[:1])[0].error is None


def test_a_refusing_store_is_not_taken_for_one_that_is_away(tiny_registry, tmp_path):
    """A model that was pulled and has lost its alias since is not answered from the cache."""
    import mlflow

    store = tmp_path / "mlflow.db"
    shutil.copyfile(tiny_registry.uri.removeprefix("sqlite:///"), store)
    bundle.pull(CHAMPION, f"sqlite:///{store}")
    mlflow.MlflowClient(f"sqlite:///{store}").delete_registered_model_alias("tiny-phantom", "champion")
    with pytest.raises(RegistryError, match="has no champion"):
        load_model(CHAMPION, f"sqlite:///{store}")


def test_an_address_of_s3_without_its_scheme_is_said(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    with pytest.raises(RegistryError, match="must begin with http"):
        load_model("s3://bucket/model")
