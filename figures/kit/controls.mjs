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

/**
 * A line of text of at most `most` characters, the count beside it. allowed(char) = false leaves a character out.
 * oninput(text) is called at each change; what set(text) gives waits until the reader has left the line.
 */
export function textInput({ label, most, allowed = () => true, oninput }) {
  const id = uid();
  const used = h("span", { class: "lf-used", "aria-hidden": "true" });
  const options = { autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: most };
  const input = h("input", { id, type: "text", class: "lf-input", ...options, ...KEYS });
  const tell = () => (used.textContent = `${[...input.value].length} of ${most}`);
  let given = "";
  const show = () => {
    if (input.value !== given) input.value = given;
    tell();
  };
  input.addEventListener("blur", show);
  const kept = (text) => [...text].filter(allowed).slice(0, most).join("");
  input.addEventListener("input", (event) => {
    if (event.isComposing) return; // a character that is not yet whole
    const text = kept(input.value);
    if (text !== input.value) input.value = text;
    tell();
    oninput(text);
  });
  return {
    node: h("div", { class: "lf-field lf-field-wide" }, h("div", { class: "lf-slider-head" }, h("label", { for: id }, label), used), input),
    input,
    set(text) {
      given = text;
      if (input.getRootNode().activeElement !== input) show();
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
