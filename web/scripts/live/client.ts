// Keeps a page true: when the server says that its topic changed, the fragments that the page names are fetched and morphed
// in. One fetch at a time, the next a quarter of a second later at the earliest, none while the tab is hidden.
import { Idiomorph } from "idiomorph";
import { parse, scriptUrl } from "../lib/trusted";

const PAUSE_MS = 250;

type Change = { topic: string; rev: number };
type Message = { state?: string; reset?: boolean; change?: Change };

/** Follows the topic of a page that names one (`<main data-topic data-frags data-rev>`). */
export function follow(page: Document): void {
  const main = page.querySelector<HTMLElement>("main[data-topic]");
  const worker = page.querySelector<HTMLMetaElement>("meta[name=live-worker]")?.content;
  if (!main || !worker || !("SharedWorker" in globalThis)) return;
  const { topic = "", frags = "" } = main.dataset;
  const indicator = page.querySelector<HTMLElement>("[data-live]");
  let rev = Number(main.dataset["rev"] ?? 0);
  let wanted = rev;
  let busy = false;

  const show = (state: string, word: string) => {
    if (!indicator) return;
    indicator.dataset["live"] = state;
    indicator.querySelector("span")!.textContent = word;
  };

  const refresh = async (): Promise<void> => {
    if (!frags || busy || wanted <= rev || page.hidden) return;
    busy = true;
    try {
      const url = new URL(location.href);
      url.searchParams.set("_f", frags);
      const answer = await fetch(url, { headers: { "if-none-match": `"${rev}"` } });
      if (answer.status === 401) return show("signed-out", "Signed out");
      if (answer.ok) {
        rev = Math.max(rev, Number((answer.headers.get("etag") ?? "").replaceAll('"', "")) || 0);
        morph(page, await answer.text());
      } else if (answer.status === 304) rev = Math.max(rev, wanted);
    } catch {
      // The worker notices a lost connection and says when it is back.
    } finally {
      setTimeout(() => {
        busy = false;
        void refresh();
      }, PAUSE_MS);
    }
  };

  const port = new SharedWorker(scriptUrl(worker), { type: "module", name: worker }).port;
  port.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.state === "live") show("live", "Live");
    if (data.state === "reconnecting") show("reconnecting", "Reconnecting");
    if (data.state === "signed-out") show("signed-out", "Signed out");
    if (data.reset) {
      wanted = rev + 1;
      page.dispatchEvent(new CustomEvent("topic-changed"));
    }
    if (data.change?.topic === topic) {
      wanted = Math.max(wanted, data.change.rev);
      page.dispatchEvent(new CustomEvent("topic-changed"));
    }
    void refresh();
  };
  port.postMessage({ topics: [topic] });
  page.addEventListener("visibilitychange", () => void refresh());
  addEventListener("pagehide", () => port.postMessage({ gone: true }));
  addEventListener("pageshow", (event) => event.persisted && port.postMessage({ topics: [topic] }));
}

/** Replaces each named part of the page, keeping what the person does: focus, text being typed, what is opened. */
function morph(page: Document, markup: string): void {
  for (const template of parse(markup).querySelectorAll<HTMLTemplateElement>("template[data-frag]")) {
    const target = page.querySelector(`[data-part="${template.dataset["frag"]}"]`);
    const fresh = template.content.firstElementChild;
    if (!target || !fresh) continue;
    Idiomorph.morph(target, fresh, {
      ignoreActiveValue: true,
      callbacks: {
        beforeAttributeUpdated: (name: string, node: Element) => !(name === "open" && node.localName === "details"),
        beforeNodeMorphed: (old: Node) => !(old instanceof HTMLElement && old.dataset["own"] !== undefined),
      },
    });
    // The tab says how the run stands.
    const title = page.querySelector<HTMLElement>("[data-title]")?.dataset["title"];
    if (title) page.title = title;
  }
}
