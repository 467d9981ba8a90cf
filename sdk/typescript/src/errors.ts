/** One tree of errors. `code` is stable; messages may change. */
import type { Problem } from "./types.js";

export interface ErrorDetails {
  code: string;
  /** Of the response; undefined if there was none. */
  status?: number | undefined;
  /** The part of the request that is invalid. */
  field?: string | undefined;
  retryAfterSeconds?: number | undefined;
  problem?: Problem | undefined;
  cause?: unknown;
}

export class LumaMemoryError extends Error {
  readonly code: string;
  readonly status: number | undefined;
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  /** Identifies the request in the service's log. */
  readonly requestId: string | undefined;
  /** The service's problem document. */
  readonly problem: Problem | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    // Minifiers rename classes: see `static kind`.
    this.name = (new.target as typeof LumaMemoryError).kind;
    this.code = details.code;
    this.status = details.status;
    this.field = details.field;
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.problem = details.problem;
    this.requestId = details.problem?.request_id ?? undefined;
  }

  static kind = "LumaMemoryError";
}

/** The caller can fix it. */
export class RequestError extends LumaMemoryError {
  static override kind = "RequestError";
}
export class Invalid extends RequestError {
  static override kind = "Invalid";
}
export class Unauthenticated extends RequestError {
  static override kind = "Unauthenticated";
}
export class Forbidden extends RequestError {
  static override kind = "Forbidden";
}
export class NotFound extends RequestError {
  static override kind = "NotFound";
}
export class Conflict extends RequestError {
  static override kind = "Conflict";
}
export class PreconditionFailed extends RequestError {
  static override kind = "PreconditionFailed";
}
export class QuotaExceeded extends RequestError {
  static override kind = "QuotaExceeded";
}

/** Try later: see `retryAfterSeconds`, if known. */
export class UnavailableError extends LumaMemoryError {
  static override kind = "UnavailableError";
}
export class StoreUnavailable extends UnavailableError {
  static override kind = "StoreUnavailable";
}
export class StoreContended extends StoreUnavailable {
  static override kind = "StoreContended";
}
export class SearchTimeout extends UnavailableError {
  static override kind = "SearchTimeout";
}
export class ProviderTimeout extends UnavailableError {
  static override kind = "ProviderTimeout";
}
export class ProviderUnavailable extends UnavailableError {
  static override kind = "ProviderUnavailable";
}
export class ProviderPaused extends ProviderUnavailable {
  static override kind = "ProviderPaused";
}
export class RateLimited extends UnavailableError {
  static override kind = "RateLimited";
}

/** Rejected permanently. */
export class RejectedError extends LumaMemoryError {
  static override kind = "RejectedError";
}
export class ProviderRejected extends RejectedError {
  static override kind = "ProviderRejected";
}
export class ProviderResponseInvalid extends RejectedError {
  static override kind = "ProviderResponseInvalid";
}

/** The address or the key is invalid. */
export class SetupError extends LumaMemoryError {
  static override kind = "SetupError";
}

/** A bug in the service. */
export class InvariantError extends LumaMemoryError {
  static override kind = "InvariantError";
}
