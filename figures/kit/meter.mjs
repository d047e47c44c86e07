import { h, uid } from "./dom.mjs";

/**
 * A quantity as a bar beside its name and its value in words. min..max is the whole width; marks are
 * [name, value] that the value is to be compared with. set(value, text): text has the number and its unit.
 */
export function meter({ label, min = 0, max, marks = [] }) {
  const id = uid();
  const at = (v) => `${(100 * Math.min(Math.max((v - min) / (max - min), 0), 1)).toFixed(2)}%`;
  const words = h("output", {});
  const fill = h("div", { class: "lf-fill" });
  const bar = h(
    "div",
    { class: "lf-meter-bar", role: "meter", "aria-labelledby": id, "aria-valuemin": min, "aria-valuemax": max },
    fill,
    marks.map(([, v]) => h("div", { class: "lf-mark", style: `left:${at(v)}` })),
  );
  const key = marks.map(([name]) => h("span", {}, h("i", { class: "lf-key lf-key-mark" }), name));
  return {
    node: h("div", { class: "lf-meter" }, h("div", { class: "lf-slider-head" }, h("span", { id }, label), words), bar, key.length ? h("div", { class: "lf-meter-key" }, key) : null),
    set(value, text) {
      words.textContent = text;
      fill.style.width = at(value);
      bar.setAttribute("aria-valuenow", Math.min(Math.max(value, min), max));
      bar.setAttribute("aria-valuetext", text);
    },
  };
}
