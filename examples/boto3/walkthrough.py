#!/usr/bin/env python3
"""AWS's bulk provisioning walkthrough with boto3, against the fake of AWS in this repository.

    $ go run ./examples/fakeaws
    AWS_ENDPOINT_URL=http://127.0.0.1:4566

    $ AWS_ENDPOINT_URL=http://127.0.0.1:4566 python3 examples/boto3/walkthrough.py DIR

It registers three devices and leaves their keys and certificates in DIR, a folder that does not exist yet. The access
key is made up, so it can't reach an AWS account. Needs boto3 (tried with 1.26 and 1.43) and the openssl command.
"""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

DEVICES = {"device-one": "001", "device-two": "002", "device-three": "003"}  # thing name: serial number
BUCKET = "my-fleet-input"
ROLE = "iot-bulk-provisioning-role"
DATA_FILE = "bulk-provisioning-data.json"

TRUST_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ROLE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/*"]}],
}
DEVICE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"], "Resource": ["*"]}],
}
TEMPLATE = {
    "Parameters": {"ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"}, "CSR": {"Type": "String"}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Ref": "ThingName"},
                "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "SerialNumber"}},
            },
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": json.dumps(DEVICE_POLICY)}},
    },
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: walkthrough.py DIR")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        sys.exit("AWS_ENDPOINT_URL is not set: start the fake (go run ./examples/fakeaws) and set it to what that prints")
    out = Path(sys.argv[1])
    out.mkdir(mode=0o700)

    # boto3 reads AWS_ENDPOINT_URL by itself from 1.28 on. A call that fails is not tried again: a task whose answer was
    # lost would be started twice.
    session = boto3.Session(aws_access_key_id="fake", aws_secret_access_key="fake", region_name="us-east-1")
    iot, s3, iam = (
        session.client(service, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}))
        for service in ("iot", "s3", "iam")
    )

    s3.create_bucket(Bucket=BUCKET)
    role_arn = create_role(iam)
    print("role", role_arn)

    lines = []
    for name, serial in DEVICES.items():
        row = {"ThingName": name, "SerialNumber": serial, "CSR": make_csr(out, name)}
        lines.append(json.dumps(row) + "\n")
    s3.put_object(Bucket=BUCKET, Key=DATA_FILE, Body="".join(lines).encode())

    task = iot.start_thing_registration_task(
        templateBody=json.dumps(TEMPLATE), inputFileBucket=BUCKET, inputFileKey=DATA_FILE, roleArn=role_arn
    )["taskId"]
    if task not in iot.list_thing_registration_tasks()["taskIds"]:
        sys.exit(f"task {task} is not in the list of tasks")
    end = wait(iot, task)

    # A task with failed lines is Completed all the same. What counts is the counts.
    if end["status"] != "Completed" or end["successCount"] != len(DEVICES):
        for line in report(iot, task, "ERRORS"):
            print(f"line {line['lineNumber']}: {line['errorMessage']}", file=sys.stderr)
        sys.exit(f"the task ended as {end['status']}, {end['successCount']} of {len(DEVICES)} devices registered")

    ca = urllib.request.urlopen(endpoint + "/_fake/ca.pem", timeout=60).read()
    (out / "ca.pem").write_bytes(ca)
    found = {}
    for line in report(iot, task, "RESULTS"):
        name = line["response"]["ResourceArns"]["thing"].rpartition(":thing/")[2]
        found[name] = line["response"]["CertificatePem"]
    if found.keys() != DEVICES.keys():
        sys.exit(f"the report is about {sorted(found)}, not {sorted(DEVICES)}")
    for name, pem in found.items():
        check_certificate(iot, out, name, pem)
    print(f"{len(found)} devices have a thing and a certificate that fits their key")


def create_role(iam) -> str:
    """Makes the role that lets AWS IoT read the data file and register things, and returns its ARN."""
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST_POLICY))
    iam.put_role_policy(RoleName=ROLE, PolicyName="read-data-file", PolicyDocument=json.dumps(ROLE_POLICY))
    iam.attach_role_policy(RoleName=ROLE, PolicyArn="arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")
    return role["Role"]["Arn"]


def make_csr(out: Path, name: str) -> str:
    """Makes the device's key, which stays in its file, and returns the certificate signing request."""
    subject = "/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept"
    key = out / f"{name}.key"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    return openssl("req", "-new", "-key", key, "-subj", subject)


def wait(iot, task: str) -> dict:
    """Waits until the task has ended, a minute at most, and returns its last description."""
    for _ in range(60):
        now = iot.describe_thing_registration_task(taskId=task)
        print(f"{now['status']}: {now['successCount']} succeeded, {now['failureCount']} failed, {now['percentageProgress']} %")
        if now["status"] not in ("InProgress", "Cancelling"):
            return now
        time.sleep(1)
    sys.exit(f"task {task} has not ended after a minute")


def report(iot, task: str, kind: str):
    """Yields the lines of a report, which can be several files. Whoever has a link can read its file: print none."""
    pages = iot.get_paginator("list_thing_registration_task_reports").paginate(taskId=task, reportType=kind)
    for page in pages:
        for link in page["resourceLinks"]:
            with urllib.request.urlopen(link, timeout=60) as file:
                for line in file:
                    yield json.loads(line)


def check_certificate(iot, out: Path, name: str, pem: str) -> None:
    certificate = out / f"{name}.crt"
    certificate.write_text(pem)
    if openssl("pkey", "-in", out / f"{name}.key", "-pubout") != openssl("x509", "-in", certificate, "-noout", "-pubkey"):
        sys.exit(f"{name}: the certificate is not for the key in {name}.key")
    # Only here: AWS publishes no CA to check device certificates against.
    print(openssl("verify", "-CAfile", out / "ca.pem", certificate), end="")

    # What is registered under the thing's name is this certificate: AWS's id for it is its SHA-256.
    certificate_id = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    principals = iot.list_thing_principals(thingName=name)["principals"]
    if [p.rpartition(":cert/")[2] for p in principals] != [certificate_id]:
        sys.exit(f"{name}: want certificate {certificate_id} attached and no other, have {principals}")


def openssl(*args) -> str:
    """Runs openssl and returns what it printed, or ends the program with its error."""
    try:
        done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        sys.exit("needs the openssl command; install the package openssl")
    if done.returncode != 0:
        sys.exit(f"openssl {args[0]}: {done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
