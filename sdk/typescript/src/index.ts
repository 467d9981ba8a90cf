/**
 * The TypeScript SDK: call a Luma Memory service over HTTP.
 *
 *     const memory = new MemoryClient({ baseUrl: "http://127.0.0.1:8080", apiKey: key });
 *     await memory.ingestBlockAsync({ user_id: "ada", content: "I moved to Lisbon." });
 *     console.log((await memory.getContext({ user_id: "ada", query: "Where does Ada live?" })).text);
 *
 * See README.md. Uses `fetch` and Web Crypto only: Node.js, Deno, Bun, browsers and edge runtimes.
 */
export { MemoryClient, type EventType, type OfUser, type OfUserAtRevision, type Page } from "./client.js";
export type { CallOptions, ClientOptions, WriteOptions } from "./connection.js";
export * from "./errors.js";
export { NO_RETRIES, type Retries } from "./retries.js";
export * from "./types.js";
export { verifyWebhook, type VerifyOptions } from "./webhook_events.js";
