import { h } from "./dom.mjs";

/**
 * Losses at the places of a slider, drawn above it so that each dot stands over its stop.
 * values: one a place; lines: [name, level]. Lower is lower.
 */
export function curve({ values, lines, label }) {
  const all = [...values, ...lines.map(([, level]) => level)];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (i) => `${(100 * i) / Math.max(values.length - 1, 1)}%`;
  const y = (v) => 8 + 80 * (1 - (v - low) / (high - low || 1));
  const levels = lines.map(([, v]) =>
    h("svg:line", { class: "lf-level", x1: "-10", x2: "100%", y1: y(v), y2: y(v) }),
  );
  const segments = values.slice(1).map((v, i) => h("svg:line", { x1: x(i), y1: y(values[i]), x2: x(i + 1), y2: y(v) }));
  const dots = values.map((v, i) => h("svg:circle", { cx: x(i), cy: y(v), r: 4 }));
  const svg = h("svg:svg", { height: 96, role: "img", "aria-label": label }, levels, segments, dots);
  const names = labels(lines.map(([name, v]) => ({ name, at: y(v) })));
  return {
    node: h("div", { class: "lf-curve" }, h("div", { class: "lf-curve-plot" }, svg), names),
    set: (at) => dots.forEach((dot, i) => dot.toggleAttribute("data-on", i === at)),
  };
}

// The names of the levels, pushed apart where two levels are close.
function labels(items) {
  items.sort((a, b) => a.at - b.at);
  items.forEach((item, i) => (item.at = Math.max(item.at, i ? items[i - 1].at + 18 : 8)));
  let floor = 90;
  for (const item of items.toReversed()) floor = (item.at = Math.min(item.at, floor)) - 18;
  return h(
    "div",
    { class: "lf-curve-names" },
    items.map(({ name, at }) => h("span", { style: `top:${at}px` }, name)),
  );
}
