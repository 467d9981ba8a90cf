// The service away and back: prints `open`, and `away` once the page says so; ends once it has recovered.
import { createInterface } from "node:readline";
import { go, opened } from "./browser.mjs";

const plan = JSON.parse(process.argv[2]);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { browser, page, seen } = await opened(plan);
await go(page, plan.url, "#/users");
await page.getByRole("link", { name: "iris" }).waitFor();
console.log("open");
await page.getByText("The service does not respond.").waitFor();
console.log("away");
await lines.next();
await page.getByText("The service does not respond.").waitFor({ state: "detached" });
await go(page, plan.url, "#/users/iris");
await page.getByText("I moved to Rome in April.").waitFor();
console.log(JSON.stringify({ dialogs: seen.dialogs, hosts: seen.hosts }));
await browser.close();
process.exit(0);
