import { h, KEYS } from "./dom.mjs";
import { probability, signed } from "./theme.mjs";

// Small numbers must be seen beside large ones, so shades follow the square root. The legend's ticks say so.
const shade = (v) => Math.sign(v) * Math.sqrt(Math.abs(v));
const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1];

/**
 * A square table as a heat map: one tab stop, arrow keys move the cell, a click chooses it.
 * glyphs: one small node a row; groups: [text, first, last] along both axes; values lie in -1..1.
 * onmove(row, column) is called for every wish to move; say(row, column) puts the cell in words.
 */
export function heatmap({ glyphs, groups, label, rows, columns, onmove, onhover }) {
  const size = glyphs.length;
  const canvas = h("canvas", {});
  const row = h("div", { class: "lf-frame lf-frame-row" });
  const cell = h("div", { class: "lf-frame lf-frame-cell" });
  const box = h(
    "div",
    { class: "lf-map-box", tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": label, ...KEYS },
    canvas,
    row,
    cell,
  );
  const left = axis("left", groups, size);
  const top = axis("top", groups, size);
  const scale = legend();
  const compass = h("div", { class: "lf-compass" }, h("span", {}, `↓ ${rows}`), h("span", {}, `→ ${columns}`));
  const node = h("div", { class: "lf-map" }, compass, h("div", { class: "lf-map-plot" }, top.node, left.node, box), scale.node);

  let at = [0, 0];
  let drawn = null;
  const inside = (i) => Math.min(Math.max(i, 0), size - 1);
  const under = (event) => {
    const { left: x, top: y, width } = canvas.getBoundingClientRect();
    return [event.clientY - y, event.clientX - x].map((d) => inside(Math.floor((d / width) * size)));
  };
  const STEP = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const FAR = { Home: (r) => [r, 0], End: (r) => [r, size - 1], PageUp: (r, c) => [r - 10, c], PageDown: (r, c) => [r + 10, c] };
  box.addEventListener("keydown", (event) => {
    const to = STEP[event.key]?.map((d, i) => at[i] + d) ?? FAR[event.key]?.(...at);
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    onmove(...to.map(inside));
  });
  box.addEventListener("click", (event) => onmove(...under(event)));
  box.addEventListener("pointermove", (event) => onhover?.(...under(event)));
  box.addEventListener("pointerleave", () => onhover?.(...at));

  function paint() {
    if (!drawn) return;
    const { values, diverging, theme } = drawn;
    const color = diverging ? signed : probability;
    const pixels = new ImageData(size, size);
    values.forEach((v, i) => pixels.data.set([...color(shade(v), theme), 255], 4 * i));
    const small = h("canvas", { width: size, height: size });
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    node.toggleAttribute("data-diverging", diverging);
    scale.set(color, diverging, theme);
  }

  return {
    node,
    /** Fit into a width, CSS pixels: cells are a whole number of screen pixels, so that all look alike. */
    fit(width) {
      const dots = devicePixelRatio || 1;
      const side = Math.max(Math.floor(((width - 30) * dots) / size), 1) * size;
      if (canvas.width !== side) canvas.width = canvas.height = side;
      node.style.setProperty("--lf-side", `${side / dots}px`);
      paint();
    },
    draw(values, { diverging = false, theme }) {
      drawn = { values, diverging, theme };
      paint();
    },
    cursor(r, c) {
      at = [r, c];
      const place = (i) => `${(100 * i) / size}%`;
      Object.assign(row.style, { top: place(r), height: place(1) });
      Object.assign(cell.style, { top: place(r), left: place(c), width: place(1), height: place(1) });
      left.mark(r, glyphs[r]);
      top.mark(c, glyphs[c]);
    },
  };
}

// Names of groups along one side, and the one chosen place. A group gives way to the place near its name.
function axis(side, groups, size) {
  const place = (i) => `${(100 * (i + 0.5)) / size}%`;
  const edge = side === "left" ? "top" : "left";
  const named = groups.map(([text, first, last]) => {
    const middle = (first + last) / 2;
    return { middle, node: h("span", { style: `${edge}:${place(middle)}` }, text) };
  });
  const chosen = h("b", {});
  return {
    node: h("div", { class: `lf-axis lf-axis-${side}`, "aria-hidden": "true" }, named.map((g) => g.node), chosen),
    mark(i, glyph) {
      chosen.replaceChildren(glyph.cloneNode(true));
      chosen.style[edge] = place(i);
      for (const g of named) g.node.hidden = Math.abs(g.middle - i) < size / 12;
    },
  };
}

function legend() {
  const bar = h("div", { class: "lf-scale-bar" });
  const ticks = h("div", { class: "lf-scale-ticks" });
  let last;
  return {
    node: h("div", { class: "lf-scale", "aria-hidden": "true" }, bar, ticks),
    set(color, diverging, theme) {
      if (last === `${diverging}${theme}`) return;
      last = `${diverging}${theme}`;
      const at = (v) => (diverging ? (1 + shade(v)) / 2 : shade(v));
      const stops = Array.from({ length: 21 }, (_, i) => color(diverging ? i / 10 - 1 : i / 20, theme).map(Math.round));
      bar.style.backgroundImage = `linear-gradient(90deg, ${stops.map((c) => `rgb(${c})`)})`;
      const values = diverging ? [-1, -0.25, -0.05, 0, 0.05, 0.25, 1] : TICKS;
      const text = (v) => String(Math.round(100 * Math.abs(v)));
      const sign = (v) => (!diverging || !v ? "" : v < 0 ? "−" : "+");
      ticks.replaceChildren(
        ...values.map((v, i) =>
          h("span", { style: `left:${100 * at(v)}%` }, `${sign(v)}${text(v)}${i === values.length - 1 ? " %" : ""}`),
        ),
      );
    },
  };
}
