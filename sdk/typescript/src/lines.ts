/** Assembles lines from pieces. */
import { Invalid, UnavailableError } from "./errors.js";
import type { ImportReportBody } from "./types.js";

const PROBLEMS_MAX = 1_000;

/** Whole lines of text, without their line breaks; what is left at the end is not a line. */
export class Lines {
  readonly #decoder = new TextDecoder();
  #rest = "";

  take(piece: Uint8Array): string[] {
    const lines = (this.#rest + this.#decoder.decode(piece, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines;
  }

  get isWhole(): boolean {
    return this.#rest === "";
  }
}

export function exportIncomplete(what: string): UnavailableError {
  return new UnavailableError(`The ${what} was cut off`, { code: "export_incomplete" });
}

/** Whether it is the line that marks an export's end. */
export function isEnd(line: string): boolean {
  try {
    return (JSON.parse(line) as { kind?: unknown } | null)?.kind === "end";
  } catch {
    return false;
  }
}

/** Lines of an import's report in, its end out. */
export class ImportReport {
  readonly #problems: ImportReportBody["problems"] = [];
  #end: ImportReportBody | undefined;

  take(line: string): void {
    if (line === "") {
      return;
    }
    const { kind, ...found } = JSON.parse(line) as Record<string, string>;
    if (kind === "skipped") {
      this.#keep(found["where"], found["reason"], found["detail"]);
    } else if (kind === "refused") {
      this.#keep(found["external_id"], `refused: ${found["code"]}`, found["detail"]);
    } else if (kind === "error") {
      throw new Invalid(String(found["detail"]), { code: String(found["code"]) });
    } else if (kind === "end") {
      this.#end = found as unknown as ImportReportBody;
    }
  }

  ended(): ImportReportBody {
    if (this.#end === undefined) {
      throw exportIncomplete("report");
    }
    return { ...this.#end, problems: this.#problems };
  }

  #keep(where = "", reason = "", detail = ""): void {
    if (this.#problems.length < PROBLEMS_MAX) {
      this.#problems.push({ where, reason, detail });
    }
  }
}
