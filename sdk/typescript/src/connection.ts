/** Sends calls with `fetch`: timeouts, limited retries, one error tree. */
import { Invalid, LumaMemoryError, SetupError, UnavailableError } from "./errors.js";
import { parsed, refusal } from "./responses.js";
import { Attempts, DEFAULT_RETRIES, NEVER_SENT, type Retries, sleep } from "./retries.js";

export const BASE_PATH = "/api/v1/memory";
const DEFAULT_URL = "http://127.0.0.1:8080";
const DEFAULT_TIMEOUT_SECONDS = 30;

export interface ClientOptions {
  /** The service's address, without `/api/v1/memory`. */
  baseUrl?: string;
  /** An application's key or an end user's token; none for a service without keys. */
  apiKey?: string | null;
  /** Of each wait for a response, and for each piece of a streamed one; `retries` limits the whole call. */
  timeoutSeconds?: number;
  retries?: Partial<Retries>;
  /** Instead of the platform's `fetch`: for a proxy, or for tests. */
  fetch?: typeof fetch;
}

/** Of one call. */
export interface CallOptions {
  /** Aborts the call, its retries and its stream; the call then rejects with the signal's reason. */
  signal?: AbortSignal;
  timeoutSeconds?: number;
}

export interface WriteOptions extends CallOptions {
  /** Repeating the call with the same key has its effect once; generated if omitted. */
  idempotencyKey?: string;
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
type Scalar = string | number | boolean | Date | null | undefined;
export type Query = Record<string, Scalar | readonly Scalar[]>;

export interface Call {
  method: Method;
  /** Below the base path, escaped. */
  path: string;
  query?: object | undefined;
  headers?: Record<string, string>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is. */
  content?: BodyInit;
  isRepeatable?: boolean;
  /** At least so long, whatever the client's timeout is. */
  secondsMin?: number;
}

/** A path segment. Dots are escaped too: `..` would be resolved as a parent path. */
export function segment(name: string | number): string {
  return escaped(String(name)).replaceAll(".", "%2E");
}

/** A change with an idempotency key, so that it can be repeated if its response is lost. */
export function write(method: Method, path: string, options: WriteOptions, rest: Partial<Call> = {}): Call {
  const key = options.idempotencyKey;
  const body = rest.body as { idempotency_key?: string | null } | undefined;
  const headers = { ...rest.headers };
  if (!body?.idempotency_key) {
    headers["Idempotency-Key"] = sendable(key ?? newKey());
  }
  return { ...rest, method, path, headers };
}

/** A unique idempotency key. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Connection {
  readonly #base: string;
  readonly #shown: string;
  readonly #headers: Record<string, string>;
  readonly #timeoutSeconds: number;
  readonly #fetch: typeof fetch;
  protected readonly retries: Retries;

  constructor(options: ClientOptions = {}) {
    this.#shown = checkedUrl(options.baseUrl ?? DEFAULT_URL);
    this.#base = this.#shown + BASE_PATH;
    this.#headers = credentials(options.apiKey ?? null);
    this.#timeoutSeconds = options.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS;
    this.retries = { ...DEFAULT_RETRIES, ...options.retries };
    if (this.retries.attemptsMax < 1) {
      throw new RangeError("attemptsMax must be at least 1");
    }
    // Called without `this`, which browsers require.
    const given = options.fetch ?? globalThis.fetch;
    this.#fetch = (input, init) => given(input, init);
  }

  /** The body of a successful response. */
  protected async send<Body>(call: Call, options: CallOptions = {}): Promise<Body> {
    return parsed<Body>(await this.text(call, options));
  }

  protected async text(call: Call, options: CallOptions = {}): Promise<string> {
    return this.#attempted(call, options, async (signal) => {
      const response = await this.#once(call, signal);
      return response.text();
    });
  }

  /** Pieces of a successful response as they arrive. Only the opening is retried. */
  protected async *pieces(call: Call, options: CallOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const ending = new AbortController();
    const seconds = this.#seconds(call, options);
    const signal = options.signal ? AbortSignal.any([options.signal, ending.signal]) : ending.signal;
    const response = await this.#attempted(call, options, (timed) => this.#once(call, signal, timed));
    const reader = response.body?.getReader();
    try {
      for (;;) {
        const piece = await this.#inTime(reader?.read(), seconds, signal);
        if (piece === undefined || piece.done) {
          return;
        }
        yield piece.value;
      }
    } catch (error) {
      throw this.#failed(error, options.signal);
    } finally {
      ending.abort();
    }
  }

  async #inTime<Result>(
    reading: Promise<Result> | undefined,
    seconds: number,
    signal: AbortSignal,
  ): Promise<Result | undefined> {
    const silence = new AbortController();
    const late = sleep(seconds, AbortSignal.any([signal, silence.signal])).then(() => {
      throw new DOMException("No bytes arrived", "TimeoutError");
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([reading, late]);
    } finally {
      silence.abort();
    }
  }

  async #attempted<Result>(
    call: Call,
    options: CallOptions,
    attempt: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    const attempts = new Attempts(this.retries);
    const seconds = this.#seconds(call, options);
    for (;;) {
      options.signal?.throwIfAborted();
      const timeout = AbortSignal.timeout(Math.min(seconds * 1000, 2 ** 31 - 1));
      const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
      try {
        return await attempt(signal);
      } catch (caught) {
        const error = this.#failed(caught, options.signal);
        const pause = attempts.pauseAfter(error, call.isRepeatable ?? true);
        if (pause === undefined) {
          throw error;
        }
        await sleep(pause, options.signal);
      }
    }
  }

  #seconds(call: Call, options: CallOptions): number {
    return options.timeoutSeconds ?? Math.max(this.#timeoutSeconds, call.secondsMin ?? 0);
  }

  /** timed: aborts until the head of the response is there; its body then has limits of its own. */
  async #once(call: Call, signal: AbortSignal, timed?: AbortSignal): Promise<Response> {
    const opening = new AbortController();
    const late = (): void => opening.abort(timed?.reason);
    timed?.addEventListener("abort", late, { once: true });
    const init: RequestInit = {
      method: call.method,
      headers: { ...this.#headers, ...call.headers },
      signal: timed ? AbortSignal.any([signal, opening.signal]) : signal,
      redirect: "manual",
    };
    if (call.body !== undefined) {
      // Escaped, so that any text reaches the service and is validated there.
      init.body = JSON.stringify(call.body);
      init.headers = { "Content-Type": "application/json", ...init.headers };
    } else if (call.content !== undefined) {
      init.body = call.content;
      Object.assign(init, { duplex: "half" });
    }
    try {
      const response = await this.#fetch(this.#base + call.path + queryText(call.query), init);
      if (response.ok) {
        return response;
      }
      throw refusal(response.status, await response.text(), response.headers, this.#shown);
    } finally {
      timed?.removeEventListener("abort", late);
    }
  }

  /** The error for a request without a response; a caller's own abort is passed on as it is. */
  #failed(error: unknown, signal: AbortSignal | undefined): unknown {
    if (error instanceof LumaMemoryError) {
      return error;
    }
    if (signal?.aborted) {
      return signal.reason;
    }
    if (error instanceof DOMException && error.name === "TimeoutError") {
      return new UnavailableError(`The service at ${this.#shown} did not respond in time`, {
        code: "service_timeout",
        cause: error,
      });
    }
    if (error instanceof TypeError) {
      return neverConnected(error)
        ? new UnavailableError(`Cannot connect to ${this.#shown}`, { code: NEVER_SENT, cause: error })
        : new UnavailableError(`The connection to ${this.#shown} was lost`, { code: "connection_lost", cause: error });
    }
    return error;
  }
}

const REFUSED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "ConnectionRefused",
  "FailedToOpenSocket",
]);

/** Whether the runtime reports that no connection was made. A browser does not distinguish. */
function neverConnected(error: TypeError & { code?: unknown }): boolean {
  const cause = error.cause as { code?: unknown; errors?: { code?: unknown }[] } | undefined;
  const codes = [error.code, cause?.code, ...(cause?.errors ?? []).map((one) => one.code)];
  return codes.some((code) => REFUSED.has(String(code)));
}

function checkedUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    throw wrongUrl("The service's address is not a valid URL");
  }
  if (!["http:", "https:"].includes(url.protocol) || url.hostname === "") {
    throw wrongUrl("The service's address must start with http:// or https:// and a host");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw wrongUrl("The service's address must have no user, query or fragment; pass a key as apiKey");
  }
  return url.href.replace(/\/+$/, "");
}

function wrongUrl(message: string): SetupError {
  return new SetupError(message, { code: "wrong_url" });
}

function credentials(key: string | null): Record<string, string> {
  if (key === null) {
    return {};
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new SetupError("The API key contains characters that are not allowed in a header", { code: "wrong_key" });
  }
  return { Authorization: `Bearer ${key}` };
}

function queryText(query: object | undefined): string {
  const parts: string[] = [];
  for (const [name, given] of Object.entries((query ?? {}) as Query)) {
    for (const value of Array.isArray(given) ? given : [given]) {
      if (value !== null && value !== undefined) {
        parts.push(`${escaped(name)}=${escaped(value instanceof Date ? value.toISOString() : String(value))}`);
      }
    }
  }
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

function escaped(text: string): string {
  try {
    return encodeURIComponent(text).replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
  } catch {
    throw new Invalid("Text must not contain a lone surrogate", { code: "text_surrogate" });
  }
}

function sendable(key: string): string {
  if (!/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(key)) {
    throw new Invalid("An idempotency key must be printable ASCII without surrounding spaces", {
      code: "idempotency_key_invalid",
      field: "idempotency_key",
    });
  }
  return key;
}
