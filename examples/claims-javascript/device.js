// A device that provisions itself by claim, with the AWS IoT Device SDK for JavaScript v2.
//
//   $ MQTT_ENDPOINT=localhost:8883 node device.js root-ca.pem CLAIM SERIAL keys|csr DIR
//
// CLAIM is the folder with the claim certificate that setup.js has made. With "keys" AWS IoT makes the device's key, and
// the device speaks MQTT 5; with "csr" the device makes its key itself, with openssl, and speaks MQTT 3.1.1. Key and
// certificate are then in DIR, a folder that does not exist yet. At last the device connects with them, and says hello to
// itself.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import sdk from "aws-iot-device-sdk-v2";

const { iot, iotidentity, mqtt, mqtt5 } = sdk;
const templateName = "fleet-by-claim";

const [rootCA, claim, serial, way, out] = process.argv.slice(2);
const [host, port] = (process.env.MQTT_ENDPOINT ?? "").split(":");
if (!port || !out || !["keys", "csr"].includes(way)) {
  console.error("usage: MQTT_ENDPOINT=HOST:PORT node device.js root-ca.pem CLAIM SERIAL keys|csr DIR");
  process.exit(2);
}
setTimeout(() => fail("it took more than 5 minutes"), 300_000).unref();

mkdirSync(out, { mode: 0o700 });
const keyFile = join(out, "private-key.pem");
const certificateFile = join(out, "certificate.pem");

// By claim, under any name: here the serial number.
const provisioned = way === "keys" ? await overMQTT5(byClaim) : await overMQTT311(byClaim);
console.log("provisioned as", provisioned.thingName, JSON.stringify(provisioned.deviceConfiguration));

// And as itself, under the name of its thing.
await sayHello(provisioned.thingName, provisioned.deviceConfiguration.greeting);
console.log("connected as", provisioned.thingName);
process.exit(0); // the SDK's own threads would hold the program up

async function byClaim(identity) {
  let issued;
  if (way === "keys") {
    issued = await identity.createKeysAndCertificate({});
    writeFileSync(keyFile, issued.privateKey, { mode: 0o600 });
  } else {
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const csr = execFileSync("openssl", ["req", "-new", ...curve, "-subj", `/CN=${serial}`, "-keyout", keyFile], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    issued = await identity.createCertificateFromCsr({ certificateSigningRequest: csr });
  }
  writeFileSync(certificateFile, issued.certificatePem, { mode: 0o600 }); // before the template runs: it is in no second answer
  return identity.registerThing({
    templateName,
    certificateOwnershipToken: issued.certificateOwnershipToken,
    parameters: { SerialNumber: serial },
  });
}

async function overMQTT5(work) {
  const client = newClient5(join(claim, "certificate.pem"), join(claim, "private-key.pem"), serial);
  await started(client);
  const identity = iotidentity.IotIdentityClientv2.newFromMqtt5(client, options());
  const result = await work(identity).catch(rejected);
  identity.close();
  await stopped(client);
  return result;
}

async function overMQTT311(work) {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(
    join(claim, "certificate.pem"),
    join(claim, "private-key.pem"),
  );
  config.with_certificate_authority_from_path(undefined, rootCA);
  config.with_endpoint(host).with_port(Number(port)).with_client_id(serial).with_clean_session(true);
  const connection = new mqtt.MqttClient().new_connection(config.build());
  await connection.connect();
  const identity = iotidentity.IotIdentityClientv2.newFromMqtt311(connection, options());
  const result = await work(identity).catch(rejected);
  identity.close();
  await connection.disconnect();
  return result;
}

function options() {
  return { maxRequestResponseSubscriptions: 4, maxStreamingSubscriptions: 1, operationTimeoutInSeconds: 60 };
}

async function sayHello(thingName, greeting) {
  const client = newClient5(certificateFile, keyFile, thingName);
  await started(client);
  const topic = `dt/${thingName}/hello`;
  await client.subscribe({ subscriptions: [{ topicFilter: topic, qos: mqtt5.QoS.AtLeastOnce }] });
  const message = once(client, "messageReceived");
  await client.publish({ topicName: topic, qos: mqtt5.QoS.AtLeastOnce, payload: greeting });
  const [event] = await message;
  if (Buffer.from(event.message.payload).toString() !== greeting) fail("another message came back");
  await stopped(client);
}

function newClient5(certificate, key, clientId) {
  const builder = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(host, certificate, key);
  builder.withCertificateAuthorityFromPath(undefined, rootCA).withPort(Number(port));
  builder.withConnectProperties({ clientId, keepAliveIntervalSeconds: 60 });
  return new mqtt5.Mqtt5Client(builder.build());
}

async function started(client) {
  const result = new Promise((resolve) => {
    client.once("connectionSuccess", () => resolve());
    client.once("connectionFailure", (event) => resolve(event.error));
  });
  client.start();
  const error = await result;
  if (error) fail(`no connection: ${error}`);
}

async function stopped(client) {
  const end = once(client, "stopped");
  client.stop(); // without a DISCONNECT: version 1.28.0 of the SDK at times never sends it after an identity client was closed
  await end;
  client.close();
}

function rejected(error) {
  fail(`${error.message} ${JSON.stringify(error.modeledError ?? {})}`);
}

function fail(text) {
  console.error("device.js:", text);
  process.exit(1);
}
