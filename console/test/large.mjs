// Opens the lists of a large installation: `node test/large.mjs PLAN` prints rows and milliseconds of each.
//
// PLAN: { executable, url, key, paths: {name: "#/…"} }. The time is from the change of the address to the rows.
import { opened, settled } from "./browser.mjs";

const plan = JSON.parse(process.argv[2]);
const { browser, page, seen } = await opened({ ...plan, viewport: { width: 1440, height: 900 } });
const report = { pages: {}, seen };
const begun = Date.now();
await page.goto(plan.url);
await page.getByRole("heading", { name: "Overview" }).waitFor();
report.firstMs = Date.now() - begun;
await settled(page);
for (const [name, path] of Object.entries(plan.paths)) {
  await page.evaluate(() => (location.hash = "#/settings"));
  await page.getByRole("heading", { name: "Settings" }).waitFor();
  const ms = await page.evaluate(async (hash) => {
    const start = performance.now();
    location.hash = hash;
    await new Promise((resolve) => {
      const look = () => (document.querySelector("main tbody tr:nth-child(50)") && document.querySelector("main nav a") ? resolve() : requestAnimationFrame(look));
      requestAnimationFrame(look);
    });
    return performance.now() - start;
  }, path);
  report.pages[name] = { ms: Math.round(ms), rows: await page.locator("main tbody tr").count() };
}
await browser.close();
console.log(JSON.stringify(report));
process.exit(0);
