import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

// The service serves a page's calls if the page has the address that it calls.
const proxy = { "/api": { target: process.env.MEMORY_URL ?? "http://127.0.0.1:8080", changeOrigin: false } };

// The service serves the files of src/luma_memory/console/static; below `assets` for a year.
export default defineConfig({
  base: "./",
  plugins: [svelte()],
  resolve: { alias: { "luma-memory": at("../sdk/typescript/src/index.ts") } },
  build: {
    outDir: at("../src/luma_memory/console/static"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    // Inlined files would need `data:` in the content security policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: { proxy },
  preview: { proxy },
});
