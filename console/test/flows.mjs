// What a person does: `node test/flows.mjs PLAN` prints the outcome of each step.
//
// PLAN: { executable, url, key, reader, ofUser: {key, user}, api }
import { go, opened, settled, violations } from "./browser.mjs";

const plan = JSON.parse(process.argv[2]);
const report = { axe: {} };
const headers = { Authorization: `Bearer ${plan.key}`, "Content-Type": "application/json" };

async function stored(body) {
  const response = await fetch(`${plan.api}/blocks?wait=true`, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

async function signedIn(key) {
  const browsing = await opened({ executable: plan.executable, url: plan.url, viewport: { width: 1280, height: 900 } });
  await browsing.page.goto(plan.url);
  report.axe["sign in"] = await violations(browsing.page);
  await browsing.page.getByLabel(/API key/).fill("lmk_wrong");
  await browsing.page.getByRole("button", { name: "Sign in" }).click();
  await browsing.page.getByRole("alert").getByText("credentials_invalid").waitFor();
  await browsing.page.getByLabel(/API key/).fill(key);
  await browsing.page.keyboard.press("Enter");
  await browsing.page.getByRole("heading", { name: "Overview" }).waitFor();
  return browsing;
}

const { browser, page, seen } = await signedIn(plan.key);
report.keyPlaces = await page.evaluate((key) => ({
  session: Object.values(sessionStorage).includes(key),
  local: Object.values(localStorage).some((value) => value.includes(key)),
  cookie: document.cookie,
  address: location.href.includes(key),
  text: document.body.innerText.includes(key),
}), plan.key);

// Live: no reload between the block's arrival and its appearance.
await go(page, plan.url, "#/blocks?user_id=live");
await page.getByText("There are no blocks").or(page.getByText("Nothing matches")).first().waitFor();
await stored({ user_id: "live", content: "Seen without a reload." });
const accepted = Date.now();
await page.getByText("Seen without a reload.").waitFor();
report.liveMs = Date.now() - accepted;

// Add, edit and delete with the keyboard alone.
await page.getByRole("button", { name: "Add a block" }).focus();
await page.keyboard.press("Enter");
report.axe["add a block"] = await violations(page);
await page.getByRole("dialog").getByLabel("Text").focus();
await page.keyboard.type("Typed by hand.");
await page.getByRole("dialog").getByRole("button", { name: "Save" }).focus();
await page.keyboard.press("Enter");
await page.getByRole("link", { name: "Typed by hand." }).click();
await page.getByRole("button", { name: "Edit" }).click();
await page.getByRole("dialog").getByLabel("Text").fill("Corrected by hand.");
await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
await page.getByText("Corrected by hand.").first().waitFor();
await page.getByText("Revision 1").waitFor();
report.edited = true;
await page.getByRole("button", { name: "Delete" }).click();
await page.keyboard.press("Escape");
report.escapeCloses = (await page.getByRole("dialog").count()) === 0;
await page.getByRole("button", { name: "Delete" }).click();
await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
await page.waitForURL(/#\/blocks\?user_id=live/);
await settled(page);
report.deleted = (await page.getByText("Corrected by hand.").count()) === 0;

// Bulk: the dry run's number, then exactly so many are gone.
for (const number of [1, 2, 3]) {
  await stored({ user_id: "bulk", content: `Bulk ${number}`, source: number === 3 ? "kept" : "gone" });
}
await go(page, plan.url, "#/blocks?user_id=bulk&source=gone");
await page.getByRole("button", { name: "Delete all that match" }).click();
report.axe["delete blocks"] = await violations(page);
report.willDelete = await page.getByRole("dialog").getByText("blocks will be deleted").innerText();
await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
await page.getByText("Nothing matches the filters.").waitFor();
await go(page, plan.url, "#/blocks?user_id=bulk");
report.left = await page.locator("tbody tr").count();

// The address holds the state: a filter, an order, and back again.
await page.getByLabel("Status").selectOption("active");
await page.waitForURL(/status=active/);
await page.getByRole("button", { name: /Occurred/ }).click();
await page.waitForURL(/order=occurred/);
await page.reload();
await settled(page);
report.restored = await page.getByLabel("Status").inputValue();
await page.goBack();
await page.waitForFunction(() => !location.hash.includes("order="));

// A key: shown once, then revoked.
await go(page, plan.url, "#/keys");
await page.getByRole("button", { name: "Create a key" }).click();
report.axe["create a key"] = await violations(page);
await page.getByRole("dialog").getByLabel("Name").fill("made in a test");
await page.getByRole("dialog").getByRole("button", { name: "Create a key" }).click();
const secret = await page.locator("code.secret").innerText();
report.secretWorks = (await fetch(`${plan.api}/users`, { headers: { Authorization: `Bearer ${secret}` } })).status;
await page.reload();
await settled(page);
report.secretShownAgain = await page.evaluate((text) => document.body.innerText.includes(text), secret);
const row = page.locator("tr", { hasText: "made in a test" });
await row.getByRole("button", { name: /Revoke/ }).click();
await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
await row.waitFor({ state: "detached" });

// Several keys and webhooks at once; never the key in use.
for (const number of [1, 2, 3]) {
  await fetch(`${plan.api}/keys`, { method: "POST", headers, body: JSON.stringify({ permissions: ["read"], name: `many ${number}` }) });
  await fetch(`${plan.api}/webhooks`, { method: "POST", headers, body: JSON.stringify({ url: `https://example.com/many/${number}` }) });
}
await go(page, plan.url, "#/keys");
await page.locator("tr", { hasText: "many 3" }).waitFor();
report.ownKeyStays = (await page.locator("tr", { hasText: "in use here" }).getByRole("checkbox").count()) === 0;
for (const number of [1, 2]) {
  await page.getByRole("checkbox", { name: `many ${number}` }).check();
}
await page.getByRole("button", { name: "Revoke selected (2)" }).click();
report.axe["revoke keys"] = await violations(page);
report.willRevoke = await page.getByRole("dialog").getByText("keys are revoked").innerText();
await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
await page.getByRole("dialog").waitFor({ state: "detached" });
await page.locator("tr", { hasText: "many 1" }).waitFor({ state: "detached" });
report.keysLeft = [await page.getByText("many 2").count(), await page.getByText("many 3").count()];
await go(page, plan.url, "#/webhooks?url=many");
await page.getByRole("checkbox", { name: "Select all on this page" }).check();
await page.getByRole("button", { name: "Disable selected (3)" }).click();
await page.getByRole("dialog").getByRole("button", { name: "Disable" }).click();
await page.getByRole("dialog").waitFor({ state: "detached" });
await page.waitForFunction(() => [...document.querySelectorAll("tbody .badge")].filter((one) => one.textContent === "disabled").length === 3);
await page.getByRole("checkbox", { name: "/many/3" }).check();
await page.getByRole("button", { name: "Delete selected (1)" }).click();
report.willDeleteWebhooks = await page.getByRole("dialog").getByText("will be deleted").innerText();
await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
await page.locator("tr", { hasText: "/many/3" }).waitFor({ state: "detached" });
report.webhooksLeft = await page.locator("tbody tr").count();

// A text has its own direction; a time is the viewer's, with UTC for the pointer.
await stored({ user_id: "rtl", content: "أنا أعيش في القاهرة.", occurred_at: "2026-07-01T12:30:00Z" });
await go(page, plan.url, "#/blocks?user_id=rtl");
report.direction = await page.locator("tbody .text").evaluate((text) => getComputedStyle(text).direction);
const occurred = page.locator("td[data-label='Occurred'] time");
report.occurred = [await occurred.innerText(), await occurred.getAttribute("title")];

// Copies name no key.
await go(page, plan.url, "#/search?user_id=live&q=reload");
await page.getByText("Seen without a reload.").first().waitFor();
await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
report.copies = [];
for (const language of ["curl", "Python", "TypeScript"]) {
  await page.getByRole("button", { name: `Copy as ${language}` }).click();
  const before = report.copies.at(-1) ?? "";
  await page.waitForFunction((text) => navigator.clipboard.readText().then((now) => now !== "" && now !== text), before);
  report.copies.push(await page.evaluate(() => navigator.clipboard.readText()));
}

// Search lab: every result of both rankings has its bar, and opens in place.
await go(page, plan.url, "#/search?user_id=ilka&q=Where%20is%20the%20flat%3F&compare=true&ranking2=dense");
report.bars = await page.locator(".sides > section").evaluateAll((sides) =>
  sides.map((side) => ({ results: side.querySelectorAll("ol > li").length, bars: side.querySelectorAll("ol svg[role='img'] rect").length })),
);
await page.locator(".sides summary").first().click();
await page.getByRole("link", { name: "Open the block" }).first().click();
await page.waitForURL(/#\/blocks\/.+user_id=ilka/);
await settled(page);

// Erase: not before the name is typed; the receipt counts.
await go(page, plan.url, "#/users/bulk");
await page.getByRole("button", { name: "Erase user" }).click();
report.axe["erase a user"] = await violations(page);
const erase = page.getByRole("dialog").getByRole("button", { name: "Erase user" });
report.eraseNeedsName = await erase.isDisabled();
await page.getByRole("dialog").getByRole("textbox").fill("bulk");
await erase.click();
await page.getByText("The user is erased.").waitFor();
report.seen = seen;
await browser.close();

// A key that may read only, and a key of one user.
const reading = await signedIn(plan.reader);
await go(reading.page, plan.url, "#/blocks?user_id=live");
await reading.page.getByText("Seen without a reload.").waitFor();
const buttons = await reading.page.locator("main button").allInnerTexts();
for (const path of plan.readable) {
  await go(reading.page, plan.url, path);
  buttons.push(...(await reading.page.locator("main button").allInnerTexts()));
}
report.reader = {
  buttons,
  links: await reading.page.locator("nav a").allInnerTexts(),
  seen: reading.seen.errors,
};
await reading.browser.close();
const single = await signedIn(plan.ofUser.key);
await go(single.page, plan.url, "#/users");
report.ofUser = { users: await single.page.locator("tbody tr td:first-child").allInnerTexts() };
await go(single.page, plan.url, "#/blocks");
report.ofUser.owners = [...new Set(await single.page.locator("td[data-label='User']").allInnerTexts())];
for (const path of ["#/", "#/jobs", "#/relations", "#/usage", "#/settings", "#/search?q=flat"]) {
  await go(single.page, plan.url, path);
}
report.ofUser.seen = single.seen.errors;
await single.browser.close();
console.log(JSON.stringify(report));
process.exit(0);
