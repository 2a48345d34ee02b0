// Sets up an account for provisioning by claim: what an administrator does once, with the AWS SDK for JavaScript.
//
//   $ AWS_ENDPOINT_URL=http://127.0.0.1:4566 node setup.js DIR [HOOK]
//
// It makes the role and the provisioning template "fleet-by-claim", and a claim certificate that may do nothing but
// provision by this template. DIR, a folder that does not exist yet, gets the claim certificate with its key: what the
// factory puts into every device. HOOK is the ARN of the Lambda function that is asked before each device is provisioned;
// hook.js plays it.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { AttachRolePolicyCommand, CreateRoleCommand, IAMClient } from "@aws-sdk/client-iam";
import {
  AttachPolicyCommand,
  CreateKeysAndCertificateCommand,
  CreatePolicyCommand,
  CreateProvisioningTemplateCommand,
  IoTClient,
} from "@aws-sdk/client-iot";

const templateName = "fleet-by-claim";
const allow = (...statements) =>
  JSON.stringify({ Version: "2012-10-17", Statement: statements.map((s) => ({ Effect: "Allow", ...s })) });

const [out, targetArn, ...more] = process.argv.slice(2);
if (!out || more.length > 0 || !process.env.AWS_ENDPOINT_URL) {
  console.error("usage: AWS_ENDPOINT_URL=… node setup.js DIR [HOOK] (go run ./examples/fakeaws prints the URL)");
  process.exit(2);
}
// The access key is made up, so it can't reach an AWS account.
const config = { region: "us-east-1", credentials: { accessKeyId: "fake", secretAccessKey: "fake" }, maxAttempts: 1 };
const iot = new IoTClient(config);
const iam = new IAMClient(config);

const { Role } = await iam.send(
  new CreateRoleCommand({
    RoleName: "fleet-by-claim-role",
    AssumeRolePolicyDocument: allow({ Principal: { Service: "iot.amazonaws.com" }, Action: "sts:AssumeRole" }),
  }),
);
await iam.send(
  new AttachRolePolicyCommand({
    RoleName: "fleet-by-claim-role",
    PolicyArn: "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration",
  }),
);
const arn = (resource) => `arn:aws:iot:us-east-1:${Role.Arn.split(":")[4]}:${resource}`;

// A device may connect under the name of its thing, and use topics below dt/ and that name.
const own = "${iot:Connection.Thing.ThingName}";
await iot.send(
  new CreateProvisioningTemplateCommand({
    templateName,
    enabled: true,
    provisioningRoleArn: Role.Arn,
    preProvisioningHook: targetArn && { targetArn },
    templateBody: JSON.stringify({
      Parameters: { SerialNumber: { Type: "String" }, "AWS::IoT::Certificate::Id": { Type: "String" } },
      Resources: {
        thing: {
          Type: "AWS::IoT::Thing",
          Properties: {
            ThingName: { "Fn::Join": ["-", ["claimed", { Ref: "SerialNumber" }]] },
            AttributePayload: { serialNumber: { Ref: "SerialNumber" } },
          },
        },
        certificate: {
          Type: "AWS::IoT::Certificate",
          Properties: { CertificateId: { Ref: "AWS::IoT::Certificate::Id" }, Status: "ACTIVE" },
        },
        policy: {
          Type: "AWS::IoT::Policy",
          Properties: {
            PolicyDocument: allow(
              { Action: "iot:Connect", Resource: arn(`client/${own}`) },
              { Action: ["iot:Publish", "iot:Receive"], Resource: arn(`topic/dt/${own}/*`) },
              { Action: "iot:Subscribe", Resource: arn(`topicfilter/dt/${own}/*`) },
            ),
          },
        },
      },
      DeviceConfiguration: { greeting: "hello" },
    }),
  }),
);

const topics = [
  "$aws/certificates/create/*",
  "$aws/certificates/create-from-csr/*",
  `$aws/provisioning-templates/${templateName}/provision/*`,
];
await iot.send(
  new CreatePolicyCommand({
    policyName: "claim",
    policyDocument: allow(
      { Action: "iot:Connect", Resource: arn("client/*") },
      { Action: ["iot:Publish", "iot:Receive"], Resource: topics.map((t) => arn(`topic/${t}`)) },
      { Action: "iot:Subscribe", Resource: topics.map((t) => arn(`topicfilter/${t}`)) },
    ),
  }),
);
const claim = await iot.send(new CreateKeysAndCertificateCommand({ setAsActive: true }));
await iot.send(new AttachPolicyCommand({ policyName: "claim", target: claim.certificateArn }));

mkdirSync(out, { mode: 0o700 });
writeFileSync(join(out, "certificate.pem"), claim.certificatePem, { mode: 0o600 });
writeFileSync(join(out, "private-key.pem"), claim.keyPair.PrivateKey, { mode: 0o600 });
console.log(`template ${templateName}; the claim certificate and its key are in ${out}`);
