import { defineConfig } from "@playwright/test";

// The system's own Chromium; nothing is downloaded. Each test has a platform of its own, so one at a time.
export default defineConfig({
  testDir: "browser",
  workers: 1,
  retries: 0,
  timeout: 120_000,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  outputDir: process.env.KUBEFLOW_SCREENSHOTS ?? "/tmp/kubeflow-browser",
  use: {
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    },
  },
});
