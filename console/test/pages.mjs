// Visits every page, in both themes, wide and narrow: `node test/pages.mjs PLAN` prints what was found.
//
// PLAN: { executable, url, key, paths: {name: "#/…"}, sizes: [width…], themes: […], pictures: folder or null,
//   further: whether to open the further pages of a list as well, and to print all that is shown }
import { writeFileSync } from "node:fs";
import { go, moving, opened, overflow, settled, unnamed, unseenFocus, violations, wrongTimes } from "./browser.mjs";

/** The picture as WebP, a fifth of its size. */
async function smaller(context, picture) {
  const blank = await context.newPage();
  const text = await blank.evaluate(async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.7).split(",")[1];
  }, picture.toString("base64"));
  await blank.close();
  return Buffer.from(text, "base64");
}

/** The text of a list, of all its pages. */
async function whole(page) {
  const text = [];
  const next = page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Next page" });
  for (;;) {
    text.push(await page.textContent("main"));
    if ((await next.count()) === 0) {
      return text.join("\n");
    }
    const address = await next.first().getAttribute("href");
    await next.first().click();
    await page.waitForURL(`**/${address}`);
    await settled(page);
  }
}

const plan = JSON.parse(process.argv[2]);
const report = { pages: {}, ran: false, seen: { errors: [], hosts: [], dialogs: [], keys: [] }, shown: {} };
for (const width of plan.sizes) {
  for (const theme of plan.themes) {
    const { browser, page, seen } = await opened({
      ...plan,
      viewport: { width, height: plan.height ?? (width < 600 ? 800 : 900) },
      colorScheme: theme,
      reducedMotion: "reduce",
    });
    for (const [name, path] of Object.entries(plan.paths)) {
      await go(page, plan.url, path);
      const found = {
        violations: await violations(page),
        unnamed: await unnamed(page),
        times: await wrongTimes(page),
        moving: await moving(page),
        overflow: await overflow(page),
        heading: await page.textContent("h1"),
      };
      report.pages[`${name} ${width} ${theme}`] = found;
      report.ran ||= await page.evaluate(() => globalThis.__ran !== undefined);
      if (plan.pictures) {
        const picture = await page.screenshot({ fullPage: plan.whole ?? true });
        const file = plan.whole === false ? name : `${name}-${width}-${theme}`;
        writeFileSync(`${plan.pictures}/${file}.webp`, await smaller(page.context(), picture));
      }
      found.focus = await unseenFocus(page);
      if (plan.further) {
        report.shown[`${name} ${width} ${theme}`] = await whole(page);
        report.ran ||= await page.evaluate(() => globalThis.__ran !== undefined);
      }
    }
    for (const kind of Object.keys(report.seen)) {
      report.seen[kind].push(...seen[kind]);
    }
    await browser.close();
  }
}
// What is longer than a pipe holds is written before the process ends.
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
