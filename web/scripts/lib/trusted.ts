// The one policy through which markup and script addresses of our own server pass (`trusted-types kubeflow`).

type Policy = { createHTML(text: string): string; createScriptURL(url: string): string };

const rules = {
  createHTML: (text: string) => text,
  createScriptURL: (url: string) => {
    if (new URL(url, location.origin).origin !== location.origin) throw new TypeError("not a script of ours");
    return url;
  },
};

const factory = (globalThis as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } }).trustedTypes;
const policy: Policy = factory ? factory.createPolicy("kubeflow", rules) : rules;

/** Parses markup that our server sent, without running anything in it. */
export const parse = (markup: string): Document => new DOMParser().parseFromString(policy.createHTML(markup), "text/html");

/** The address of a script of ours. */
export const scriptUrl = (url: string): string => policy.createScriptURL(url);
