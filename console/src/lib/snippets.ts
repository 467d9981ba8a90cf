/** A search as a program. The key is a variable, never its text. */
import type { SearchBody } from "luma-memory";
import { BASE_URL } from "./session.svelte";

export function curl(body: SearchBody): string {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl -sS '${BASE_URL}/api/v1/memory/search' \\
  -H "Authorization: Bearer $MEMORY_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${json}'
`;
}

export function python(body: SearchBody): string {
  const { query, ...rest } = body;
  const named = Object.entries(rest).map(([name, value]) => `    ${name}=${literal(value)},`);
  return `import os

from luma_memory.client import MemoryClient

memory = MemoryClient(${literal(BASE_URL)}, api_key=os.environ.get("MEMORY_API_KEY"))
found = memory.search(
    ${literal(query)},
${named.join("\n")}
)
for hit in found.results:
    print(f"{hit.score:.3f}", hit.block.content)
`;
}

/** JSON is Python for texts and numbers. */
function literal(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(literal).join(", ")}]`;
  }
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
  }
  return value === true ? "True" : value === false ? "False" : value === null ? "None" : JSON.stringify(value);
}

export function typescript(body: SearchBody): string {
  return `import { MemoryClient } from "luma-memory";

const memory = new MemoryClient({ baseUrl: ${JSON.stringify(BASE_URL)}, apiKey: process.env.MEMORY_API_KEY ?? null });
const found = await memory.search(${JSON.stringify(body, null, 2)});
for (const hit of found.results) {
  console.log(hit.score.toFixed(3), hit.block.content);
}
`;
}
