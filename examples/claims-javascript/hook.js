// Plays the Lambda function of a pre-provisioning hook, over HTTP.
//
//   $ node hook.js SERIAL...
//   HOOK_URL=http://127.0.0.1:41234
//
// It lets in the devices with these serial numbers, each as often as it asks.

import { once } from "node:events";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

const known = new Set(process.argv.slice(2));

// What follows is the function as it could be on AWS.
async function handler(event) {
  return { allowProvisioning: known.has(event.parameters.SerialNumber) };
}

const server = createServer(async (request, response) => {
  try {
    response.end(JSON.stringify(await handler(await json(request))));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
console.log(`HOOK_URL=http://127.0.0.1:${server.address().port}`);
