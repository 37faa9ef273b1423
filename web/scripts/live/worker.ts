// One stream per browser: this shared worker holds it and passes on what its tabs asked for.
import { delay } from "../lib/backoff.mjs";

type Port = MessagePort & { topics?: string[] };
type Message = { topics?: string[]; gone?: boolean };

const SILENT_MS = 40_000;
const ports = new Set<Port>();
let source: EventSource | undefined;
let stream = "";
let failures = 0;
let alive = 0;

const tell = (message: object) => ports.forEach((port) => port.postMessage(message));
const topics = () => [...new Set([...ports].flatMap((port) => port.topics ?? []))];

async function subscribe(): Promise<void> {
  if (!stream) return;
  const answer = await fetch(`/live/${stream}/topics`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ topics: topics() }),
  });
  if (!answer.ok) reopen();
}

function open(): void {
  source?.close();
  alive = Date.now();
  source = new EventSource("/live");
  source.addEventListener("hello", (event) => {
    stream = JSON.parse((event as MessageEvent<string>).data).stream;
    failures = 0;
    tell({ state: "live" });
    // What changed while nobody listened is not known: everybody looks once.
    tell({ reset: true });
    void subscribe().catch(reopen);
  });
  source.addEventListener("change", (event) => tell({ change: JSON.parse((event as MessageEvent<string>).data) }));
  source.addEventListener("beat", () => (alive = Date.now()));
  source.addEventListener("bye", () => tell({ state: "signed-out" }));
  source.onerror = () => reopen();
}

let waiting = false;
function reopen(): void {
  if (waiting) return;
  waiting = true;
  stream = "";
  source?.close();
  tell({ state: "reconnecting" });
  setTimeout(() => {
    waiting = false;
    open();
  }, delay(failures++, Math.random()));
}

setInterval(() => Date.now() - alive > SILENT_MS && reopen(), 5_000);

(globalThis as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = (event) => {
  const port = event.ports[0] as Port | undefined;
  if (!port) return;
  ports.add(port);
  port.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.gone) ports.delete(port);
    else port.topics = data.topics ?? [];
    void subscribe().catch(reopen);
  };
  port.start();
  if (!source) open();
  else if (stream) port.postMessage({ state: "live" });
};
