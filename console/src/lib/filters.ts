/** The address's filters as the object that the API takes. Throws for invalid JSON. */
import { instant } from "./format";

export function filtersOf(query: Record<string, string>): Record<string, unknown> | undefined {
  const parts: Record<string, unknown>[] = [];
  for (const name of ["speaker", "source", "agent_id"]) {
    if (query[name]) {
      parts.push({ [name]: query[name] });
    }
  }
  if (query["tag"]) {
    parts.push({ tags: query["tag"] });
  }
  const after = instant(query["after"] ?? "");
  const before = instant(query["before"] ?? "");
  if (after || before) {
    parts.push({ occurred_at: { ...(after && { gte: after }), ...(before && { lt: before }) } });
  }
  if (query["filter"]) {
    const given: unknown = JSON.parse(query["filter"]);
    if (given === null || typeof given !== "object" || Array.isArray(given)) {
      throw new TypeError("not an object");
    }
    parts.push(given as Record<string, unknown>);
  }
  if (parts.length === 0) {
    return undefined;
  }
  return parts.length === 1 ? parts[0] : { AND: parts };
}
