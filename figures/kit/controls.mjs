// Native controls, each with its label. All return { node, ... } whose node goes into the figure.
import { h, KEYS, uid } from "./dom.mjs";

/** A menu. options: [value, text]. */
export function select({ label, options, onchange }) {
  const id = uid();
  const input = h("select", { id, ...KEYS, onchange: () => onchange(input.value) });
  input.append(...options.map(([value, text]) => h("option", { value }, text)));
  const node = h("div", { class: "lf-field" }, h("label", { for: id }, label), input);
  return { node, input, set: (value) => (input.value = value) };
}

/** A slider over the places 0..count-1; say(i) is the value in words, with its unit. */
export function slider({ label, count, say, oninput }) {
  const id = uid();
  const value = h("output", { for: id });
  const input = h("input", { id, type: "range", min: 0, max: count - 1, step: 1, ...KEYS });
  input.addEventListener("input", () => oninput(Number(input.value)));
  const head = h("div", { class: "lf-slider-head" }, h("label", { for: id }, label), value);
  return {
    node: h("div", { class: "lf-slider" }, head, input),
    head,
    set(i) {
      input.value = i;
      value.textContent = say(i);
      input.setAttribute("aria-valuetext", say(i));
    },
  };
}

/** A row of buttons of which one is pressed. options: [value, text]. */
export function choice({ label, options, onchange }) {
  const id = uid();
  const buttons = options.map(([value, text]) => button(text, () => onchange(value), { "data-value": value }));
  const group = h("div", { class: "lf-choice", role: "group", "aria-labelledby": id }, buttons);
  return {
    node: h("div", { class: "lf-field" }, h("span", { id }, label), group),
    set: (value) => buttons.forEach((b) => b.setAttribute("aria-pressed", b.dataset.value === value)),
  };
}

export const button = (text, onclick, attributes = {}) =>
  h("button", { type: "button", class: "lf-button", ...KEYS, ...attributes, onclick }, text);
