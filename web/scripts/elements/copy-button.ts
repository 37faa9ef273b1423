// `<copy-button data-text>`: copies a text and says so. Without a secure context it selects the text instead.

class CopyButton extends HTMLElement {
  connectedCallback(): void {
    this.addEventListener("click", this.#copy);
  }

  disconnectedCallback(): void {
    this.removeEventListener("click", this.#copy);
  }

  #copy = async (): Promise<void> => {
    const button = this.querySelector("button");
    if (!button || !navigator.clipboard) return;
    await navigator.clipboard.writeText(this.dataset["text"] ?? "");
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = before), 1200);
  };
}

customElements.define("copy-button", CopyButton);
