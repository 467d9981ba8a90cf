/** The parts of a search score, in standard deviations; their sum is the block's whole z-score. */

export type Explanation = Record<string, number | string | null> | null;
export interface Part {
  name: string;
  value: number;
  color: number;
}
interface Scale {
  low: number;
  high: number;
}

function number(explanation: NonNullable<Explanation>, name: string): number {
  const value = explanation[name];
  return typeof value === "number" ? value : 0;
}

export function partsOf(explanation: Explanation): Part[] {
  if (explanation && typeof explanation["rank"] === "number") {
    // Of the rankings that recall is compared with: the score is the place alone.
    return [{ name: "rank", value: 1 / explanation["rank"], color: 1 }];
  }
  if (!explanation || typeof explanation["standing"] !== "number") {
    return [];
  }
  const get = (name: string): number => number(explanation, name);
  const length = Math.hypot(get("dense_weight"), get("lexical_weight"), get("context_weight")) || 1;
  const parts = [
    { name: "meaning", value: (get("dense_weight") * get("dense_standing")) / length },
    { name: "terms", value: (get("lexical_weight") * get("lexical_standing")) / length },
    { name: "context", value: (get("context_weight") * get("context_standing")) / length },
    { name: "speaker", value: get("speaker") },
    { name: "time", value: get("time") },
    { name: "session", value: get("session_share") * get("session_standing") },
    { name: "relation", value: get("relation_gain") },
  ];
  return parts.map((part, index) => ({ ...part, color: index + 1 })).filter((part) => Math.abs(part.value) > 1e-9);
}

/** One scale for all results, so that their bars can be compared. */
export function largest(explanations: Explanation[]): Scale {
  let low = 0;
  let high = 0;
  for (const explanation of explanations) {
    const parts = partsOf(explanation);
    low = Math.min(low, total(parts, -1));
    high = Math.max(high, total(parts, 1));
  }
  return { low, high };
}

function total(parts: Part[], sign: number): number {
  return parts.reduce((sum, part) => (Math.sign(part.value) === sign ? sum + part.value : sum), 0);
}

/** Where each part is drawn, of a width of 1000. */
export function spans(parts: Part[], scale: Scale): { zero: number; bars: (Part & { x: number; width: number })[] } {
  const unit = 1000 / (scale.high - scale.low || 1);
  const zero = -scale.low * unit;
  let left = zero;
  let right = zero;
  const bars = parts.map((part) => {
    const width = Math.abs(part.value) * unit;
    const x = part.value < 0 ? (left -= width) : right;
    right += part.value < 0 ? 0 : width;
    return { ...part, x, width };
  });
  return { zero, bars };
}
