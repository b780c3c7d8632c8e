"""boto3 against the endpoint in the environment, or against several with commas between them: each request goes to the next.
Run by ../boto3.test.ts, which reports each case as a test, and by a region of five nodes."""

import base64
import hashlib
import io
import itertools
import os
import random
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zlib

import boto3
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError

MEBIBYTE = 1024 * 1024


ENDPOINTS = os.environ["PANDO_TEST_ENDPOINT"].split(",")
NEXT_ENDPOINT = itertools.cycle(ENDPOINTS)


def make_client(**options):
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINTS[0],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, **options),
    )
    if len(ENDPOINTS) > 1:
        client.meta.events.register("before-sign.s3", send_to_next)
    return client


def send_to_next(request, **_):
    host = urllib.parse.urlsplit(next(NEXT_ENDPOINT)).netloc
    request.url = urllib.parse.urlsplit(request.url)._replace(netloc=host).geturl()


@pytest.fixture(scope="module")
def s3():
    return make_client()


@pytest.fixture()
def bucket(s3):
    name = f"boto3-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    while True:
        page = s3.list_object_versions(Bucket=name)
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        if not entries:
            break
        gone = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        result = s3.delete_objects(Bucket=name, Delete={"Objects": gone, "Quiet": True})
        assert "Errors" not in result
    s3.delete_bucket(Bucket=name)


def seeded(seed, size):
    return random.Random(seed).randbytes(size)


def refusal(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 5 * MEBIBYTE, 27 * MEBIBYTE + 13])
def test_upload_file_and_download_file_keep_every_byte(s3, bucket, tmp_path, size):
    data = seeded(size, size)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(data)
    config = TransferConfig(multipart_threshold=8 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE, max_concurrency=4)
    s3.upload_file(str(source), bucket, "key", Config=config, ExtraArgs={"Metadata": {"colour": "grün".encode().hex()}})
    s3.download_file(bucket, "key", str(back), Config=config)
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(data).digest()
    head = s3.head_object(Bucket=bucket, Key="key")
    assert head["ContentLength"] == size
    assert head["Metadata"] == {"colour": "grün".encode().hex()}
    if size <= 8 * MEBIBYTE:
        assert head["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    else:
        assert head["ETag"].endswith('-6"')


def test_upload_fileobj_streams_without_a_known_length(s3, bucket):
    data = seeded(1, 11 * MEBIBYTE)

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.inner = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.inner.readinto(buffer)

    s3.upload_fileobj(Pipe(), bucket, "pipe", Config=TransferConfig(multipart_chunksize=5 * MEBIBYTE))
    assert s3.get_object(Bucket=bucket, Key="pipe")["Body"].read() == data


def test_paginator_sees_every_key_once_in_order_with_prefixes(s3, bucket):
    keys = sorted(
        [f"plain-{index:04}" for index in range(30)] + [f"dir-{index % 4}/file-{index}" for index in range(30)],
        key=str.encode,
    )
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for operation in ["list_objects", "list_objects_v2"]:
        seen = []
        for page in s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": 7}):
            assert len(page.get("Contents", [])) <= 7
            seen += [entry["Key"] for entry in page.get("Contents", [])]
        assert seen == keys
        contents, prefixes = [], []
        pages = s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 3})
        for page in pages:
            contents += [entry["Key"] for entry in page.get("Contents", [])]
            prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert contents == [key for key in keys if "/" not in key]
        assert prefixes == ["dir-0/", "dir-1/", "dir-2/", "dir-3/"]
    after = s3.list_objects_v2(Bucket=bucket, StartAfter="plain-0027")
    assert [entry["Key"] for entry in after["Contents"]] == ["plain-0028", "plain-0029"]


def test_strange_keys_are_kept_exactly(s3, bucket):
    keys = ["a b", "a+b", "a%20b", "ü/ö", "quote'\"<&>", "slash//double", "trailing/", "..", "../up", "a\tb", "\u2028", "🪼", "k" * 1024]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=str.encode)
    assert refusal(s3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"") == "KeyTooLongError"


def test_presigned_urls_for_get_put_and_head(s3, bucket):
    body = seeded(2, 100_000)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "via url ü"}, ExpiresIn=60)
    answer = requests.put(put, data=body, timeout=30)
    assert answer.status_code == 200, answer.text
    get = s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": "via url ü", "ResponseContentType": "text/x-other"},
        ExpiresIn=60,
    )
    answer = requests.get(get, timeout=30)
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["content-type"] == "text/x-other"
    assert requests.put(get, data=b"x", timeout=30).status_code == 403
    assert "SignatureDoesNotMatch" in requests.get(get.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), timeout=30).text


def test_urls_that_boto3_presigns_unless_it_is_told_otherwise(bucket):
    client = boto3.client("s3", endpoint_url=ENDPOINTS[0], config=Config(s3={"addressing_style": "path"}))
    key = "by default/ü + (1)"
    put = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
    # Signature V2: for regions that S3 serves it in, us-east-1 among them.
    assert "AWSAccessKeyId=" in put
    answer = requests.put(put, data=b"by default", timeout=30)
    assert answer.status_code == 200, answer.text
    disposition = 'attachment; filename="a b.txt"'
    get = client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key, "ResponseContentDisposition": disposition}, ExpiresIn=60
    )
    answer = requests.get(get, timeout=30)
    assert (answer.status_code, answer.content) == (200, b"by default"), answer.text
    assert answer.headers["content-disposition"] == disposition
    assert "SignatureDoesNotMatch" in requests.get(get.replace("a%20b", "c%20d"), timeout=30).text
    assert "SignatureDoesNotMatch" in requests.delete(get, timeout=30).text
    listing = client.generate_presigned_url("list_objects", Params={"Bucket": bucket}, ExpiresIn=60)
    assert "<Key>by%20default/" in requests.get(listing, timeout=30).text
    late = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=-5)
    assert "Request has expired" in requests.get(late, timeout=30).text
    remove = client.generate_presigned_url("delete_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
    assert requests.delete(remove, timeout=30).status_code == 204


def test_presigned_post_takes_the_form_and_enforces_its_conditions(s3, bucket):
    post = s3.generate_presigned_post(
        bucket,
        "forms/${filename}",
        Fields={"Content-Type": "text/plain", "success_action_status": "201"},
        Conditions=[{"Content-Type": "text/plain"}, {"success_action_status": "201"}, ["content-length-range", 1, 1000]],
        ExpiresIn=60,
    )
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("a.txt", b"posted")}, timeout=30)
    assert answer.status_code == 201, answer.text
    assert "<Key>forms/a.txt</Key>" in answer.text
    got = s3.get_object(Bucket=bucket, Key="forms/a.txt")
    assert got["Body"].read() == b"posted"
    assert got["ContentType"] == "text/plain"
    answer = requests.post(post["url"], data=post["fields"], files={"file": ("b.txt", b"x" * 1001)}, timeout=30)
    assert answer.status_code == 400
    assert "EntityTooLarge" in answer.text
    wrong = dict(post["fields"], **{"Content-Type": "text/html"})
    answer = requests.post(post["url"], data=wrong, files={"file": ("c.txt", b"posted")}, timeout=30)
    assert answer.status_code == 403
    assert "AccessDenied" in answer.text


def test_checksums_are_verified_stored_and_returned(s3, bucket):
    data = seeded(3, 123_456)
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    put = s3.put_object(Bucket=bucket, Key="crc", Body=data, ChecksumAlgorithm="CRC32")
    assert put["ChecksumCRC32"] == crc
    assert s3.head_object(Bucket=bucket, Key="crc", ChecksumMode="ENABLED")["ChecksumCRC32"] == crc
    sha = base64.b64encode(hashlib.sha256(data).digest()).decode()
    s3.put_object(Bucket=bucket, Key="sha", Body=data, ChecksumSHA256=sha)
    got = s3.get_object(Bucket=bucket, Key="sha", ChecksumMode="ENABLED")
    assert got["Body"].read() == data
    assert got["ChecksumSHA256"] == sha
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert refusal(s3.put_object, Bucket=bucket, Key="bad", Body=data, ChecksumSHA256=wrong) == "BadDigest"
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert refusal(s3.put_object, Bucket=bucket, Key="bad", Body=data, ContentMD5=md5) == "BadDigest"
    assert refusal(s3.get_object, Bucket=bucket, Key="bad") == "NoSuchKey"


def test_multipart_checksums_are_composite(s3, bucket):
    parts = [seeded(4, 5 * MEBIBYTE), seeded(5, 1234)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="mpu", ChecksumAlgorithm="SHA256")["UploadId"]
    sent = []
    for number, data in enumerate(parts, 1):
        part = s3.upload_part(
            Bucket=bucket, Key="mpu", UploadId=upload, PartNumber=number, Body=data, ChecksumAlgorithm="SHA256"
        )
        sent.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]})
    done = s3.complete_multipart_upload(Bucket=bucket, Key="mpu", UploadId=upload, MultipartUpload={"Parts": sent})
    whole = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in parts)).digest()
    assert done["ChecksumSHA256"] == base64.b64encode(whole).decode() + "-2"
    assert s3.get_object(Bucket=bucket, Key="mpu")["Body"].read() == b"".join(parts)


def test_conditional_reads_and_writes(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    assert refusal(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag) == "304"
    assert refusal(s3.get_object, Bucket=bucket, Key="k", IfMatch='"abc"') == "PreconditionFailed"

    def conditional(**headers):
        def add(request, **_):
            for name, value in headers.items():
                request.headers[name.replace("_", "-")] = value

        client = make_client()
        # Debian's boto3 does not know the parameters of conditional writes: the header is what counts.
        client.meta.events.register("before-sign.s3.PutObject", add)
        return client

    assert refusal(conditional(If_None_Match="*").put_object, Bucket=bucket, Key="k", Body=b"two") == "PreconditionFailed"
    assert refusal(conditional(If_Match='"abc"').put_object, Bucket=bucket, Key="k", Body=b"two") == "PreconditionFailed"
    assert refusal(conditional(If_Match=etag).put_object, Bucket=bucket, Key="none", Body=b"two") == "NoSuchKey"
    conditional(If_Match=etag).put_object(Bucket=bucket, Key="k", Body=b"two")
    conditional(If_None_Match="*").put_object(Bucket=bucket, Key="fresh", Body=b"three")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    assert s3.get_object(Bucket=bucket, Key="fresh")["Body"].read() == b"three"


def test_versioning(s3, bucket):
    before = s3.put_object(Bucket=bucket, Key="k", Body=b"null version")
    assert "VersionId" not in before
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] is True
    assert refusal(s3.get_object, Bucket=bucket, Key="k") == "NoSuchKey"
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"first"
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"null version"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"null again")
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [(entry["VersionId"], entry["IsLatest"]) for entry in versions] == [("null", True), (first, False)]


def test_anonymous_reads_only_what_a_policy_opens(s3, bucket):
    s3.put_object(Bucket=bucket, Key="public/a", Body=b"public")
    s3.put_object(Bucket=bucket, Key="private/a", Body=b"private")
    base = f"{next(NEXT_ENDPOINT)}/{bucket}"

    def status(path):
        try:
            with urllib.request.urlopen(base + path, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/public/a") == 403
    s3.put_bucket_policy(
        Bucket=bucket,
        Policy="""{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::%s/public/*"}]}""" % bucket,
    )
    assert status("/public/a") == 200
    assert status("/private/a") == 403
    assert status("/") == 403
    s3.delete_bucket_policy(Bucket=bucket)
    assert status("/public/a") == 403


def test_cors_preflight_follows_the_rules(s3, bucket):
    rules = [{"AllowedOrigins": ["https://*.example.org"], "AllowedMethods": ["GET"], "AllowedHeaders": ["x-*"], "MaxAgeSeconds": 5}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    url = f"{next(NEXT_ENDPOINT)}/{bucket}/key"
    asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
    answer = requests.options(url, headers=asked, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
    stranger = requests.options(url, headers=dict(asked, Origin="https://example.net"), timeout=30)
    assert stranger.status_code == 403
    assert "access-control-allow-origin" not in stranger.headers
