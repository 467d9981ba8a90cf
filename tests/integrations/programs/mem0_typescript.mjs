// Every method of mem0's TypeScript client that the service offers, and the provider for Vercel's AI
// SDK that calls the same routes. Prints `ok` at its end. URL and KEY are arguments.
import assert from "node:assert/strict";

import { addMemories, getMemories, retrieveMemories, searchMemories } from "@mem0/vercel-ai-provider";
import MemoryClient, { MemoryNotFoundError, ValidationError } from "mem0ai";

const [url, key] = process.argv.slice(2);
const host = `${url}/mem0`;
const MISSING = "0198f3a2-7c11-7abc-9def-0123456789ab";
const texts = (page) => page.results.map((one) => one.memory).sort();

async function client() {
  const memory = new MemoryClient({ apiKey: key, host });
  await memory.ping();
  const said = [{ role: "user", content: "I moved to Lisbon with my red bicycle." }];
  const added = await memory.add(said, {
    userId: "tess", agentId: "bot", appId: "web", runId: "r1", metadata: { camelKey: 1 },
  });
  assert.equal(added.status, "PENDING");
  assert.ok(added.eventId);
  const one = await memory.add([{ role: "user", content: "I keep bees." }], { userId: "tess", infer: false });
  const { id } = one.results[0];

  const found = await memory.search("red bicycle", { filters: { user_id: "tess" }, topK: 1, threshold: 0.1 });
  assert.equal(found.results[0].memory, said[0].content);
  assert.equal(found.results[0].userId, "tess");
  assert.deepEqual(found.results[0].metadata, { camelKey: 1, app_id: "web" });
  const page = await memory.getAll({ filters: { AND: [{ user_id: "tess" }] }, page: 1, pageSize: 1 });
  assert.equal(page.count, 2);
  assert.ok(page.next.includes("page=2"));

  assert.equal((await memory.get(id)).memory, "I keep bees.");
  assert.equal((await memory.update(id, { text: "I keep goats." })).memory, "I keep goats.");
  const history = await memory.history(id);
  assert.deepEqual(history.map((entry) => entry.newMemory), ["I keep bees.", "I keep goats."]);
  await memory.batchUpdate([{ memoryId: id, text: "I keep ants." }]);
  assert.equal((await memory.get(id)).memory, "I keep ants.");
  await memory.batchDelete([id]);
  await assert.rejects(memory.get(id), MemoryNotFoundError);
  const other = await memory.add([{ role: "user", content: "Soon gone." }], { userId: "tess", infer: false });
  await memory.delete(other.results[0].id, { deleteLinked: true });

  const users = await memory.users({ page: 1, pageSize: 50 });
  assert.ok(users.results.some((entity) => entity.type === "run" && entity.name === "r1"));
  await memory.deleteAll({ userId: "tess", runId: "r1" });
  assert.equal((await memory.getAll({ filters: { user_id: "tess" } })).count, 0);
  await memory.deleteUsers({ userId: "tess" });

  await assert.rejects(memory.get(MISSING), MemoryNotFoundError);
  await assert.rejects(memory.deleteAll(), ValidationError);
  await assert.rejects(memory.feedback({ memoryId: MISSING }), /not_offered/);
  await assert.rejects(memory.getProject({ fields: ["customInstructions"] }), /not_offered/);
  await assert.rejects(memory.getWebhooks(), /not_offered/);
  await assert.rejects(memory.getProfile({ entityId: "tess" }), /not_offered/);
}

async function vercel() {
  const config = { mem0ApiKey: key, host, user_id: "vera", rerank: true, metadata: { app: "shop" } };
  await addMemories([{ role: "user", content: [{ type: "text", text: "I am allergic to peanuts." }] }], config);
  const found = await searchMemories("What am I allergic to?", config);
  assert.deepEqual(texts(found), ["I am allergic to peanuts."]);
  assert.match(await retrieveMemories("peanuts", config), /allergic to peanuts/);
  assert.equal((await getMemories("peanuts", config)).length, 1);
}

await client();
await vercel();
console.log("ok");
process.exit(0);
