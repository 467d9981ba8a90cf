/** All operations of the service. */
import { type CallOptions, Connection, newKey, segment, write, type WriteOptions } from "./connection.js";
import { NotFound, RejectedError, UnavailableError } from "./errors.js";
import { EventLines, streamInvalid } from "./event_stream.js";
import { exportIncomplete, ImportReport, isEnd, Lines } from "./lines.js";
import { unknownForm } from "./responses.js";
import { Attempts, sleep } from "./retries.js";
import type * as wire from "./types.js";

// A job has 30 s, and another attempt after a pause.
const ENRICHED_SECONDS = 60;
const FIRST_PAUSE_SECONDS = 0.05;
const PAUSE_SECONDS_MAX = 1;
// The service gives a model 20 s, then summarizes without one.
const SUMMARY_SECONDS = 60;
// Statements over everything of a user, not over one block.
const WHOLE_USER_SECONDS = 300;
// Longer than the pause between two heartbeats of the service.
const SILENCE_SECONDS = 60;
// Between the end of a stream and the next request: the service's own `retry`.
const RECONNECT_SECONDS = 1;
// Network time in addition to the service's own timeout.
const NETWORK_SECONDS = 5;
// Of one request of `ingestMany`.
const BATCH_BLOCKS_MAX = 200;
const BATCH_BYTES_MAX = 4_000_000;

export interface OfUser {
  user_id: string;
}
export interface OfUserAtRevision extends OfUser {
  /** The revision the block must still have; otherwise PreconditionFailed (code revision_mismatch). */
  revision?: number;
}
/** Sessions whose id begins with the prefix. */
export interface SessionQuery extends Page {
  prefix?: string;
}

export interface Page {
  limit?: number;
  cursor?: string;
}
export type EventType = NonNullable<wire.QueryOf<"/events">["type"]>[number];

/**
 * A client of one service. Names on the wire are kept: `memory.search({ user_id, query })`.
 *
 * Every method rejects with subclasses of LumaMemoryError, or with the reason of the caller's signal.
 */
export class MemoryClient extends Connection {
  // Blocks

  /** Store a block; resolves once it is committed. It can be read and searched immediately. */
  async ingestBlockAsync(block: wire.NewBlockBody, options: WriteOptions = {}): Promise<wire.AcceptedBody> {
    const call = write("POST", "/blocks", options, { body: block });
    const accepted = await this.send<wire.AcceptedBody>(call, options);
    if (typeof accepted.job_id !== "number") {
      throw unknownForm();
    }
    return accepted;
  }

  /**
   * Store a block and return it enriched. Also requires the permission `read`. Rejects as
   * `waitUntilActive`; an error after the block was accepted does not undo it.
   */
  async ingestBlock(block: wire.NewBlockBody, options: WriteOptions = {}): Promise<wire.BlockBody> {
    const seconds = options.timeoutSeconds ?? ENRICHED_SECONDS;
    const call = write("POST", "/blocks", options, { body: block, query: { wait: true } });
    const stored = await this.send<wire.BlockBody>(call, { ...options, timeoutSeconds: seconds });
    if (stored.status === "pending_enrichment") {
      return this.waitUntilActive(stored.id, block, { ...options, timeoutSeconds: seconds });
    }
    return enriched(stored) ?? stored;
  }

  /** Store up to 1,000 blocks in one request; one outcome per block, in the same order. */
  async ingestBatchAsync(blocks: readonly wire.NewBlockBody[], options: WriteOptions = {}): Promise<wire.BatchResponse> {
    return this.send(write("POST", "/blocks/batch", options, { body: { blocks } }), options);
  }

  /**
   * Store any number of blocks, up to 200 per request; yields each block's outcome, `index` counted
   * across requests. With an idempotency key, repeating the call with the same blocks in the same
   * order stores them once.
   */
  async *ingestMany(
    blocks: Iterable<wire.NewBlockBody> | AsyncIterable<wire.NewBlockBody>,
    options: WriteOptions = {},
  ): AsyncGenerator<wire.BatchItem, void, undefined> {
    const name = options.idempotencyKey ?? newKey();
    let sent = 0;
    let number = 0;
    for await (const batch of inBatches(blocks)) {
      const response = await this.ingestBatchAsync(batch, { ...options, idempotencyKey: `${name}:${number}` });
      for (const item of response.results) {
        yield { ...item, index: sent + item.index };
      }
      sent += batch.length;
      number += 1;
    }
  }

  /** The blocks in the order of their ids, once all are enriched. Rejects as `waitUntilActive`. */
  async waitUntilAllActive(blockIds: Iterable<string>, of: OfUser, options: CallOptions = {}): Promise<wire.BlockBody[]> {
    const until = performance.now() + (options.timeoutSeconds ?? ENRICHED_SECONDS) * 1000;
    const found: wire.BlockBody[] = [];
    for (const id of blockIds) {
      const timeoutSeconds = Math.max(0, (until - performance.now()) / 1000);
      found.push(await this.waitUntilActive(id, of, { ...options, timeoutSeconds }));
    }
    return found;
  }

  /**
   * The block, once it is enriched. Rejects with RejectedError (code enrichment_failed) if enrichment
   * failed permanently, UnavailableError (code still_pending) after the timeout.
   */
  async waitUntilActive(blockId: string, of: OfUser, options: CallOptions = {}): Promise<wire.BlockBody> {
    const seconds = options.timeoutSeconds ?? ENRICHED_SECONDS;
    const until = performance.now() + seconds * 1000;
    const each: CallOptions = options.signal ? { signal: options.signal } : {};
    for (let pause = 0; ; ) {
      const block = enriched(await this.getBlock(blockId, of, each));
      if (block !== undefined) {
        return block;
      }
      pause = Math.min(Math.max(pause * 1.5, FIRST_PAUSE_SECONDS), PAUSE_SECONDS_MAX);
      if (performance.now() + pause * 1000 > until) {
        const message = `The block ${blockId} is stored, but not yet enriched after ${seconds} s`;
        throw new UnavailableError(message, { code: "still_pending" });
      }
      await sleep(pause, options.signal);
    }
  }

  async getBlock(blockId: string, of: OfUser, options: CallOptions = {}): Promise<wire.BlockBody> {
    return this.#read(`/blocks/${segment(blockId)}`, { user_id: of.user_id }, options);
  }

  /** One page of blocks, newest first. */
  async listBlocks(query: wire.QueryOf<"/blocks">, options: CallOptions = {}): Promise<wire.BlockPageBody> {
    return this.#read("/blocks", query, options);
  }

  /** All blocks, newest first, fetched page by page. */
  iterateBlocks(query: wire.QueryOf<"/blocks">, options: CallOptions = {}): AsyncGenerator<wire.BlockBody> {
    return paged(query, (page) => this.listBlocks(page, options), (page) => page.blocks);
  }

  /**
   * Delete the blocks of a selection. First with `dry_run`, which returns how many there are and a
   * `confirmation`; then again with it, and with each next `confirmation` while there is `more`.
   */
  async deleteBlocks(selection: wire.DeleteBlocksBody, options: WriteOptions = {}): Promise<wire.DeleteBlocksResponse> {
    return this.send(write("POST", "/blocks/delete", options, { body: selection }), options);
  }

  /** Change a block: omitted fields keep their values, null clears one. */
  async editBlock(
    blockId: string,
    changes: wire.BlockEditBody,
    of: OfUserAtRevision,
    options: WriteOptions = {},
  ): Promise<wire.BlockBody> {
    const rest = { body: changes, query: { user_id: of.user_id }, headers: ifRevision(of.revision) };
    return this.send(write("PATCH", `/blocks/${segment(blockId)}`, options, rest), options);
  }

  /** Delete a block and all references to it. */
  async deleteBlock(blockId: string, of: OfUserAtRevision, options: WriteOptions = {}): Promise<void> {
    const rest = { query: { user_id: of.user_id }, headers: ifRevision(of.revision) };
    await this.text(write("DELETE", `/blocks/${segment(blockId)}`, options, rest), options);
  }

  /** One page of a block's revisions, newest first. */
  async listRevisions(blockId: string, of: OfUser & Page, options: CallOptions = {}): Promise<wire.RevisionPageBody> {
    return this.#read(`/blocks/${segment(blockId)}/revisions`, of, options);
  }

  iterateRevisions(blockId: string, of: OfUser & Page, options: CallOptions = {}): AsyncGenerator<wire.RevisionBody> {
    return paged(of, (page) => this.listRevisions(blockId, page, options), (page) => page.revisions);
  }

  // Recall

  /** The most relevant blocks, best first, ranked by meaning and by terms. */
  async search(query: wire.SearchBody, options: CallOptions = {}): Promise<wire.SearchResponse> {
    return this.send({ method: "POST", path: "/search", body: query }, inTime(query.timeout_ms, options));
  }

  /** A text for a prompt within `token_budget`, with its blocks and citations. */
  async getContext(query: wire.ContextBody, options: CallOptions = {}): Promise<wire.ContextResponse> {
    return this.send({ method: "POST", path: "/context", body: query }, inTime(query.timeout_ms, options));
  }

  // Items

  /**
   * Create or replace an item. etag: the state the item must still have, `*` for any; otherwise
   * PreconditionFailed (code item_changed).
   */
  async putItem(item: wire.PutItemBody, options: WriteOptions & { etag?: string } = {}): Promise<wire.WrittenItemBody> {
    return this.send(write("PUT", "/items", options, { body: item, headers: ifEtag(options.etag) }), options);
  }

  /** The item, null if there is none. */
  async getItem(query: wire.QueryOf<"/items">, options: CallOptions = {}): Promise<wire.ItemBody | null> {
    try {
      return await this.#read<wire.ItemBody>("/items", query, options);
    } catch (error) {
      if (error instanceof NotFound && error.code === "item_not_found") {
        return null;
      }
      throw error;
    }
  }

  /** Delete an item; none is no error. */
  async deleteItem(
    query: wire.QueryOf<"/items", "delete">,
    options: WriteOptions & { etag?: string } = {},
  ): Promise<void> {
    await this.text(write("DELETE", "/items", options, { query, headers: ifEtag(options.etag) }), options);
  }

  /** Items whose namespace begins with `prefix`: newest first, or the best for a query. */
  async searchItems(query: wire.SearchItemsBody, options: CallOptions = {}): Promise<wire.ItemPageBody> {
    return this.send({ method: "POST", path: "/items/search", body: query }, options);
  }

  iterateItems(query: wire.SearchItemsBody, options: CallOptions = {}): AsyncGenerator<wire.ItemBody> {
    return paged(query, (page) => this.searchItems(page, options), (page) => page.items);
  }

  async listNamespaces(query: wire.QueryOf<"/items/namespaces">, options: CallOptions = {}): Promise<wire.NamespacePageBody> {
    return this.#read("/items/namespaces", query, options);
  }

  /** Carry out up to 1,000 operations in order, in one request; one result each. */
  async batchItems(batch: wire.ItemBatchBody, options: WriteOptions = {}): Promise<wire.ItemBatchResponse> {
    return this.send(write("POST", "/items/batch", options, { body: batch }), options);
  }

  // Relations

  /** One page of a user's relations, newest first. */
  async listRelations(query: wire.QueryOf<"/relations">, options: CallOptions = {}): Promise<wire.RelationPageBody> {
    return this.#read("/relations", query, options);
  }

  iterateRelations(query: wire.QueryOf<"/relations">, options: CallOptions = {}): AsyncGenerator<wire.RelationBody> {
    return paged(query, (page) => this.listRelations(page, options), (page) => page.relations);
  }

  /** One page of a block's relations in both directions, newest first. */
  async listBlockRelations(blockId: string, of: OfUser & Page, options: CallOptions = {}): Promise<wire.RelationPageBody> {
    return this.#read(`/blocks/${segment(blockId)}/relations`, of, options);
  }

  iterateBlockRelations(blockId: string, of: OfUser & Page, options: CallOptions = {}): AsyncGenerator<wire.RelationBody> {
    return paged(of, (page) => this.listBlockRelations(blockId, page, options), (page) => page.relations);
  }

  /** Accept or reject a relation permanently; later detection does not change the decision. */
  async decideRelation(
    relationId: string,
    status: wire.RelationEditBody["status"],
    of: OfUser,
    options: WriteOptions = {},
  ): Promise<wire.RelationBody> {
    const rest = { body: { status }, query: { user_id: of.user_id } };
    return this.send(write("PATCH", `/relations/${segment(relationId)}`, options, rest), options);
  }

  // Weekly summaries

  /** One page of a user's summaries, the newest week first. */
  async listSummaries(query: wire.QueryOf<"/summaries">, options: CallOptions = {}): Promise<wire.SummaryPageBody> {
    return this.#read("/summaries", query, options);
  }

  iterateSummaries(query: wire.QueryOf<"/summaries">, options: CallOptions = {}): AsyncGenerator<wire.SummaryBody> {
    return paged(query, (page) => this.listSummaries(page, options), (page) => page.summaries);
  }

  /** Summarize a week now. NotFound (code week_empty) if the user has no active blocks in it. */
  async makeSummary(summary: wire.NewSummaryBody, options: WriteOptions = {}): Promise<wire.SummaryBody> {
    return this.send(write("POST", "/summaries", options, { body: summary, secondsMin: SUMMARY_SECONDS }), options);
  }

  // Jobs

  /** One page of jobs, newest first. */
  async listJobs(query: wire.QueryOf<"/jobs"> = {}, options: CallOptions = {}): Promise<wire.JobPageBody> {
    return this.#read("/jobs", query, options);
  }

  iterateJobs(query: wire.QueryOf<"/jobs"> = {}, options: CallOptions = {}): AsyncGenerator<wire.JobBody> {
    return paged(query, (page) => this.listJobs(page, options), (page) => page.jobs);
  }

  async getJob(jobId: number, query: Partial<OfUser> = {}, options: CallOptions = {}): Promise<wire.JobBody> {
    return this.#read(`/jobs/${segment(jobId)}`, query, options);
  }

  /** Statistics of the whole queue. */
  async jobStats(options: CallOptions = {}): Promise<wire.JobStatsBody> {
    return this.#read("/jobs/stats", undefined, options);
  }

  /** Stop workers from claiming jobs of a type, or any job, of all projects. */
  async pauseJobs(what: wire.PauseBody = {}, options: WriteOptions = {}): Promise<wire.PausedResponse> {
    return this.send(write("POST", "/jobs/pause", options, { body: what }), options);
  }

  /** Let workers claim jobs of a type again, or everything that was paused. */
  async resumeJobs(what: wire.PauseBody = {}, options: WriteOptions = {}): Promise<wire.PausedResponse> {
    return this.send(write("POST", "/jobs/resume", options, { body: what }), options);
  }

  /** Retry the failed jobs that match all filters, or all. */
  async retryJobs(which: wire.RetryBody, options: WriteOptions = {}): Promise<wire.RetryResponse> {
    return this.send(write("POST", "/jobs/retry", options, { body: which }), options);
  }

  /** Retry a failed or cancelled job. */
  async retryJob(jobId: number, query: Partial<OfUser> = {}, options: WriteOptions = {}): Promise<wire.JobBody> {
    return this.send(write("POST", `/jobs/${segment(jobId)}/retry`, options, { query }), options);
  }

  /** Cancel a job that has not ended; the result of a running one is discarded. */
  async cancelJob(jobId: number, query: Partial<OfUser> = {}, options: WriteOptions = {}): Promise<wire.JobBody> {
    return this.send(write("POST", `/jobs/${segment(jobId)}/cancel`, options, { query }), options);
  }

  /** Cancel the jobs that match all filters, or all. `dry_run` only counts them. */
  async cancelJobs(which: wire.CancelBody, options: WriteOptions = {}): Promise<wire.CancelResponse> {
    return this.send(write("POST", "/jobs/cancel", options, { body: which }), options);
  }

  // Users

  /** One page of users, with counts. */
  async listUsers(query: wire.QueryOf<"/users"> = {}, options: CallOptions = {}): Promise<wire.UserPageBody> {
    return this.#read("/users", query, options);
  }

  iterateUsers(query: wire.QueryOf<"/users"> = {}, options: CallOptions = {}): AsyncGenerator<wire.UserEntryBody> {
    return paged(query, (page) => this.listUsers(page, options), (page) => page.users);
  }

  /** The most frequent tags of a user's newest 10,000 blocks, with their numbers of blocks. */
  async listTerms(userId: string, query: { limit?: number } = {}, options: CallOptions = {}): Promise<wire.TermProfileBody> {
    return this.#read(`/users/${segment(userId)}/terms`, query, options);
  }

  /** One page of a user's sessions, the latest activity first. */
  async listSessions(userId: string, query: SessionQuery = {}, options: CallOptions = {}): Promise<wire.SessionPageBody> {
    return this.#read(`/users/${segment(userId)}/sessions`, query, options);
  }

  iterateSessions(userId: string, query: SessionQuery = {}, options: CallOptions = {}): AsyncGenerator<wire.SessionBody> {
    return paged(query, (page) => this.listSessions(userId, page, options), (page) => page.sessions);
  }

  /** A user's settings; an unknown user has the defaults. */
  async getUser(userId: string, options: CallOptions = {}): Promise<wire.UserBody> {
    return this.#read(`/users/${segment(userId)}`, undefined, options);
  }

  async editUser(userId: string, changes: wire.UserEditBody, options: WriteOptions = {}): Promise<wire.UserBody> {
    return this.send(write("PATCH", `/users/${segment(userId)}`, options, { body: changes }), options);
  }

  /**
   * All rows of a user as lines of JSON, without their line breaks, as they arrive. Rejects with
   * UnavailableError (code export_incomplete or connection_lost) if the export is cut off.
   */
  async *exportUser(userId: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    const call = { method: "GET", path: `/users/${segment(userId)}/export` } as const;
    const lines = new Lines();
    let last = "";
    for await (const piece of this.pieces(call, options)) {
      for (const line of lines.take(piece)) {
        yield (last = line);
      }
    }
    if (!lines.isWhole || !isEnd(last)) {
      throw exportIncomplete("export");
    }
  }

  /** Import an export of `exportUser`, for the same user or another one; never overwrites. Not retried. */
  async importUser(userId: string, content: BodyInit, options: CallOptions = {}): Promise<wire.ImportedBody> {
    const call = {
      ...importing(userId, content),
      headers: { "Content-Type": "application/x-ndjson" },
    };
    return this.send(call, options);
  }

  /** Import another system's export: a file or a zip archive. Importing again stores nothing twice. Not retried. */
  async importFile(
    userId: string,
    content: BodyInit,
    query: wire.QueryOf<"/users/{user_id}/import", "post"> = {},
    options: CallOptions = {},
  ): Promise<wire.ImportReportBody> {
    const call = {
      ...importing(userId, content),
      query: { format: "auto", ...query },
      headers: { "Content-Type": "application/octet-stream" },
    };
    const lines = new Lines();
    const report = new ImportReport();
    for await (const piece of this.pieces(call, options)) {
      lines.take(piece).forEach((line) => report.take(line));
    }
    return report.ended();
  }

  /** Erase a user permanently. Keep the receipt: `luma-memory verify-erasure` verifies it. */
  async eraseUser(userId: string, options: WriteOptions = {}): Promise<wire.ReceiptBody> {
    const rest = { secondsMin: WHOLE_USER_SECONDS };
    return this.send(write("DELETE", `/users/${segment(userId)}`, options, rest), options);
  }

  // Webhooks

  /** Create a webhook; its `secret` is in this response only. */
  async createWebhook(webhook: wire.NewWebhookBody, options: WriteOptions = {}): Promise<wire.WebhookBody> {
    return this.send(write("POST", "/webhooks", options, { body: webhook }), options);
  }

  /** All webhooks, oldest first. */
  async listWebhooks(options: CallOptions = {}): Promise<wire.WebhookBody[]> {
    return (await this.#read<{ webhooks: wire.WebhookBody[] }>("/webhooks", undefined, options)).webhooks;
  }

  async getWebhook(webhookId: string, options: CallOptions = {}): Promise<wire.WebhookBody> {
    return this.#read(`/webhooks/${segment(webhookId)}`, undefined, options);
  }

  /** rotate_secret: the response has a new `secret`; the one before stays valid for 24 hours. */
  async editWebhook(
    webhookId: string,
    changes: wire.WebhookEditBody,
    options: WriteOptions = {},
  ): Promise<wire.WebhookBody> {
    return this.send(write("PATCH", `/webhooks/${segment(webhookId)}`, options, { body: changes }), options);
  }

  /** Delete a webhook with its deliveries. */
  async deleteWebhook(webhookId: string, options: WriteOptions = {}): Promise<void> {
    await this.text(write("DELETE", `/webhooks/${segment(webhookId)}`, options), options);
  }

  /** One page of a webhook's deliveries, newest first. */
  async listDeliveries(
    webhookId: string,
    query: wire.QueryOf<"/webhooks/{webhook_id}/deliveries"> = {},
    options: CallOptions = {},
  ): Promise<wire.DeliveryPageBody> {
    return this.#read(`/webhooks/${segment(webhookId)}/deliveries`, query, options);
  }

  iterateDeliveries(
    webhookId: string,
    query: wire.QueryOf<"/webhooks/{webhook_id}/deliveries"> = {},
    options: CallOptions = {},
  ): AsyncGenerator<wire.DeliveryBody> {
    return paged(query, (page) => this.listDeliveries(webhookId, page, options), (page) => page.deliveries);
  }

  /** Deliver an event once more, under the same event id. */
  async replayDelivery(webhookId: string, deliveryId: number, options: WriteOptions = {}): Promise<wire.DeliveryBody> {
    const path = `/webhooks/${segment(webhookId)}/deliveries/${segment(deliveryId)}/replay`;
    return this.send(write("POST", path, options), options);
  }

  /** Deliver an event of the type `webhook.test`. */
  async sendTestEvent(webhookId: string, options: WriteOptions = {}): Promise<wire.DeliveryBody> {
    return this.send(write("POST", `/webhooks/${segment(webhookId)}/test`, options), options);
  }

  // Keys

  /** The caller's own key: its permissions and its user. */
  async currentKey(options: CallOptions = {}): Promise<wire.CurrentKeyBody> {
    return this.#read("/keys/current", undefined, options);
  }

  /** One page of keys, newest first. */
  async listKeys(query: wire.QueryOf<"/keys"> = {}, options: CallOptions = {}): Promise<wire.KeyPageBody> {
    return this.#read("/keys", query, options);
  }

  iterateKeys(query: wire.QueryOf<"/keys"> = {}, options: CallOptions = {}): AsyncGenerator<wire.KeyBody> {
    return paged(query, (page) => this.listKeys(page, options), (page) => page.keys);
  }

  /** Create a key; its text, `key`, is in this response only. Not retried. */
  async createKey(key: wire.NewKeyBody, options: CallOptions = {}): Promise<wire.KeyBody> {
    return this.send({ method: "POST", path: "/keys", body: key, isRepeatable: false }, options);
  }

  /** Revoke a key for good; once more is no error. */
  async revokeKey(prefix: string, options: WriteOptions = {}): Promise<wire.KeyBody> {
    return this.send(write("DELETE", `/keys/${segment(prefix)}`, options), options);
  }

  // Events

  /**
   * Events as they happen, without end.
   *
   * after: the `position` of the last event that was handled; without it, the stream begins with what
   * happens from now on. A connection that ends is opened again where it stopped, so that no event is
   * missed or repeated; an outage longer than the client's retries rejects with UnavailableError.
   * Rejects with Conflict (code events_expired) if events after that position are not kept any more.
   * follow: false ends with the last event there is now.
   */
  async *iterateEvents(
    query: { after?: number; user_id?: string; event_types?: readonly EventType[]; follow?: boolean } = {},
    options: CallOptions = {},
  ): AsyncGenerator<wire.StreamedEventBody, void, undefined> {
    const { follow = true, event_types = [] } = query;
    let lines = new EventLines(query.after);
    let attempts = new Attempts(this.retries);
    const timed = { timeoutSeconds: SILENCE_SECONDS, ...options };
    for (;;) {
      const filter = { user_id: query.user_id, type: event_types, wait_seconds: follow ? undefined : 0 };
      const call = { method: "GET", path: "/events", query: { after: lines.position, ...filter } } as const;
      lines = new EventLines(lines.position);
      try {
        for await (const piece of this.pieces(call, timed)) {
          attempts = new Attempts(this.retries);
          yield* lines.take(piece);
        }
        if (!follow) {
          return;
        }
        // A process that stops ends each new stream at once.
        await sleep(RECONNECT_SECONDS, options.signal);
      } catch (error) {
        const pause = error instanceof UnavailableError ? attempts.pauseAfter(error, true) : undefined;
        if (pause === undefined) {
          throw error;
        }
        await sleep(pause, options.signal);
      }
    }
  }

  /** The position where the stream ends now: `after` for what happens from now on. */
  async eventPosition(options: CallOptions = {}): Promise<number> {
    const lines = new EventLines();
    const text = await this.text({ method: "GET", path: "/events", query: { wait_seconds: 0 } }, options);
    lines.take(new TextEncoder().encode(text));
    if (lines.position === undefined && text !== "" && !text.includes(":")) {
      throw streamInvalid();
    }
    return lines.position ?? 0;
  }

  // The service itself

  /** State of the whole system; needs no key. */
  async health(options: CallOptions = {}): Promise<wire.HealthBody> {
    return this.#read("/health", undefined, options);
  }

  /** Rejects with UnavailableError if the service cannot serve requests. */
  async checkReady(options: CallOptions = {}): Promise<void> {
    await this.text({ method: "GET", path: "/health/ready" }, options);
  }

  /** Calls, tokens and estimated cost by day, operation and model; 30 days by default. */
  async usage(query: wire.QueryOf<"/usage"> = {}, options: CallOptions = {}): Promise<wire.UsageBody> {
    return this.#read("/usage", query, options);
  }

  /** State and hit rate of the context cache. */
  async cacheStats(options: CallOptions = {}): Promise<wire.CacheStatsBody> {
    return this.#read("/cache/stats", undefined, options);
  }

  /** Numbers over time: 24 hours by the minute, or 30 days by the hour. */
  async metricsHistory(
    query: wire.QueryOf<"/metrics/history"> = {},
    options: CallOptions = {},
  ): Promise<wire.HistoryBody> {
    return this.#read("/metrics/history", query, options);
  }

  /** The state of each model provider. */
  async listProviders(options: CallOptions = {}): Promise<wire.ProviderBody[]> {
    return (await this.#read<wire.ProviderListBody>("/providers", undefined, options)).providers;
  }

  /** The service's settings; secrets are not among the values. */
  async listSettings(options: CallOptions = {}): Promise<wire.SettingBody[]> {
    return (await this.#read<wire.SettingListBody>("/settings", undefined, options)).settings;
  }

  /** Metrics in Prometheus' text format; requires the permission `admin`. */
  async metrics(options: CallOptions = {}): Promise<string> {
    return this.text({ method: "GET", path: "/metrics" }, options);
  }

  async #read<Body>(path: string, query: object | undefined, options: CallOptions): Promise<Body> {
    return this.send<Body>({ method: "GET", path, query }, options);
  }
}

/** undefined while it is pending. */
function enriched(block: wire.BlockBody): wire.BlockBody | undefined {
  if (block.status === "failed") {
    const message = `The block ${block.id} could not be enriched: ${block.error ?? "no reason given"}`;
    throw new RejectedError(message, { code: "enrichment_failed" });
  }
  return block.status === "active" ? block : undefined;
}

function ifRevision(revision: number | undefined): Record<string, string> {
  return revision === undefined ? {} : { "If-Match": `"${revision}"` };
}

function ifEtag(etag: string | undefined): Record<string, string> {
  if (etag === undefined) {
    return {};
  }
  return { "If-Match": etag === "*" ? etag : `"${etag}"` };
}

function inTime(timeoutMs: number | null | undefined, options: CallOptions): CallOptions {
  return timeoutMs ? { timeoutSeconds: timeoutMs / 1000 + NETWORK_SECONDS, ...options } : options;
}

function importing(userId: string, content: BodyInit) {
  const path = `/users/${segment(userId)}/import`;
  return { method: "POST", path, content, isRepeatable: false, secondsMin: WHOLE_USER_SECONDS } as const;
}

async function* paged<Query extends object, Found extends { next_cursor?: string | null }, Row>(
  query: Query,
  read: (page: Query) => Promise<Found>,
  rows: (page: Found) => Row[],
): AsyncGenerator<Row, void, undefined> {
  for (let next: Query | undefined = query; next !== undefined; ) {
    const page: Found = await read(next);
    yield* rows(page);
    next = page.next_cursor ? { ...query, cursor: page.next_cursor } : undefined;
  }
}

async function* inBatches(
  blocks: Iterable<wire.NewBlockBody> | AsyncIterable<wire.NewBlockBody>,
): AsyncGenerator<wire.NewBlockBody[], void, undefined> {
  let batch: wire.NewBlockBody[] = [];
  let bytes = 0;
  for await (const block of blocks) {
    const length = new TextEncoder().encode(JSON.stringify(block)).length;
    if (batch.length > 0 && (batch.length >= BATCH_BLOCKS_MAX || bytes + length > BATCH_BYTES_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(block);
    bytes += length;
  }
  if (batch.length > 0) {
    yield batch;
  }
}
