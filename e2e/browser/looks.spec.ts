// Every page in both themes, wide and narrow: no violation that axe knows, nothing that overflows. Writes pictures.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, test } from "./platform";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.KUBEFLOW_SCREENSHOTS ?? "/tmp/kubeflow-browser";

type Violation = { id: string; nodes: { target: string[]; failureSummary: string }[] };

test("pages are accessible and fit, light and dark, wide and narrow", async ({ browser, platform }) => {
  test.setTimeout(240_000);
  const digits = new URL("../../config/samples/digits/pipeline.yaml", import.meta.url).pathname;
  const run = platform.run("pipeline", "run", digits, "--wait").trim().split(/\s+/).pop();
  const failing = join(platform.folder, "failing.yaml");
  const text = readFileSync(digits, "utf8").replace("from sklearn.datasets import load_digits as load", "raise ValueError('no digits today')");
  const { writeFileSync } = await import("node:fs");
  writeFileSync(failing, text);
  let failed = "";
  try {
    platform.run("pipeline", "run", failing, "--wait", "--no-cache");
  } catch (error) {
    failed = String((error as { stdout: string }).stdout).trim().split(/\s+/).pop() ?? "";
  }
  const runs = `/ns/kubeflow/runs`;
  const pages: Record<string, string> = {
    "runs": runs,
    "no-match": `${runs}?q=zzz`,
    "run": `${runs}/${run}`,
    "failed": `${runs}/${failed}`,
    "log": `${runs}/${run}/logs?task=evaluate`,
    "confusion": `${runs}/${run}/artifact?task=evaluate&output=confusion&index=0`,
    "roc": `${runs}/${run}/artifact?task=evaluate&output=roc&index=0`,
    "report": `${runs}/${run}/artifact?task=evaluate&output=report&index=0`,
    "absent": `${runs}/no-such-run`,
  };
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [1440, 360]) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 } });
      const page = await context.newPage();
      await page.goto(`${platform.url}/signin`);
      await page.screenshot({ path: join(PICTURES, `signin-${colorScheme}-${width}.png`), fullPage: true });
      await platform.signIn(page, runs);
      for (const [name, path] of Object.entries(pages)) {
        await page.goto(platform.url + path);
        await page.screenshot({ path: join(PICTURES, `${name}-${colorScheme}-${width}.png`), fullPage: true });
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        expect.soft(overflow, `${name} at ${width} px is wider than the window`).toBeLessThanOrEqual(0);
        await page.evaluate(AXE);
        const { violations } = (await page.evaluate("axe.run()")) as { violations: Violation[] };
        const said = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target.join(" ")} ${node.failureSummary}`).join("; ")}`);
        expect.soft(said, `${name}, ${colorScheme}, ${width} px`).toEqual([]);
      }
      await context.close();
    }
  }
});
