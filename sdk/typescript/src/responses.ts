/** The service's error responses as errors. */
import * as errors from "./errors.js";
import { DEFAULT_WAIT_SECONDS, statedSeconds } from "./retry_after.js";
import type { Problem } from "./types.js";

type Kind = typeof errors.LumaMemoryError;

const BY_STATUS: Record<number, Kind> = {
  401: errors.Unauthenticated,
  403: errors.Forbidden,
  404: errors.NotFound,
  408: errors.UnavailableError,
  409: errors.Conflict,
  412: errors.PreconditionFailed,
  429: errors.QuotaExceeded,
  500: errors.InvariantError,
  502: errors.RejectedError,
  503: errors.UnavailableError,
};
// More precise than the status.
const BY_CODE: Record<string, Kind> = {
  provider_rejected: errors.ProviderRejected,
  provider_response_invalid: errors.ProviderResponseInvalid,
  provider_timeout: errors.ProviderTimeout,
  provider_unavailable: errors.ProviderUnavailable,
  provider_paused: errors.ProviderPaused,
  rate_limited: errors.RateLimited,
  search_timeout: errors.SearchTimeout,
  database_busy: errors.StoreContended,
  database_unavailable: errors.StoreUnavailable,
};
// Statuses of a gateway in front of an unavailable service.
const GATEWAY = new Set([502, 503, 504]);
// Their responses always state a wait.
const WAITING = new Set(["provider_paused", "rate_limited"]);

/** The error for a response other than 2xx. */
export function refusal(status: number, text: string, headers: Headers, address: string): errors.LumaMemoryError {
  const problem = problemOf(text);
  const seconds = statedSeconds(headers);
  if (problem === undefined) {
    return notOurs(status, seconds, address);
  }
  const { code } = problem;
  const kind =
    problem.status === 429 ? errors.QuotaExceeded : (BY_CODE[code] ?? BY_STATUS[problem.status] ?? errors.Invalid);
  const waits = problem.status === 429 || WAITING.has(code);
  return new kind(problem.detail, {
    code,
    status: problem.status,
    field: problem.errors?.[0]?.field,
    retryAfterSeconds: seconds ?? (waits ? DEFAULT_WAIT_SECONDS : undefined),
    problem,
  });
}

/** The typed result. Throws ProviderResponseInvalid (code unknown_answer). */
export function parsed<Body>(text: string): Body {
  try {
    return JSON.parse(text) as Body;
  } catch (cause) {
    throw unknownForm(cause);
  }
}

export function unknownForm(cause?: unknown): errors.LumaMemoryError {
  return new errors.ProviderResponseInvalid("The service's response has a form unknown to this version", {
    code: "unknown_answer",
    cause,
  });
}

function problemOf(text: string): Problem | undefined {
  try {
    const found = JSON.parse(text) as Partial<Problem> | null;
    const isProblem =
      typeof found?.code === "string" && typeof found.detail === "string" && typeof found.status === "number";
    return isProblem ? (found as Problem) : undefined;
  } catch {
    return undefined;
  }
}

/** The response came from a gateway for an unavailable service, or from another server. */
function notOurs(status: number, seconds: number | undefined, address: string): errors.LumaMemoryError {
  if (status === 429) {
    return new errors.QuotaExceeded(`A gateway in front of ${address} accepts no more requests now`, {
      code: "gateway_limit",
      status,
      retryAfterSeconds: seconds ?? DEFAULT_WAIT_SECONDS,
    });
  }
  if (GATEWAY.has(status)) {
    return new errors.UnavailableError(
      `A gateway in front of ${address} cannot reach the service (status ${status})`,
      { code: "gateway_unavailable", status, retryAfterSeconds: seconds },
    );
  }
  return new errors.SetupError(`The server at ${address} is not Luma Memory (status ${status})`, {
    code: "not_this_service",
    status,
  });
}
