// Verifies requests: `node test/webhooks.mjs CASES` prints each event's id and type, or the error's code.
import { verifyWebhook } from "../dist/index.js";

const found = [];
for (const { body, headers, secret, now } of JSON.parse(process.argv[2])) {
  try {
    const event = await verifyWebhook(body, headers, secret, { now });
    found.push([event.id, event.type]);
  } catch (error) {
    found.push(error.code);
  }
}
console.log(JSON.stringify(found));
