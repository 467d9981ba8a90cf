/** Who is signed in, and whether the service is reachable. The key is in this tab's session storage only. */
import { LumaMemoryError, MemoryClient, type CurrentKeyBody, type StreamedEventBody, UnavailableError } from "luma-memory";

const STORED = "luma-memory-key";
const AGAIN_MS = 2_000;
const REFRESH_MS = 700;

/** The service below which this page is: `/prefix/ui/` belongs to `/prefix/`. */
export const BASE_URL = new URL("..", location.origin + location.pathname).href.replace(/\/$/, "");

function client(key: string | null): MemoryClient {
  return new MemoryClient({ baseUrl: BASE_URL, apiKey: key, retries: { attemptsMax: 2, secondsMax: 4 } });
}

class Session {
  memory = $state.raw(client(null));
  state = $state<"starting" | "signed-out" | "signed-in">("starting");
  identity = $state.raw<CurrentKeyBody | null>(null);
  error = $state.raw<unknown>(null);
  /** No response for a while. */
  away = $state(false);
  /** Grows with every event: lists that are live read again. */
  tick = $state(0);
  /** Grows when the service is reachable again: everything reads again. */
  restarts = $state(0);
  #following: AbortController | null = null;
  #refresh: ReturnType<typeof setTimeout> | undefined;

  async start(): Promise<void> {
    await this.#enter(sessionStorage.getItem(STORED));
  }

  async signIn(key: string): Promise<void> {
    await this.#enter(key.trim());
  }

  signOut(): void {
    this.#following?.abort();
    sessionStorage.removeItem(STORED);
    this.memory = client(null);
    this.identity = null;
    this.error = null;
    this.state = "signed-out";
  }

  can(permission: "ingest" | "read" | "admin"): boolean {
    return this.identity?.permissions.includes(permission) ?? false;
  }

  /** Whether numbers over all users may be read. */
  get isWide(): boolean {
    return this.identity !== null && this.identity.user_id === null;
  }

  /** Reports what a call ran into: a service that is away, or a key that is no longer valid. */
  met(error: unknown): void {
    if (error instanceof LumaMemoryError && error.status === 401) {
      this.signOut();
      this.error = error;
    } else if (error instanceof UnavailableError && error.status === undefined) {
      this.away = true;
    }
  }

  async #enter(key: string | null): Promise<void> {
    this.error = null;
    try {
      const memory = client(key || null);
      this.identity = await memory.currentKey();
      this.memory = memory;
      if (key) {
        sessionStorage.setItem(STORED, key);
      }
      this.state = "signed-in";
      void this.#follow(memory);
    } catch (error) {
      const isUnknown = error instanceof LumaMemoryError && error.status === 401;
      this.error = isUnknown && !key ? null : error;
      this.state = "signed-out";
      if (isUnknown) {
        sessionStorage.removeItem(STORED);
      }
    }
  }

  async #follow(memory: MemoryClient): Promise<void> {
    this.#following?.abort();
    const following = (this.#following = new AbortController());
    const { signal } = following;
    let after: number | undefined;
    while (!signal.aborted) {
      try {
        after ??= await memory.eventPosition({ signal });
        this.#back();
        for await (const event of memory.iterateEvents({ after }, { signal })) {
          after = event.position;
          this.#happened(event);
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        if (error instanceof LumaMemoryError && !(error instanceof UnavailableError)) {
          after = undefined; // events_expired: continue with what happens from now on
          if (error.status === 401 || error.status === 403) {
            this.met(error);
            return;
          }
        }
        this.met(error);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        await this.#health(memory, signal);
      }
    }
  }

  async #health(memory: MemoryClient, signal: AbortSignal): Promise<void> {
    try {
      await memory.health({ signal, timeoutSeconds: 5 });
      this.#back();
    } catch (error) {
      this.met(error);
    }
  }

  #back(): void {
    if (this.away) {
      this.away = false;
      this.restarts += 1;
    }
  }

  #happened(_event: StreamedEventBody): void {
    this.#refresh ??= setTimeout(() => {
      this.#refresh = undefined;
      this.tick += 1;
    }, REFRESH_MS);
  }
}

export const session = new Session();
