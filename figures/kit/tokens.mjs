import { h, KEYS, uid } from "./dom.mjs";
import { token } from "./text.mjs";
import { inSentence } from "./attention.mjs";

/**
 * A row of tokens of which one is chosen: one tab stop, arrow keys move, onselect(i) is called for each wish.
 * set(tokens, chosen, weights): weights (0..1, one a token, or none) are an underline whose thickness grows with
 * the weight, and a number beneath. unit: what the numbers are, said in the label and after each number.
 */
export function tokenRow({ label, unit = "percent", show = (w) => String(Math.round(100 * w)), onselect }) {
  const id = uid();
  const group = h("div", { class: "lf-tokens", role: "radiogroup", "aria-labelledby": id });
  const head = h("span", { id }, label);
  let chips = [];
  const go = (i) => {
    const to = Math.min(Math.max(i, 0), chips.length - 1);
    onselect(to);
    chips[to]?.focus();
  };
  group.addEventListener("keydown", (event) => {
    const i = chips.indexOf(event.target.closest("button"));
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: chips.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(to);
  });
  let shown = "";
  const chip = (text, i) =>
    h(
      "button",
      { type: "button", class: "lf-token", role: "radio", ...KEYS, onclick: () => go(i) },
      h("b", {}, token(text)),
      h("i", { class: "lf-token-bar" }),
      h("span", { class: "lf-token-number" }),
    );
  return {
    node: h("div", { class: "lf-field lf-field-wide" }, head, group),
    set(tokens, chosen, weights) {
      if (shown !== JSON.stringify(tokens)) {
        const had = chips.includes(group.getRootNode().activeElement);
        chips = tokens.map(chip);
        group.replaceChildren(...chips);
        shown = JSON.stringify(tokens);
        if (had) chips[chosen]?.focus();
      }
      head.textContent = weights ? `${label} (${unit})` : label;
      group.toggleAttribute("data-weights", Boolean(weights));
      chips.forEach((node, i) => {
        const on = i === chosen;
        const number = weights ? show(weights[i]) : "";
        node.setAttribute("aria-checked", on);
        node.tabIndex = on ? 0 : -1;
        node.setAttribute("aria-label", `${i + 1}: ${inSentence(tokens[i])}${weights ? `, ${number} ${unit}` : ""}`);
        node.querySelector("i").style.height = weights ? `${Math.max(1, 8 * weights[i])}px` : "0";
        node.querySelector("span.lf-token-number").textContent = number;
      });
    },
  };
}
