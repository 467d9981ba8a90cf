// Filters, sorts and reloads each list: `node test/lists.mjs PLAN` prints what each showed.
//
// PLAN: { executable, url, key, lists: {name: {path, filter: [label, value], sort: column or null}} }
import { go, opened, settled } from "./browser.mjs";

const plan = JSON.parse(process.argv[2]);
const { browser, page, seen } = await opened({ ...plan, viewport: { width: 1440, height: 900 } });

/** The texts of the rows; of weeks, which are no table, their headings. */
async function rows() {
  const table = page.locator("main tbody tr");
  const found = (await table.count()) > 0 ? table : page.locator("main section.card h2");
  return found.allInnerTexts();
}

async function address() {
  return page.evaluate(() => location.hash);
}

/** Until the address differs from this one, and what it names is read. */
async function changed(before) {
  await page.waitForFunction((hash) => location.hash !== hash, before);
  await settled(page);
  return address();
}

const report = {};
for (const [name, { path, filter, sort }] of Object.entries(plan.lists)) {
  await go(page, plan.url, path);
  const found = { all: await rows() };
  const [label, value] = filter;
  const main = page.getByRole("main");
  // The text of a label that is around a choice has the choices as well.
  const field = main.getByLabel(label, { exact: true }).or(main.getByRole("combobox", { name: label, exact: true })).first();
  const before = await address();
  if (value === true) {
    await field.check();
  } else if (await field.evaluate((element) => element.tagName === "SELECT")) {
    await field.selectOption(value);
  } else {
    await field.fill(value);
    await field.press("Enter");
  }
  const filtered = await changed(before);
  found.filtered = await rows();
  if (sort) {
    const column = page.getByRole("columnheader", { name: sort }).first();
    await column.getByRole("button").click();
    await changed(filtered);
    found.order = await column.getAttribute("aria-sort");
  }
  found.sorted = await rows();
  found.address = await address();
  await page.reload();
  await settled(page);
  found.again = await rows();
  found.kept = value === true ? await field.isChecked() : (await field.inputValue()) === value;
  report[name] = found;
}
await browser.close();
process.stdout.write(`${JSON.stringify({ lists: report, seen })}\n`, () => process.exit(0));
