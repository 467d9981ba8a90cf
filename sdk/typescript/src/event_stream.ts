/** Parses server-sent events. */
import { UnavailableError } from "./errors.js";
import type { StreamedEventBody } from "./types.js";

// An event has ids alone; what is longer is no stream of this service.
const PENDING_CHARACTERS_MAX = 1_000_000;

/** Pieces of a stream in, events out. `position`: what to continue after. */
export class EventLines {
  readonly #decoder = new TextDecoder();
  #rest = "";
  position: number | undefined;

  constructor(position?: number) {
    this.position = position;
  }

  take(piece: Uint8Array): StreamedEventBody[] {
    const messages = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n\n");
    this.#rest = messages.pop() ?? "";
    if (this.#rest.length > PENDING_CHARACTERS_MAX) {
      throw streamInvalid();
    }
    return messages.map((message) => this.#event(message)).filter((event) => event !== undefined);
  }

  #event(message: string): StreamedEventBody | undefined {
    const fields = new Map<string, string>();
    for (const line of message.split("\n")) {
      const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      fields.set(name, value);
    }
    const id = fields.get("id");
    if (id !== undefined) {
      this.position = Number(id);
      if (!Number.isSafeInteger(this.position)) {
        throw streamInvalid();
      }
    }
    const data = fields.get("data");
    if (data === undefined) {
      return undefined;
    }
    try {
      return JSON.parse(data) as StreamedEventBody;
    } catch {
      throw streamInvalid();
    }
  }
}

export function streamInvalid(): UnavailableError {
  return new UnavailableError("The response is no stream of events", { code: "stream_invalid" });
}
