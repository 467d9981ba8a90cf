/** The names of the wire models; `openapi.ts` is generated from the service's OpenAPI document. */
import type { components, paths } from "./openapi.js";

type Schemas = components["schemas"];
type Base = "/api/v1/memory";
type Parameters<Path, Method> = Path extends keyof paths
  ? Method extends keyof paths[Path]
    ? paths[Path][Method] extends { parameters: infer Given }
      ? Given
      : never
    : never
  : never;

/** The query parameters of a route; an array sends a parameter several times. */
export type QueryOf<Path extends string, Method extends string = "get"> =
  Parameters<`${Base}${Path}`, Method> extends { query?: infer Query } ? NonNullable<Query> : never;

export type AcceptedBody = Schemas["AcceptedBody"];
export type BatchItem = Schemas["BatchItem"];
export type BatchResponse = Schemas["BatchResponse"];
export type BlockBody = Schemas["BlockBody"];
export type BlockEditBody = Schemas["BlockEditBody"];
export type BlockPageBody = Schemas["BlockPageBody"];
export type CacheStatsBody = Schemas["CacheStatsBody"];
export type CancelBody = Schemas["CancelBody"];
export type CancelResponse = Schemas["CancelResponse"];
export type ContextBody = Schemas["ContextBody"];
export type ContextResponse = Schemas["ContextResponse"];
export type CurrentKeyBody = Schemas["CurrentKeyBody"];
export type DeleteBlocksBody = Schemas["DeleteBlocksBody"];
export type DeleteBlocksResponse = Schemas["DeleteBlocksResponse"];
export type DeliveryBody = Schemas["DeliveryBody"];
export type DeliveryPageBody = Schemas["DeliveryPageBody"];
export type EventBody = Schemas["EventBody"];
export type FieldProblem = Schemas["FieldProblem"];
export type HealthBody = Schemas["HealthBody"];
export type HistoryBody = Schemas["HistoryBody"];
export type ImportedBody = Schemas["ImportedBody"];
export type ItemBatchBody = Schemas["ItemBatchBody"];
export type ItemBatchResponse = Schemas["ItemBatchResponse"];
export type ItemBody = Schemas["ItemBody"];
export type ItemPageBody = Schemas["ItemPageBody"];
export type JobBody = Schemas["JobBody"];
export type JobPageBody = Schemas["JobPageBody"];
export type JobStatsBody = Schemas["JobStatsBody"];
export type KeyBody = Schemas["KeyBody"];
export type KeyPageBody = Schemas["KeyPageBody"];
export type NamespacePageBody = Schemas["NamespacePageBody"];
export type NewBlockBody = Schemas["NewBlockBody"];
export type NewKeyBody = Schemas["NewKeyBody"];
export type NewSummaryBody = Schemas["NewSummaryBody"];
export type NewWebhookBody = Schemas["NewWebhookBody"];
export type PauseBody = Schemas["PauseBody"];
export type PausedResponse = Schemas["PausedResponse"];
export type Problem = Schemas["Problem"];
export type ProviderBody = Schemas["ProviderBody"];
export type ProviderListBody = Schemas["ProviderListBody"];
export type PutItemBody = Schemas["PutItemBody"];
export type ReceiptBody = Schemas["ReceiptBody"];
export type RelationBody = Schemas["RelationBody"];
export type RelationEditBody = Schemas["RelationEditBody"];
export type RelationPageBody = Schemas["RelationPageBody"];
export type RetryBody = Schemas["RetryBody"];
export type RetryResponse = Schemas["RetryResponse"];
export type RevisionBody = Schemas["RevisionBody"];
export type RevisionPageBody = Schemas["RevisionPageBody"];
export type SearchBody = Schemas["SearchBody"];
export type SearchHitBody = Schemas["SearchHitBody"];
export type SearchItemsBody = Schemas["SearchItemsBody"];
export type SearchResponse = Schemas["SearchResponse"];
export type SessionBody = Schemas["SessionBody"];
export type SessionPageBody = Schemas["SessionPageBody"];
export type SettingBody = Schemas["SettingBody"];
export type SettingListBody = Schemas["SettingListBody"];
export type SummaryBody = Schemas["SummaryBody"];
export type SummaryPageBody = Schemas["SummaryPageBody"];
export type TermBody = Schemas["TermBody"];
export type TermProfileBody = Schemas["TermProfileBody"];
export type UsageBody = Schemas["UsageBody"];
export type UserBody = Schemas["UserBody"];
export type UserEditBody = Schemas["UserEditBody"];
export type UserEntryBody = Schemas["UserEntryBody"];
export type UserPageBody = Schemas["UserPageBody"];
export type WebhookBody = Schemas["WebhookBody"];
export type WebhookEditBody = Schemas["WebhookEditBody"];
export type WrittenItemBody = Schemas["WrittenItemBody"];

/** An event of the stream. */
export interface StreamedEventBody extends EventBody {
  /** Continue after it with `after`. */
  position: number;
}

/** What became of the items of another system's export. */
export interface ImportReportBody {
  format: string;
  /** Blocks to store; with `dry_run`, all there is. */
  found: number;
  /** The first three, their texts cut after 300 characters. */
  samples: { user_id: string; content: string; speaker: string | null; session_id: string | null; occurred_at: string | null }[];
  /** With those that an earlier import stored. */
  stored: number;
  refused: number;
  skipped: Record<string, number>;
  without_time: number;
  earliest: string | null;
  latest: string | null;
  /** The first thousand. */
  problems: { where: string; reason: string; detail: string }[];
}

