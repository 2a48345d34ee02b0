// AWS's bulk provisioning walkthrough with the AWS SDK for JavaScript, against the fake of AWS in this repository.
//
//   $ go run ./examples/fakeaws
//   AWS_ENDPOINT_URL=http://127.0.0.1:4566
//
//   $ cd examples/javascript && npm ci
//   $ AWS_ENDPOINT_URL=http://127.0.0.1:4566 node walkthrough.js DIR
//
// It registers three devices and leaves their keys and certificates in DIR, a folder that does not exist yet. The access
// key is made up, so it can't reach an AWS account. Needs Node.js 20 and the openssl command, which makes the requests.

import { execFileSync } from "node:child_process";
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { AttachRolePolicyCommand, CreateRoleCommand, IAMClient, PutRolePolicyCommand } from "@aws-sdk/client-iam";
import {
  DescribeThingRegistrationTaskCommand,
  IoTClient,
  ListThingPrincipalsCommand,
  ListThingRegistrationTasksCommand,
  paginateListThingRegistrationTaskReports,
  StartThingRegistrationTaskCommand,
} from "@aws-sdk/client-iot";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const devices = { "device-one": "001", "device-two": "002", "device-three": "003" }; // thing name: serial number
const bucket = "my-fleet-input";
const dataFile = "bulk-provisioning-data.json";
const roleName = "iot-bulk-provisioning-role";

const allow = (statement) =>
  JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", ...statement }] });
const trustPolicy = allow({ Principal: { Service: "iot.amazonaws.com" }, Action: "sts:AssumeRole" });
const rolePolicy = allow({ Action: ["s3:GetObject"], Resource: [`arn:aws:s3:::${bucket}/*`] });
const devicePolicy = allow({ Action: ["iot:Publish"], Resource: ["*"] });
const template = JSON.stringify({
  Parameters: { ThingName: { Type: "String" }, SerialNumber: { Type: "String" }, CSR: { Type: "String" } },
  Resources: {
    thing: {
      Type: "AWS::IoT::Thing",
      Properties: {
        ThingName: { Ref: "ThingName" },
        AttributePayload: { version: "v1", serialNumber: { Ref: "SerialNumber" } },
      },
    },
    certificate: {
      Type: "AWS::IoT::Certificate",
      Properties: { CertificateSigningRequest: { Ref: "CSR" }, Status: "ACTIVE" },
    },
    policy: { Type: "AWS::IoT::Policy", Properties: { PolicyDocument: devicePolicy } },
  },
});

const endpoint = process.env.AWS_ENDPOINT_URL;
const out = process.argv[2];
if (!out || process.argv.length > 3) fail("usage: node walkthrough.js DIR");
if (!endpoint) {
  fail("AWS_ENDPOINT_URL is not set: start the fake (go run ./examples/fakeaws) and set it to what that prints");
}
mkdirSync(out, { mode: 0o700 });

// The SDK reads AWS_ENDPOINT_URL by itself too. A call that fails is not tried again: a task whose answer was lost would
// be started twice.
const config = {
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "fake", secretAccessKey: "fake" },
  maxAttempts: 1,
};
const iot = new IoTClient(config);
const s3 = new S3Client(config);
const iam = new IAMClient(config);

await s3.send(new CreateBucketCommand({ Bucket: bucket }));
const roleArn = await createRole();
console.log("role", roleArn);

const rows = Object.entries(devices).map(([name, serial]) => ({
  ThingName: name,
  SerialNumber: serial,
  CSR: makeCSR(name),
}));
const body = rows.map((row) => JSON.stringify(row) + "\n").join("");
await s3.send(new PutObjectCommand({ Bucket: bucket, Key: dataFile, Body: body }));

const { taskId } = await iot.send(
  new StartThingRegistrationTaskCommand({
    templateBody: template,
    inputFileBucket: bucket,
    inputFileKey: dataFile,
    roleArn,
  }),
);
const { taskIds } = await iot.send(new ListThingRegistrationTasksCommand({}));
if (!taskIds.includes(taskId)) fail(`task ${taskId} is not in the list of tasks`);
const end = await wait(taskId);

// A task with failed lines is Completed all the same. What counts is the counts.
if (end.status !== "Completed" || end.successCount !== rows.length) {
  for await (const line of report(taskId, "ERRORS")) console.error(`line ${line.lineNumber}: ${line.errorMessage}`);
  fail(`the task ended as ${end.status}, ${end.successCount} of ${rows.length} devices registered`);
}

const answer = await fetch(`${endpoint}/_fake/ca.pem`, { signal: AbortSignal.timeout(60_000) });
const ca = new X509Certificate(await answer.text());
const left = new Set(Object.keys(devices));
for await (const { response } of report(taskId, "RESULTS")) {
  const name = response.ResourceArns.thing.split(":thing/")[1];
  if (!left.delete(name)) fail(`the report has a line too many, about ${name}`);
  await checkCertificate(name, response.CertificatePem);
}
if (left.size > 0) fail(`the report says nothing about ${[...left]}`);
console.log(`${rows.length} devices have a thing and a certificate that fits their key`);

// createRole makes the role that lets AWS IoT read the data file and register things, and returns its ARN.
async function createRole() {
  const { Role } = await iam.send(
    new CreateRoleCommand({ RoleName: roleName, AssumeRolePolicyDocument: trustPolicy }),
  );
  await iam.send(
    new PutRolePolicyCommand({ RoleName: roleName, PolicyName: "read-data-file", PolicyDocument: rolePolicy }),
  );
  const PolicyArn = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration";
  await iam.send(new AttachRolePolicyCommand({ RoleName: roleName, PolicyArn }));
  return Role.Arn;
}

// makeCSR makes the device's key, which stays in its file, and returns the certificate signing request.
function makeCSR(name) {
  const key = join(out, `${name}.key`);
  openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key);
  return openssl("req", "-new", "-key", key, "-subj", "/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept");
}

// wait waits until the task has ended, a minute at most, and returns its last description.
async function wait(taskId) {
  for (let second = 0; second < 60; second++) {
    const now = await iot.send(new DescribeThingRegistrationTaskCommand({ taskId }));
    const { status, successCount, failureCount, percentageProgress } = now;
    console.log(`${status}: ${successCount} succeeded, ${failureCount} failed, ${percentageProgress} %`);
    if (status !== "InProgress" && status !== "Cancelling") return now;
    await sleep(1000);
  }
  fail(`task ${taskId} has not ended after a minute`);
}

// report yields the lines of a report, which can be several files. Whoever has a link can read its file: print none.
async function* report(taskId, reportType) {
  for await (const page of paginateListThingRegistrationTaskReports({ client: iot }, { taskId, reportType })) {
    for (const link of page.resourceLinks) {
      const file = await fetch(link, { signal: AbortSignal.timeout(60_000) });
      if (!file.ok) fail(`a file of the ${reportType} report: HTTP ${file.status}`);
      for (const line of (await file.text()).split("\n")) if (line) yield JSON.parse(line);
    }
  }
}

async function checkCertificate(name, pem) {
  const certificate = new X509Certificate(pem);
  const key = createPrivateKey(readFileSync(join(out, `${name}.key`)));
  if (!certificate.checkPrivateKey(key)) fail(`${name}: the certificate is not for the key in ${name}.key`);
  // Only here: AWS publishes no CA to check device certificates against.
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    fail(`${name}: the certificate is not signed by the fake's CA`);
  }

  // What is registered under the thing's name is this certificate: AWS's id for it is its SHA-256.
  const id = createHash("sha256").update(certificate.raw).digest("hex");
  const { principals } = await iot.send(new ListThingPrincipalsCommand({ thingName: name }));
  if (principals.length !== 1 || !principals[0].endsWith(`:cert/${id}`)) {
    fail(`${name}: want certificate ${id} attached and no other, have ${principals}`);
  }
  writeFileSync(join(out, `${name}.crt`), pem);
  console.log(`${name}: certificate ${id} fits the key`);
}

function openssl(...args) {
  return execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 60_000 });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
