/** The address: `#/blocks?user_id=ada&status=failed`. It holds the state of every page. */

type Values = Record<string, string | number | boolean | null | undefined>;

class Router {
  path = $state<string[]>([]);
  query = $state<Record<string, string>>({});

  constructor() {
    this.#read();
    window.addEventListener("hashchange", () => this.#read());
  }

  get(name: string): string {
    return this.query[name] ?? "";
  }

  /** Changes some parameters; a changed filter begins at the first page again. */
  set(values: Values, options: { replace?: boolean; keepsPage?: boolean } = {}): void {
    const query: Values = { ...this.query, ...values };
    if (!options.keepsPage && !("cursor" in values)) {
      query["cursor"] = null;
    }
    this.go(this.path, query, options.replace);
  }

  go(path: string[], query: Values = {}, replace = false): void {
    const address = href(path, query);
    if (replace) {
      history.replaceState(null, "", address);
      this.#read();
    } else {
      location.hash = address;
    }
  }

  #read(): void {
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    this.path = path.split("/").filter(Boolean).map(decoded);
    this.query = Object.fromEntries(new URLSearchParams(query));
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function href(path: string[], query: Values = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) {
      parameters.set(name, String(value));
    }
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const router = new Router();
