// A platform for browser tests: started from outside on a folder and ports of its own, ended with everything in it.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base, type Page } from "@playwright/test";

const BINARY = process.env.KUBEFLOW_BINARY ?? "kubeflow";
const CACHE = process.env.KUBEFLOW_TEST_CACHE ?? join(tmpdir(), "kubeflow-tests");

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });

export class Platform {
  readonly folder = mkdtempSync(join(tmpdir(), "kubeflow-browser-"));
  url = "";
  #process?: ChildProcess;
  #arguments: string[] = [];

  async start(): Promise<this> {
    const ports = [await freePort(), await freePort()];
    this.url = `http://127.0.0.1:${ports[0]}`;
    this.#arguments = ["up", "--listen", `127.0.0.1:${ports[0]}`, "--kube-listen", `127.0.0.1:${ports[1]}`, "--no-client-config"];
    return this.resume();
  }

  /** Starts it again on the same folder and ports. */
  async resume(): Promise<this> {
    const log = openSync(join(this.folder, "..", `${this.folder.split("/").pop()}.log`), "a");
    const env = { ...process.env, HOME: this.folder, KUBEFLOW_DATA_DIR: join(this.folder, "data"), UV_CACHE_DIR: join(CACHE, "uv"), PATH: `${join(CACHE, "clients", "bin")}:${process.env.PATH}` };
    this.#process = spawn(BINARY, this.#arguments, { env, stdio: ["ignore", log, log] });
    const deadline = Date.now() + 60_000;
    while (Date.now() < deadline) {
      if (this.#process.exitCode !== null) throw new Error(`the platform ended:\n${readFileSync(`${this.folder}.log`, "utf8").slice(-3000)}`);
      const ready = await fetch(`${this.url}/readyz`).then((answer) => answer.ok, () => false);
      if (ready) return this;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("the platform does not become ready");
  }

  run(...words: string[]): string {
    return execFileSync(BINARY, [...words, "--data-dir", join(this.folder, "data")], { encoding: "utf8" });
  }

  kill(): void {
    this.#process?.kill("SIGKILL");
  }

  stop(): void {
    try {
      this.run("down");
    } finally {
      this.#process?.kill("SIGKILL");
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  /** Signs a page in with a fresh link, as a person does. */
  async signIn(page: Page, path = "/"): Promise<void> {
    const link = this.run("token", "--link", path).trim().split("\n").pop() ?? "";
    await page.goto(link);
    await page.getByRole("button", { name: /Sign in as/ }).click();
  }
}

export const test = base.extend<object, { platform: Platform }>({
  platform: [
    async ({}, use) => {
      const platform = await new Platform().start();
      await use(platform);
      platform.stop();
    },
    { scope: "worker", timeout: 120_000 },
  ],
});

export { expect } from "@playwright/test";
