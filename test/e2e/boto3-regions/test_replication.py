"""S3's replication calls by boto3, between two regions. Run by ../s3-replication.test.ts."""

import os
import time

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError


def make_client(endpoint, region):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


here = make_client(os.environ["PANDO_TEST_ENDPOINT"], "region-1")
there = make_client(os.environ["PANDO_TEST_OTHER"], "region-2")


def configuration(bucket="boto", region="region-2", rule=None, destination=None):
    return {
        "Role": "arn:aws:iam::123456789012:role/copies",
        "Rules": [
            {
                "ID": "to the other",
                "Priority": 7,
                "Status": "Enabled",
                "Filter": {"Prefix": "kept/"},
                "DeleteMarkerReplication": {"Status": "Enabled"},
                "Destination": {"Bucket": f"arn:aws:s3:{region}::{bucket}", **(destination or {})},
                **(rule or {}),
            }
        ],
    }


def refusal(**arguments):
    with pytest.raises(ClientError) as caught:
        here.put_bucket_replication(
            Bucket="boto", ReplicationConfiguration=configuration(**arguments)
        )
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def status(client, key, **version):
    return client.head_object(Bucket="boto", Key=key, **version).get("ReplicationStatus")


def eventually(probe, expected):
    for _ in range(300):
        seen = probe()
        if seen == expected:
            return
        time.sleep(0.1)
    assert seen == expected


def test_what_cannot_be_kept_is_refused_by_name():
    here.create_bucket(Bucket="boto")
    with pytest.raises(ClientError) as caught:
        here.get_bucket_replication(Bucket="boto")
    assert caught.value.response["Error"]["Code"] == "ReplicationConfigurationNotFoundError"
    code, message = refusal(region="nowhere")
    assert code == "InvalidArgument" and "nowhere" in message
    code, message = refusal(region="")
    assert code == "InvalidArgument" and "arn:aws:s3:REGION::boto" in message
    code, message = refusal(bucket="other")
    assert code == "InvalidArgument" and "same name" in message
    for arguments, part in [
        ({"rule": {"Status": "Disabled"}}, "disabled"),
        ({"rule": {"DeleteMarkerReplication": {"Status": "Disabled"}}}, "DeleteMarkerReplication"),
        ({"rule": {"ExistingObjectReplication": {"Status": "Disabled"}}}, "ExistingObjectReplication"),
        ({"rule": {"Filter": {"Tag": {"Key": "a", "Value": "b"}}}}, "tags"),
        ({"destination": {"StorageClass": "GLACIER"}}, "StorageClass"),
    ]:
        code, message = refusal(**arguments)
        assert code == "NotImplemented" and part in message, message
    assert status_of_rule() is None


def status_of_rule():
    try:
        return here.get_bucket_replication(Bucket="boto")["ReplicationConfiguration"]
    except ClientError:
        return None


def test_a_configuration_becomes_the_rule_and_is_shown_again():
    here.put_object(Bucket="boto", Key="kept/before", Body=b"before")
    here.put_bucket_replication(
        Bucket="boto",
        ReplicationConfiguration=configuration(
            destination={
                "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
                "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
            }
        ),
    )
    shown = status_of_rule()
    assert shown["Role"] == "arn:aws:iam::123456789012:role/copies"
    [rule] = shown["Rules"]
    assert (rule["ID"], rule["Priority"], rule["Status"]) == ("to the other", 7, "Enabled")
    assert rule["Filter"] == {"Prefix": "kept/"}
    assert rule["Destination"]["Bucket"] == "arn:aws:s3:region-2::boto"
    assert rule["Destination"]["ReplicationTime"]["Time"]["Minutes"] == 15


def test_the_status_of_each_version_is_told():
    here.put_object(Bucket="boto", Key="kept/new", Body=b"new" * 5000)
    here.put_object(Bucket="boto", Key="elsewhere", Body=b"x")
    for key in ["kept/before", "kept/new"]:
        eventually(lambda key=key: status(here, key), "COMPLETED")
        assert status(there, key) == "REPLICA"
        body = here.get_object(Bucket="boto", Key=key)
        assert body["ReplicationStatus"] == "COMPLETED"
        assert there.get_object(Bucket="boto", Key=key)["Body"].read() == body["Body"].read()
    assert status(here, "elsewhere") is None
    with pytest.raises(ClientError):
        there.head_object(Bucket="boto", Key="elsewhere")
    # From the other region the rule reads as it is: what is replicated here comes from region 1.
    [rule] = there.get_bucket_replication(Bucket="boto")["ReplicationConfiguration"]["Rules"]
    assert rule["Destination"]["Bucket"] == "arn:aws:s3:region-1::boto"


def test_without_the_configuration_nothing_is_replicated_and_with_it_again_everything_is():
    here.delete_bucket_replication(Bucket="boto")
    here.delete_bucket_replication(Bucket="boto")
    assert status_of_rule() is None
    here.put_object(Bucket="boto", Key="kept/later", Body=b"later")
    assert status(here, "kept/later") is None
    here.put_bucket_replication(Bucket="boto", ReplicationConfiguration=configuration())
    eventually(lambda: status(here, "kept/later"), "COMPLETED")
    assert there.get_object(Bucket="boto", Key="kept/later")["Body"].read() == b"later"
