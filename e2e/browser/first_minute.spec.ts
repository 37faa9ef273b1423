// The first minute: sign in, start a run, watch it finish, read a log, look at what it made.
import { expect, test } from "./platform";

test("a newcomer signs in, runs the sample, watches it finish live and reads a log", async ({ page, platform }) => {
  await platform.signIn(page);
  await expect(page.getByRole("heading", { name: "Nothing has run yet" })).toBeVisible();
  await page.getByRole("button", { name: "Run the digits sample" }).click();
  await expect(page.getByRole("heading", { name: "digits", level: 1 })).toBeVisible();
  await expect(page.getByRole("status")).toHaveText("Live");
  // No reload: the page is kept true by the stream.
  await page.evaluate(() => Object.assign(window, { stayed: true }));
  const steps = page.getByRole("region", { name: "Steps" }).or(page.locator("#steps"));
  await expect(steps.getByRole("row", { name: /load-digits/ }).getByRole("img", { name: /Running|Succeeded/ })).toBeVisible({ timeout: 90_000 });
  await expect(page.locator("#head").getByText("Succeeded", { exact: true })).toBeVisible({ timeout: 90_000 });
  expect(await page.evaluate(() => (window as unknown as { stayed?: boolean }).stayed)).toBe(true);
  await page.getByRole("link", { name: "Log of evaluate" }).click();
  await expect(page.getByRole("region", { name: "Log" })).toContainText("accuracy 0.9");
  await page.goBack();
  await page.getByRole("link", { name: "evaluate / confusion" }).click();
  await expect(page.getByRole("region", { name: "Confusion matrix" })).toBeVisible();
  await page.goBack();
  await page.getByRole("link", { name: "evaluate / report" }).click();
  await expect(page.getByRole("heading", { name: "Digits" })).toBeVisible();
});

test("a pasted token signs in, a wrong one says so, and nobody else sees anything", async ({ page, platform }) => {
  await page.goto(`${platform.url}/ns/kubeflow/runs?q=x`);
  await expect(page).toHaveURL(/\/signin\?next=/);
  await page.getByLabel("Token").fill("kubeflow_wrong");
  await page.getByRole("button", { name: "Sign in with the token" }).click();
  await expect(page.getByRole("alert")).toHaveText("This token is not known.");
  const token = platform.run("token").trim().split("\n").pop() ?? "";
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in with the token" }).click();
  await expect(page).toHaveURL(/\/ns\/kubeflow\/runs\?q=x$/);
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/\/signin/);
  const link = platform.run("token", "--link").trim().split("\n").pop() ?? "";
  await page.goto(link);
  await page.getByRole("button", { name: /Sign in as/ }).click();
  await expect(page.getByRole("heading", { name: "Runs", level: 1 })).toBeVisible();
  await page.context().clearCookies();
  await page.goto(link);
  await expect(page.getByRole("alert")).toContainText("used already");
});

test("the stream comes back after a restart and the page is right again", async ({ page, platform }) => {
  await platform.signIn(page, "/ns/kubeflow/runs");
  await expect(page.getByRole("status")).toHaveText("Live");
  platform.kill();
  await expect(page.getByRole("status")).toHaveText("Reconnecting");
  await platform.resume();
  await expect(page.getByRole("status")).toHaveText("Live", { timeout: 60_000 });
});
