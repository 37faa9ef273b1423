// Content of users: names with markup, a page as an artifact. Nothing of it runs in the dashboard's origin.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "./platform";

const PIPELINE = `
pipelineInfo: {name: hostile}
schemaVersion: 2.1.0
root: {dag: {tasks: {page: {taskInfo: {name: page}, componentRef: {name: comp-page}}}}}
components:
  comp-page: {executorLabel: exec-page, outputDefinitions: {artifacts: {out: {artifactType: {schemaTitle: system.HTML, schemaVersion: 0.0.1}}}}}
deploymentSpec:
  executors:
    exec-page:
      container:
        image: alpine
        command: [sh, -c]
        args:
          - |
            cat > "{{$.outputs.artifacts['out'].path}}" <<'PAGE'
            <h1>a page</h1><script>
            let seen = "";
            try { seen += document.cookie } catch { seen += "no cookie;" }
            fetch("/apis/v2beta1/runs").then((answer) => seen += answer.status, () => seen += "no api;")
              .then(() => { document.querySelector("h1").textContent = seen; try { top.location = "/signout" } catch {} });
            </script>
            PAGE
`;

test("a page that a step made reads no cookie, calls no API and leaves no frame", async ({ page, platform }) => {
  const file = join(platform.folder, "hostile.yaml");
  writeFileSync(file, PIPELINE);
  const name = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  const run = platform.run("pipeline", "run", file, "--wait", "--name", name).trim().split(/\s+/).pop();
  await platform.signIn(page, `/ns/kubeflow/runs/${run}`);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(name);
  await expect(page).not.toHaveTitle(/^owned/);
  await page.getByRole("link", { name: "page / out" }).click();
  const frame = page.frameLocator("iframe");
  await expect(frame.getByRole("heading")).toContainText("no cookie;no api;");
  await expect(page).toHaveURL(/\/artifact\?/);
});
