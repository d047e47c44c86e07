import { h } from "./dom.mjs";

/** One polite live region. Only what is still true after half a second of rest is said. */
export function announcer() {
  const node = h("div", { class: "lf-hidden", role: "status", "aria-live": "polite" });
  let timer;
  return {
    node,
    say(text) {
      clearTimeout(timer);
      timer = setTimeout(() => (node.textContent = text), 500);
    },
    stop: () => clearTimeout(timer),
  };
}
