"""Files on S3 (of moto) and HTTP are listed, fetched and read as local ones are; what breaks is tried again."""

from __future__ import annotations

import gzip
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.test_formats import content, make_source, read
from pydantic import ValidationError

from pipeline.corpus.readers import remote_files
from pipeline.errors import BadDataError, ConfigError, MissingInputError, StorageError

TEXTS = ["first text", "second text, ü"]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


@pytest.fixture(autouse=True)
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote_files, "FIRST_WAIT_SECONDS", 0.0)
    remote_files._listing.cache_clear()


class Site(ThreadingHTTPServer):
    """A server of HTTP with files, which may fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.breaks = 0
        """How many answers more break off in the middle."""
        self.status = 200
        self.tags = True
        self.password = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        site, data = self.server, self.server.files.get(self.path)
        site.requests.append(f"{self.command} {self.path}")
        status = site.status if data is not None else 404
        if site.password and self.headers["Authorization"] != f"Basic {b64encode(site.password.encode()).decode()}":
            status = 401
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{site.url}/refused?signature=SECRET")
        self.send_header("Content-Length", str(len(data or b"")))
        if site.tags:
            self.send_header("ETag", f'"{hash(data)}"')
        self.end_headers()
        if self.command == "GET" and status == 200 and data is not None:
            if site.breaks:
                site.breaks -= 1
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            else:
                self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of S3 whose server is moto's, with a bucket `texts`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="texts")
        yield client
    server.stop()


def test_files_of_s3_are_read_by_folder_wildcard_and_name(bucket: Any) -> None:
    bucket.put_object(Bucket="texts", Key="a/one.jsonl", Body=LINES)
    bucket.put_object(Bucket="texts", Key="a/deep/two.jsonl.gz", Body=gzip.compress(LINES))
    bucket.put_object(Bucket="texts", Key="a/notes.csv", Body=b"no")
    bucket.put_object(Bucket="texts", Key="a/.hidden/three.jsonl", Body=b"no")
    pq.write_table(pa.table({"text": TEXTS}), "t.parquet")
    bucket.put_object(Bucket="texts", Key="tables/t.parquet", Body=Path("t.parquet").read_bytes())
    expected = [(text, None) for text in TEXTS]
    folder = make_source("jsonl", paths=["s3://texts/a"])
    assert content(folder) == expected * 2
    assert [d.origin for d in read(folder)] == [f"{n}:{i}" for n in ("deep/two.jsonl.gz", "one.jsonl") for i in (1, 2)]
    glob = make_source("jsonl", paths=["s3://texts/a/o*.jsonl"])
    assert [d.origin for d in read(glob)] == ["one.jsonl:1", "one.jsonl:2"]
    both = make_source("jsonl", paths=["s3://texts/a/one.jsonl", "s3://texts/a/*.jsonl"])
    assert content(both) == expected
    assert content(make_source("parquet", paths=["s3://texts/tables/*.parquet"])) == expected
    assert not list(Path().rglob("fetched/*"))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where files are put into the bucket `texts` of an emulator of Google Cloud Storage."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="texts")
    server.start()
    url = f"http://127.0.0.1:{server._api._httpd.server_port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    yield f"{url}/upload/storage/v1/b/texts/o?uploadType=media&name="
    server.stop()


def test_files_of_google_cloud_storage_are_read(cloud: str) -> None:
    for name in ("a%2Fone.jsonl", "a%2Fdeep%2Ftwo.jsonl", "a%2Fnotes.csv"):
        urlopen(Request(f"{cloud}{name}", LINES, {"Content-Type": "text/plain"})).close()
    expected = [(text, None) for text in TEXTS]
    folder = make_source("jsonl", paths=["gs://texts/a"])
    assert content(folder) == expected * 2
    assert [d.origin for d in read(folder)] == [f"{n}:{i}" for n in ("deep/two.jsonl", "one.jsonl") for i in (1, 2)]
    first = folder.facts_of_key()
    urlopen(Request(f"{cloud}a%2Fone.jsonl", LINES * 2, {"Content-Type": "text/plain"})).close()
    remote_files._listing.cache_clear()
    assert folder.facts_of_key() != first
    assert content(make_source("jsonl", paths=["gcs://texts/a/o*.jsonl"])) == expected * 2
    with pytest.raises(MissingInputError, match="mend the address"):
        make_source("jsonl", paths=["gs://texts/none.jsonl"]).facts_of_key()


def test_the_key_changes_with_a_files_content_and_holds_no_secret(bucket: Any) -> None:
    bucket.put_object(Bucket="texts", Key="k/one.jsonl", Body=LINES)
    source = make_source("jsonl", paths=["s3://texts/k/one.jsonl", "s3://texts/k/"])
    first = source.facts_of_key()
    assert list(first) == ["s3://texts/k/one.jsonl", "s3://texts/k/"]
    assert source.files_of_key() == {}
    assert "SECRET" not in json.dumps(first)
    bucket.put_object(Bucket="texts", Key="k/two.jsonl", Body=LINES)
    assert source.facts_of_key() == first, "a command asks once"
    remote_files._listing.cache_clear()
    second = source.facts_of_key()
    assert [first[name] == second[name] for name in first] == [True, False]
    bucket.put_object(Bucket="texts", Key="k/one.jsonl", Body=LINES.replace(b"first", b"FIRST"))
    with pytest.raises(BadDataError, match=r"s3://texts/k/one\.jsonl changed since it was listed; run again"):
        read(source)


def test_what_s3_does_not_have_or_give_is_named(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("s3://texts/none.jsonl", "s3://texts/none/*.jsonl", "s3://nobucket/a.jsonl"):
        with pytest.raises(MissingInputError, match=r"ingest\.sources: s: .*mend the address"):
            make_source("jsonl", paths=[address]).facts_of_key()
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *given, **options: __import__("a_missing_package"))
    with pytest.raises(ConfigError, match=r"needs s3fs; pip install 'descent-pipeline\[s3\]'"):
        make_source("jsonl", paths=["s3://texts/a.jsonl"]).facts_of_key()


def test_files_of_a_web_server_are_read_beside_local_ones(site: Site) -> None:
    site.files = {"/data/a.jsonl": LINES, "/b.jsonl.gz": gzip.compress(LINES)}
    Path("here.jsonl").write_bytes(LINES)
    source = make_source("jsonl", paths=[f"{site.url}/b.jsonl.gz", "here.jsonl", f"{site.url}/data/a.jsonl"])
    assert [d.origin for d in read(source)] == [
        f"{name}:{number}" for name in ("b.jsonl.gz", "here.jsonl", "a.jsonl") for number in (1, 2)
    ]
    assert content(source) == [(text, None) for text in TEXTS] * 3
    assert list(source.files_of_key()) == ["here.jsonl"]
    assert len(source.facts_of_key()) == 2


def test_a_password_comes_from_where_tools_of_the_web_look_for_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files = {"/a.jsonl": LINES}
    site.password = "me:SECRET"
    Path("netrc").write_text("machine 127.0.0.1 login me password WRONG\n")
    monkeypatch.setenv("NETRC", str(Path("netrc").absolute()))
    source = make_source("jsonl", paths=[f"{site.url}/a.jsonl"])
    with pytest.raises(StorageError, match=r"is refused \(401.*\); put credentials into ~/\.netrc"):
        source.facts_of_key()
    Path("netrc").write_text("machine 127.0.0.1 login me password SECRET\n")
    assert content(source) == [(text, None) for text in TEXTS]


@pytest.mark.parametrize("breaks", [1, 4])
def test_what_breaks_off_is_fetched_again(site: Site, breaks: int) -> None:
    site.files = {"/a.jsonl": LINES}
    site.breaks = breaks
    assert content(make_source("jsonl", paths=[f"{site.url}/a.jsonl"])) == [(text, None) for text in TEXTS]
    assert site.requests.count("GET /a.jsonl") == breaks + 1


def test_it_is_not_tried_for_ever(site: Site) -> None:
    site.files = {"/a.jsonl": LINES}
    site.breaks = 99
    with pytest.raises(StorageError, match=r"s: http://.*/a\.jsonl cannot be read \(.*\); try again"):
        read(make_source("jsonl", paths=[f"{site.url}/a.jsonl"]))
    assert site.requests.count("GET /a.jsonl") == remote_files.TRIES


def test_failures_of_a_web_server_are_told_in_one_line_without_secrets(site: Site) -> None:
    site.files = {"/a.jsonl": LINES}
    source = make_source("jsonl", paths=[f"{site.url}/a.jsonl"])
    for status, kind, words in (
        (500, StorageError, "cannot be read"),
        (403, StorageError, "access to .* is refused"),
        (302, MissingInputError, "there is no"),
    ):
        site.status = status
        with pytest.raises(kind, match=f"s: .*{words}.*") as caught:
            source.facts_of_key()
        assert "\n" not in str(caught.value)
        assert "SECRET" not in str(caught.value)
    site.status, site.tags = 200, False
    with pytest.raises(BadDataError, match="ETag or Last-Modified"):
        source.facts_of_key()
    with pytest.raises(MissingInputError, match=r"there is no http://.*/none\.jsonl; mend the address"):
        make_source("jsonl", paths=[f"{site.url}/none.jsonl"]).facts_of_key()
    with pytest.raises(StorageError, match="cannot be read"):
        make_source("jsonl", paths=["http://127.0.0.1:9/a.jsonl"]).facts_of_key()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://user:SECRET@host/a.jsonl", "user's name or a query string"),
        ("https://host/a.jsonl?sig=SECRET", "user's name or a query string"),
        ("s3://key:SECRET@bucket/a.jsonl", "user's name or a query string"),
        ("https://host/*.jsonl", "HTTP lists none"),
        ("https://host/", "HTTP lists none"),
        ("ftp://host/a.jsonl", "not with ftp"),
    ],
)
def test_addresses_that_cannot_be_read_or_hold_secrets_are_refused(address: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_source("jsonl", paths=[address])
    (error,) = caught.value.errors()
    assert words in error["msg"]
    assert "SECRET" not in error["msg"]


def test_messages_of_others_lose_what_may_be_secret() -> None:
    told = "403, url='https://u:SECRET@h/a?X-Signature=SECRET&b=1', and s3://SECRET@b"
    assert remote_files.without_secrets(told) == "403, url='https://h/a', and s3://b"
