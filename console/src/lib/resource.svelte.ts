/** Something read from the service, again whenever what it depends on changes. */
import { session } from "./session.svelte";

export interface Resource<T> {
  readonly data: T | undefined;
  readonly error: unknown;
  readonly loading: boolean;
  reload(): void;
}

interface Options {
  /** Read again with every event. */
  live?: boolean;
  /** Read again after so many seconds. */
  everySeconds?: number;
}

/** read: undefined for nothing to read. What it uses before its first await is what it depends on. */
export function resource<T>(read: (signal: AbortSignal) => Promise<T> | undefined, options: Options = {}): Resource<T> {
  let data = $state.raw<T>();
  let error = $state.raw<unknown>();
  let loading = $state(false);
  let again = $state(0);

  $effect(() => {
    void again;
    void session.restarts;
    if (options.live) {
      void session.tick;
    }
    const controller = new AbortController();
    const reading = read(controller.signal);
    if (reading === undefined) {
      data = undefined;
      error = undefined;
      loading = false;
      return;
    }
    loading = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    reading
      .then((found) => {
        if (!controller.signal.aborted) {
          data = found;
          error = undefined;
        }
      })
      .catch((met: unknown) => {
        if (!controller.signal.aborted) {
          error = met;
          session.met(met);
        }
      })
      .finally(() => {
        if (!controller.signal.aborted) {
          loading = false;
          if (options.everySeconds !== undefined) {
            timer = setTimeout(() => (again += 1), options.everySeconds * 1000);
          }
        }
      });
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  });

  return {
    get data() {
      return data;
    },
    get error() {
      return error;
    },
    get loading() {
      return loading;
    },
    reload() {
      again += 1;
    },
  };
}
