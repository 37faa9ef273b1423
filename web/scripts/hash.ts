// Upstream's addresses hold the object in the fragment, which no server sees: `/#/runs/details/<id>`. Leads them to ours.
const found = /^#\/(runs|experiments|pipelines)\/details\/([^/?]+)/.exec(location.hash);
if (found) {
  const kind = { runs: "run", experiments: "experiment", pipelines: "pipeline" }[found[1] as "runs"];
  const target = `/go/${kind}/${found[2]}`;
  const next = document.querySelector<HTMLInputElement>("input[name=next]");
  // On the sign-in page the fragment would be lost by the form; the page keeps where to go.
  if (location.pathname === "/signin") {
    document.addEventListener("DOMContentLoaded", () => {
      for (const field of document.querySelectorAll<HTMLInputElement>("input[name=next]")) field.value = target;
    });
    if (next) next.value = target;
  } else {
    location.replace(target);
  }
}
