// One session of the TypeScript SDK: lists and calls every tool, and prints what it received as JSON.
// Usage: node clients.mjs '{"sdk": "v2", "pin": "2026-07-28", "url": …, "key": …}'
//        node clients.mjs '{"sdk": "v1", "command": …, "args": […], "env": {…}}'
// The SDKs check each structured result against the tool's output schema.
const given = JSON.parse(process.argv[2]);

async function sdk() {
  if (given.sdk === "v1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const http = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const stdio = await import("@modelcontextprotocol/sdk/client/stdio.js");
    return { Client, ...http, ...stdio };
  }
  return { ...(await import("@modelcontextprotocol/client")), ...(await import("@modelcontextprotocol/client/stdio")) };
}

const { Client, StreamableHTTPClientTransport, StdioClientTransport } = await sdk();
const options = given.pin ? { versionNegotiation: { mode: { pin: given.pin } } } : {};
const client = new Client({ name: "conformance", version: "1" }, options);
const headers = { Authorization: `Bearer ${given.key}` };
const transport = given.url
  ? new StreamableHTTPClientTransport(new URL(given.url), { requestInit: { headers } })
  : new StdioClientTransport({ command: given.command, args: given.args, env: given.env });
await client.connect(transport);

async function call(name, args) {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  called[name] = result.structuredContent;
  return result.structuredContent;
}

const called = {};
const { tools } = await client.listTools();
const { resourceTemplates } = await client.listResourceTemplates();
const [added] = (await call("add_memory", { content: given.statement })).memories;
await call("search_memories", { query: given.statement });
await call("get_context", { query: given.statement });
await call("get_memory", { id: added.id });
await call("get_job_status", { id: added.job_id });
await call("update_memory", { id: added.id, content: `${given.statement} Corrected.` });
const read = await client.readResource({ uri: `memory://blocks/${added.id}` });
const prompt = await client.getPrompt({ name: "recall", arguments: { topic: given.statement } });
await call("delete_memory", { id: added.id });
const missing = await client.callTool({ name: "get_memory", arguments: { id: added.id } });
await client.close();
console.log(JSON.stringify({
  tools: tools.map((tool) => tool.name),
  templates: resourceTemplates.map((template) => template.uriTemplate),
  called,
  resource: read.contents[0].text,
  prompt: prompt.messages[0].content.text,
  missing,
}));
