// The console behind a proxy that serves the service below a path: `node test/prefix.mjs PLAN` prints what was seen.
//
// PLAN: { executable, url, key, paths: {name: "#/…"} }
import { createServer, request } from "node:http";
import { go, opened } from "./browser.mjs";

const PREFIX = "/memory";
const plan = JSON.parse(process.argv[2]);
const service = new URL(plan.url);
/** Requests beside the prefix: they would reach another application. */
const missed = [];
const proxy = createServer((incoming, outgoing) => {
  if (!incoming.url.startsWith(`${PREFIX}/`)) {
    missed.push(incoming.url);
    outgoing.writeHead(404).end();
    return;
  }
  const path = incoming.url.slice(PREFIX.length);
  const sent = request({ host: service.hostname, port: service.port, method: incoming.method, path, headers: incoming.headers }, (response) => {
    outgoing.writeHead(response.statusCode, response.headers);
    response.pipe(outgoing);
  });
  sent.on("error", () => outgoing.destroy());
  outgoing.on("close", () => sent.destroy());
  incoming.pipe(sent);
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${proxy.address().port}${PREFIX}`;
const { browser, page, seen } = await opened({ ...plan, url: base, viewport: { width: 1280, height: 900 } });
// Without the slash at the end: the service redirects.
await page.goto(`${base}/ui`);
await page.waitForURL(`${base}/ui/**`);
let headings = 0;
for (const path of Object.values(plan.paths)) {
  await go(page, `${base}/ui/`, path);
  headings += await page.locator("h1").count();
}
await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
await go(page, `${base}/ui/`, "#/search?user_id=ilka&q=flat");
await page.getByRole("button", { name: "Copy as curl" }).click();
await page.waitForFunction(() => navigator.clipboard.readText().then((text) => text !== ""));
const copy = await page.evaluate(() => navigator.clipboard.readText());
// The stream of events comes through as well.
await go(page, `${base}/ui/`, "#/blocks?user_id=behind-a-proxy");
const headers = { Authorization: `Bearer ${plan.key}`, "Content-Type": "application/json" };
await fetch(`${base}/api/v1/memory/blocks`, { method: "POST", headers, body: JSON.stringify({ user_id: "behind-a-proxy", content: "Seen through a proxy." }) });
await page.getByText("Seen through a proxy.").waitFor();
await browser.close();
console.log(JSON.stringify({ base, missed, headings, copy, live: true, seen }));
process.exit(0);
