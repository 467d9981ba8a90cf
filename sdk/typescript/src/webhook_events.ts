/** Verifies what a webhook receives, by the Standard Webhooks specification 1.0.0. */
import { Invalid } from "./errors.js";
import type { EventBody } from "./types.js";

const TOLERANCE_SECONDS = 300;
const PREFIX = "whsec_";

export interface VerifyOptions {
  toleranceSeconds?: number;
  /** Unix time in seconds, for tests. */
  now?: number;
}

/**
 * The event of a request, if its signature is the secret's and it was sent just now.
 *
 * body: as received, before any parsing. secret: `whsec_…` from `createWebhook`. Throws Invalid, code
 * webhook_signature_invalid or webhook_body_invalid. Compare the event's `id` with those that were
 * handled before: a delivery may arrive more than once.
 */
export async function verifyWebhook(
  body: string | Uint8Array,
  headers: Headers | Record<string, string | string[] | undefined>,
  secret: string,
  options: VerifyOptions = {},
): Promise<EventBody> {
  const found = lowerCase(headers);
  const id = required(found, "webhook-id");
  const timestamp = required(found, "webhook-timestamp");
  const signatures = required(found, "webhook-signature").split(" ");
  const key = secretBytes(secret);
  if (!/^-?\d+$/.test(timestamp) || key === undefined) {
    throw refused("the timestamp or the secret is malformed");
  }
  const now = options.now ?? Date.now() / 1000;
  if (Math.abs(now - Number(timestamp)) > (options.toleranceSeconds ?? TOLERANCE_SECONDS)) {
    throw refused("the request is too old, or comes from the future");
  }
  const raw = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const head = new TextEncoder().encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(head.length + raw.length);
  signed.set(head);
  signed.set(raw, head.length);
  if (!(await isSigned(key, signed, signatures))) {
    throw refused("no signature is the secret's");
  }
  return eventOf(raw, id);
}

async function isSigned(key: Uint8Array<ArrayBuffer>, signed: Uint8Array<ArrayBuffer>, signatures: string[]): Promise<boolean> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["verify"]);
  for (const signature of signatures) {
    const [version, text = ""] = signature.split(",", 2);
    const bytes = version === "v1" ? base64Bytes(text) : undefined;
    // Compares in constant time.
    if (bytes !== undefined && (await crypto.subtle.verify("HMAC", imported, bytes, signed))) {
      return true;
    }
  }
  return false;
}

function eventOf(raw: Uint8Array, id: string): EventBody {
  try {
    const found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(raw)) as Partial<EventBody>;
    const { type, timestamp, data } = found;
    if (typeof type === "string" && !Number.isNaN(Date.parse(String(timestamp))) && data && typeof data === "object") {
      return { id, type, timestamp: String(timestamp), data };
    }
  } catch {
    // Below.
  }
  throw new Invalid("The webhook's body is not an event", { code: "webhook_body_invalid" });
}

function lowerCase(headers: Headers | Record<string, string | string[] | undefined>): Map<string, string> {
  const entries = headers instanceof Headers ? headers.entries() : Object.entries(headers);
  const found = new Map<string, string>();
  for (const [name, value] of entries) {
    if (value !== undefined) {
      found.set(name.toLowerCase(), Array.isArray(value) ? value.join(" ") : value);
    }
  }
  return found;
}

function required(found: Map<string, string>, name: string): string {
  const value = found.get(name);
  if (value === undefined) {
    throw refused(`the header ${name} is missing`);
  }
  return value;
}

function secretBytes(secret: string): Uint8Array<ArrayBuffer> | undefined {
  const bytes = base64Bytes(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
  return bytes?.length ? bytes : undefined;
}

function base64Bytes(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (mark) => mark.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function refused(why: string): Invalid {
  return new Invalid(`The webhook's signature is not valid: ${why}`, { code: "webhook_signature_invalid" });
}
