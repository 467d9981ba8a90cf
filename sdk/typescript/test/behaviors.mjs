// Runs the rows of tests/support/sdk_behaviors.py: `node test/behaviors.mjs ROWS` prints their outcomes.
import { LumaMemoryError, MemoryClient } from "../dist/index.js";

const BLOCK = "0199a0b2-0000-7000-8000-000000000001";

async function perform(memory, call) {
  const user_id = call.user_id ?? "ada";
  switch (call.do) {
    case "get_block":
      return (await memory.getBlock(BLOCK, { user_id })).id;
    case "ingest": {
      const options = call.key === undefined ? {} : { idempotencyKey: call.key };
      return (await memory.ingestBlockAsync({ user_id, content: "x" }, options)).id;
    }
    case "erase":
      return memory.eraseUser(user_id);
    case "delete_block":
      return (await memory.deleteBlock(BLOCK, { user_id, revision: call.revision })) ?? null;
    case "iterate_blocks":
      return (await all(memory.iterateBlocks({ user_id }))).map((block) => block.content);
    case "wait":
      return (await memory.waitUntilActive(BLOCK, { user_id }, { timeoutSeconds: call.timeout_seconds ?? 10 })).id;
    case "export":
      return (await all(memory.exportUser(user_id))).length;
    case "import":
      return memory.importUser(user_id, "{}\n");
    case "events":
      return events(memory, call);
    case "abort":
      return aborted(memory);
    default:
      throw new Error(`unknown call ${call.do}`);
  }
}

async function all(rows) {
  const found = [];
  for await (const row of rows) {
    found.push(row);
  }
  return found;
}

async function events(memory, { after, count }) {
  const found = [];
  for await (const event of memory.iterateEvents({ after, follow: count !== undefined })) {
    found.push(event.position);
    if (found.length === count) {
      break;
    }
  }
  return found;
}

async function aborted(memory) {
  const controller = new AbortController();
  const reason = new Error("no longer wanted");
  setTimeout(() => controller.abort(reason), 500);
  try {
    await memory.getBlock(BLOCK, { user_id: "ada" }, { signal: controller.signal });
    return "not aborted";
  } catch (error) {
    return error === reason ? "aborted" : `rejected with ${error}`;
  }
}

async function outcome({ url, call, options }) {
  const memory = new MemoryClient({
    baseUrl: url,
    apiKey: options.api_key ?? null,
    timeoutSeconds: options.timeout_seconds ?? 20,
    retries: { attemptsMax: options.attempts_max ?? 3, secondsMax: 20, firstPauseSeconds: 0.01 },
  });
  try {
    return { value: await perform(memory, call) };
  } catch (error) {
    if (!(error instanceof LumaMemoryError)) {
      throw error;
    }
    return {
      error: [error.name, error.code],
      retry_after_seconds: error.retryAfterSeconds ?? null,
      request_id: error.requestId ?? null,
    };
  }
}

const rows = JSON.parse(process.argv[2]);
const outcomes = await Promise.all(rows.map(outcome));
console.log(JSON.stringify(outcomes));
process.exit(0);
