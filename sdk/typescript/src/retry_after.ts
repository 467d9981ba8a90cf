/** The wait that a response requests. */

export const DEFAULT_WAIT_SECONDS = 10;
const MIN_SECONDS = 1;

/**
 * Seconds, at least 1; undefined if the header is missing or invalid.
 *
 * Reads `retry-after-ms`, then `retry-after` as seconds or as an HTTP date. A date is measured from
 * the response's own `date`, so that a wrong clock on either side does not matter.
 */
export function statedSeconds(headers: Headers): number | undefined {
  const after = headers.get("retry-after");
  const seconds = number(headers.get("retry-after-ms"), 1000) ?? number(after, 1) ?? until(after, headers.get("date"));
  return seconds === undefined ? undefined : Math.max(seconds, MIN_SECONDS);
}

function number(text: string | null, divisor: number): number | undefined {
  const value = text === null || text.trim() === "" ? Number.NaN : Number(text);
  return Number.isNaN(value) ? undefined : value / divisor;
}

function until(text: string | null, sent: string | null): number | undefined {
  const moment = text === null ? Number.NaN : Date.parse(text);
  if (Number.isNaN(moment)) {
    return undefined;
  }
  const start = sent === null ? Number.NaN : Date.parse(sent);
  return (moment - (Number.isNaN(start) ? Date.now() : start)) / 1000;
}
