// Durations of what still runs count on: `<span data-ms>` holds what it was when the server drew it. One tick a second, and
// only while there is such a span on a page that somebody looks at.
import { duration } from "../lib/duration.mjs";

const seen = new WeakMap<HTMLElement, { drawn: string; at: number }>();

/** Starts counting on a page. */
export function tick(page: Document): void {
  setInterval(() => {
    if (page.hidden) return;
    for (const span of page.querySelectorAll<HTMLElement>("[data-ms]")) {
      const drawn = span.dataset["ms"] ?? "0";
      const known = seen.get(span);
      const since = known?.drawn === drawn ? known : { drawn, at: performance.now() };
      seen.set(span, since);
      span.textContent = duration(Number(drawn) + performance.now() - since.at);
    }
  }, 1000);
}
