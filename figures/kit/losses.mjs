import { h } from "./dom.mjs";
import { count } from "./text.mjs";

const STROKE = {
  train: "stroke:var(--ink);stroke-width:2",
  val: "stroke:var(--orange);stroke-width:2;stroke-dasharray:7 4",
  before: "stroke:var(--edge);stroke-width:1.5;stroke-dasharray:7 4",
  guess: "stroke:var(--blue);stroke-width:2;stroke-dasharray:2 4",
  level: "stroke:var(--soft);stroke-width:1;stroke-dasharray:1 3",
};
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [280, 40, 12, 10, 26];

// Even steps of 1, 2 or 5 that cut a stretch into about n parts.
const nice = (span, n) => {
  const rough = 10 ** Math.floor(Math.log10(span / n));
  return rough * [1, 2, 5, 10].find((m) => span / (m * rough) <= n + 0.5);
};

/**
 * Losses against training steps: training solid, validation dashed.
 * set({ label, series: [[look, points]], marks: [[x, y]], levels: [y], x: largest step, y: [low, high], at }):
 * look is train, val, before (an earlier run) or guess; points are [step, loss], cut off at the picture's top;
 * at is a step to stand a line on. onpoint(step, loss): where the reader presses or drags.
 */
export function lossChart({ keys, onpoint }) {
  const svg = h("svg:svg", { height: HEIGHT, role: "img", style: "display:block;width:100%;touch-action:pan-y" });
  const swatch = (look) =>
    h("svg:svg", { width: 30, height: 10, "aria-hidden": "true", style: "margin-right:.375rem" }, h("svg:line", { x1: 0, x2: 30, y1: 5, y2: 5, style: STROKE[look] }));
  const key = h("div", { class: "lf-meter-key" });
  const node = h("div", { style: "min-width:0" }, key, svg);
  let width = 320;
  let last;

  const across = ({ x }) => (step) => LEFT + ((width - LEFT - RIGHT) * step) / x;
  const down = ({ y: [low, high] }) => (v) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - Math.min(v, high))) / (high - low);
  const point = (event) => {
    if (!last || !(event.buttons & 1)) return;
    const { left, top } = svg.getBoundingClientRect();
    const { x, y: [low, high] } = last; // prettier-ignore
    const step = ((event.clientX - left - LEFT) / (width - LEFT - RIGHT)) * x;
    const loss = high - ((event.clientY - top - TOP) / (HEIGHT - TOP - BOTTOM)) * (high - low);
    onpoint?.(step, Math.min(Math.max(loss, low), high));
  };
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointermove", point);

  function paint() {
    if (!last) return;
    const { label, series, marks = [], levels = [], x: most, y: range, at } = last;
    const [x, y] = [across(last), down(last)];
    const [low, high] = range;
    const line = (look, points) => points.length > 1 && h("svg:polyline", { fill: "none", style: STROKE[look], points: points.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" ") });
    const text = (words, options) => h("svg:text", { fill: "var(--soft)", "font-size": 14, ...options }, words);
    const gap = nice(high - low, 5);
    const places = gap < 0.1 ? 2 : 1;
    const rows = Array.from({ length: Math.floor(high / gap + 1e-9) - Math.ceil(low / gap - 1e-9) + 1 }, (_, i) => (Math.ceil(low / gap - 1e-9) + i) * gap);
    const pace = nice(most, width < 500 ? 3 : 6);
    const columns = Array.from({ length: Math.floor(most / pace + 1e-9) + 1 }, (_, i) => i * pace);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("aria-label", label);
    svg.replaceChildren(
      ...rows.flatMap((v) => [
        h("svg:line", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), style: "stroke:var(--line)" }),
        text(v.toFixed(places), { x: LEFT - 6, y: y(v) + 5, "text-anchor": "end" }),
      ]),
      ...columns.map((s) => text(count(Math.round(s)), { x: x(s), y: HEIGHT - 6, "text-anchor": s && x(s) > width - 40 ? "end" : "middle" })),
      ...levels.map((v) => h("svg:line", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), style: STROKE.level })),
      ...(at === undefined ? [] : [h("svg:line", { x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM, style: "stroke:var(--edge)" })]),
      ...series.map(([look, points]) => line(look, points)).filter(Boolean),
      ...series.filter(([look]) => look === "guess").flatMap(([, points]) => points.slice(1).map(([s, v]) => h("svg:circle", { cx: x(s), cy: y(v), r: 6, style: "fill:var(--paper);stroke:var(--blue);stroke-width:2" }))),
      ...marks.map(([s, v]) => h("svg:circle", { cx: x(s), cy: y(v), r: 5, style: "fill:var(--orange)" })),
    );
    const shown = new Set([...series.filter(([, points]) => points.length > 1).map(([look]) => look), ...(levels.length ? ["level"] : [])]);
    key.replaceChildren(...Object.entries(keys).filter(([look]) => shown.has(look)).map(([look, name]) => h("span", {}, swatch(look), name)));
  }

  return {
    node,
    set(now) {
      last = now;
      paint();
    },
    fit(to) {
      width = Math.max(240, Math.round(to));
      paint();
    },
  };
}
