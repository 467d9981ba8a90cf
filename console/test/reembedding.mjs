// A change of the embedding model as it goes on: for every line read, which is the text to wait for on each page (empty:
// nothing about a change), prints the values of the bars and the faults. The page that is open changes by itself.
import { createInterface } from "node:readline";
import { writeFileSync } from "node:fs";
import { go, opened, overflow, unnamed, violations } from "./browser.mjs";

const plan = JSON.parse(process.argv[2]);
const { browser, page, seen } = await opened({ ...plan, viewport: { width: 360, height: 800 } });
const paths = ["#/", "#/jobs"];
for await (const text of createInterface({ input: process.stdin })) {
  const [bars, faults] = [[], []];
  for (const path of paths) {
    await go(page, plan.url, path);
    const card = page.locator("main .reembedding");
    if (text) {
      await card.filter({ hasText: text }).waitFor();
      bars.push(await card.locator("progress").evaluate((bar) => [bar.value, bar.max]));
    } else {
      await card.waitFor({ state: "detached" });
    }
    faults.push(...(await violations(page)), ...(await unnamed(page)), ...seen.errors);
    if ((await overflow(page)) > 0) {
      faults.push(`${path} is wider than the window`);
    }
    if (plan.pictures) {
      writeFileSync(`${plan.pictures}/reembedding-${path.slice(2) || "overview"}.png`, await page.screenshot());
    }
  }
  paths.reverse();
  console.log(JSON.stringify({ bars, faults }));
}
await browser.close();
process.exit(0);
