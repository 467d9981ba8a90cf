/** Light or dark: as the system has it, or as chosen. */
const STORED = "luma-memory-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

class Theme {
  chosen = $state<"auto" | "light" | "dark">("auto");
  #isDark = $state(system.matches);

  constructor() {
    const stored = localStorage.getItem(STORED);
    if (stored === "light" || stored === "dark") {
      this.chosen = stored;
    }
    system.addEventListener("change", (event) => (this.#isDark = event.matches));
    this.apply();
  }

  get shown(): "light" | "dark" {
    return this.chosen === "auto" ? (this.#isDark ? "dark" : "light") : this.chosen;
  }

  choose(theme: "auto" | "light" | "dark"): void {
    this.chosen = theme;
    localStorage.setItem(STORED, theme);
    this.apply();
  }

  apply(): void {
    document.documentElement.dataset["theme"] = this.shown;
  }
}

export const theme = new Theme();
