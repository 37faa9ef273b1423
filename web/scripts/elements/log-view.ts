// A log that grows: `<log-view data-url data-lines data-complete>` around the lines that the server drew. New lines are
// fetched when the page's topic says that there are more; the view sticks to its end until somebody scrolls up.

const AT_ONCE = 2000;
const NEAR_END_PX = 40;

class LogView extends HTMLElement {
  #next = 0;
  #busy = false;
  #again = false;
  #complete = false;

  connectedCallback(): void {
    this.#next = Number(this.dataset["lines"] ?? 0);
    this.#complete = this.dataset["complete"] === "true";
    this.#toEnd();
    if (!this.#complete) document.addEventListener("topic-changed", this.#look);
  }

  disconnectedCallback(): void {
    document.removeEventListener("topic-changed", this.#look);
  }

  #look = (): void => void this.#fetch();

  async #fetch(): Promise<void> {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    try {
      do {
        this.#again = false;
        const answer = await fetch(`${this.dataset["url"]}&from=${this.#next}&n=${AT_ONCE}`);
        if (!answer.ok) return;
        this.#complete = answer.headers.get("x-log-complete") === "true";
        const text = await answer.text();
        if (text) this.#append(text.replace(/\n$/, "").split("\n"));
        if (text) this.#again = true;
        else if (this.#complete) this.#finish();
      } while (this.#again);
    } finally {
      this.#busy = false;
    }
  }

  #append(lines: string[]): void {
    const list = this.querySelector("ol");
    if (!list) return;
    const stick = this.scrollHeight - this.scrollTop - this.clientHeight < NEAR_END_PX;
    const fresh = document.createDocumentFragment();
    for (const line of lines) {
      const item = document.createElement("li");
      item.id = `L${++this.#next}`;
      item.textContent = line || " ";
      fresh.append(item);
    }
    list.append(fresh);
    this.querySelector(".log__empty")?.remove();
    if (stick) this.#toEnd();
  }

  #toEnd(): void {
    if (!location.hash) this.scrollTop = this.scrollHeight;
  }

  #finish(): void {
    document.removeEventListener("topic-changed", this.#look);
    const state = document.querySelector("[data-log-state]");
    if (state) state.textContent = "complete";
  }
}

customElements.define("log-view", LogView);
