/** When and after which pause a call is retried. */
import { LumaMemoryError, QuotaExceeded, UnavailableError } from "./errors.js";

/** The request was never sent, so it has had no effect. */
export const NEVER_SENT = "service_unreachable";
// Disabled by an operator: retrying within seconds does not help.
const LASTING = new Set(["system_disabled"]);

/**
 * Only safe calls are retried: reads, and writes with an idempotency key. A pause is a random share,
 * at least half, of `firstPauseSeconds` doubled with every attempt, or the Retry-After of the response
 * if that is longer. A pause that would end after `secondsMax` is not started.
 */
export interface Retries {
  attemptsMax: number;
  secondsMax: number;
  firstPauseSeconds: number;
  pauseSecondsMax: number;
}

export const DEFAULT_RETRIES: Retries = Object.freeze({
  attemptsMax: 5,
  secondsMax: 30,
  firstPauseSeconds: 0.2,
  pauseSecondsMax: 5,
});
export const NO_RETRIES: Retries = Object.freeze({ ...DEFAULT_RETRIES, attemptsMax: 1 });

/** The attempts of one call. */
export class Attempts {
  readonly #retries: Retries;
  readonly #until: number;
  #made = 0;

  constructor(retries: Retries) {
    this.#retries = retries;
    this.#until = performance.now() + retries.secondsMax * 1000;
  }

  /** Seconds until the next attempt; undefined if this error is final. */
  pauseAfter(error: unknown, isRepeatable: boolean): number | undefined {
    this.#made += 1;
    if (this.#made >= this.#retries.attemptsMax || !mayHelp(error, isRepeatable)) {
      return undefined;
    }
    const pause = Math.max(this.#backoff(), (error as LumaMemoryError).retryAfterSeconds ?? 0);
    return performance.now() + pause * 1000 <= this.#until ? pause : undefined;
  }

  #backoff(): number {
    const { firstPauseSeconds, pauseSecondsMax } = this.#retries;
    const longest = Math.min(firstPauseSeconds * 2 ** Math.min(this.#made - 1, 32), pauseSecondsMax);
    return longest * (0.5 + Math.random() / 2);
  }
}

function mayHelp(error: unknown, isRepeatable: boolean): boolean {
  if (!(error instanceof UnavailableError || error instanceof QuotaExceeded) || LASTING.has(error.code)) {
    return false;
  }
  return isRepeatable || error.code === NEVER_SENT;
}

/** Resolves after the pause; rejects with the signal's reason if that aborts first. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
