import { h, KEYS } from "./dom.mjs";
import { probability, signed } from "./theme.mjs";

// Small numbers must be seen beside large ones, so shades follow the square root. The legend's ticks say so.
// An even map (attention) has shades in proportion instead.
const root = (v) => Math.sign(v) * Math.sqrt(Math.abs(v));
const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1];
const EVEN_TICKS = [0, 0.25, 0.5, 0.75, 1];

/** A table of colors as a canvas of one pixel a cell; NaN is left transparent. color(v) gives [r, g, b]. */
export function pixels(values, columns, color) {
  const made = h("canvas", { width: columns, height: values.length / columns });
  const context = made.getContext("2d");
  const image = new ImageData(made.width, made.height);
  values.forEach((v, i) => image.data.set(Number.isNaN(v) ? [0, 0, 0, 0] : [...color(v), 255], 4 * i));
  context.putImageData(image, 0, 0);
  return made;
}

/** Draw such a canvas over the whole of another, cells with sharp edges. */
export function spread(small, canvas) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/**
 * A table as a heat map: one tab stop, arrow keys move the cell, a click chooses it.
 * glyphs: one small node a row, and a column; groups: [text, first, last] along both axes. Without groups every
 * row and column bears its glyph where there is room, and names(rowGlyphs, columnGlyphs) may make it any shape.
 * values lie in -1..1, NaN is hatched. even: shades in proportion. least, most: CSS pixels, the lowest row and
 * the largest cell. onmove(row, column) is called for every wish to move.
 */
export function heatmap({ glyphs = [], groups, label, rows, columns, even = false, least = 0, most = Infinity, onmove, onhover }) {
  let across = glyphs;
  let down = glyphs;
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
  const left = axis("left", groups);
  const top = axis("top", groups);
  const scale = legend(even);
  const compass = h("div", { class: "lf-compass" }, h("span", {}, `↓ ${rows}`), h("span", {}, `→ ${columns}`));
  const node = h("div", { class: "lf-map" }, compass, h("div", { class: "lf-map-plot" }, top.node, left.node, box), scale.node);
  const shade = even ? (v) => v : root;

  let at = [0, 0];
  let drawn = null;
  let room = 0;
  const inside = ([r, c]) => [[r, down.length], [c, across.length]].map(([i, n]) => Math.min(Math.max(i, 0), n - 1)); // prettier-ignore
  const under = (event) => {
    const { left: x, top: y, width, height } = canvas.getBoundingClientRect();
    return inside([((event.clientY - y) / height) * down.length, ((event.clientX - x) / width) * across.length].map(Math.floor));
  };
  const STEP = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const FAR = { Home: (r) => [r, 0], End: (r) => [r, across.length - 1], PageUp: (r, c) => [r - 10, c], PageDown: (r, c) => [r + 10, c] };
  box.addEventListener("keydown", (event) => {
    const to = STEP[event.key]?.map((d, i) => at[i] + d) ?? FAR[event.key]?.(...at);
    if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    onmove(...inside(to));
  });
  box.addEventListener("click", (event) => onmove(...under(event)));
  box.addEventListener("pointermove", (event) => onhover?.(...under(event)));
  box.addEventListener("pointerleave", () => onhover?.(...at));

  function paint() {
    if (!drawn || !canvas.width) return;
    const { values, diverging, theme } = drawn;
    if (values.length !== across.length * down.length) return; // new names come first, then their numbers
    const color = diverging ? signed : probability;
    spread(pixels(values, across.length, (v) => color(shade(v), theme)), canvas);
    node.toggleAttribute("data-diverging", diverging);
    scale.set(color, diverging, theme, values.some(Number.isNaN));
  }

  function fit(width) {
    room = width;
    if (!width || !down.length || !across.length) return;
    const dots = devicePixelRatio || 1;
    const margin = left.extent();
    const wide = Math.max(Math.floor(Math.min((width - margin) / across.length, most) * dots), 1);
    const tall = Math.max(wide, Math.floor(Math.min(least, 480 / down.length) * dots));
    const size = [wide * across.length, tall * down.length];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    node.style.setProperty("--lf-left", `${margin}px`);
    node.style.setProperty("--lf-side", `${size[0] / dots}px`);
    node.style.setProperty("--lf-aspect", size[0] / size[1]);
    left.fit(tall / dots, size[1] / dots);
    top.fit(wide / dots, size[0] / dots);
    paint();
  }

  function names(rowGlyphs, columnGlyphs = rowGlyphs) {
    [down, across] = [rowGlyphs, columnGlyphs];
    left.set(down);
    top.set(across);
    at = inside(at);
    fit(room);
  }
  names(glyphs);

  return {
    node,
    names,
    /** Fit into a width, CSS pixels: cells are a whole number of screen pixels, so that all look alike. */
    fit,
    draw(values, { diverging = false, theme }) {
      drawn = { values, diverging, theme };
      paint();
    },
    cursor(r, c) {
      at = [r, c];
      const place = (i, n) => `${(100 * i) / n}%`;
      const [tall, wide] = [down.length, across.length];
      Object.assign(row.style, { top: place(r, tall), height: place(1, tall) });
      Object.assign(cell.style, { top: place(r, tall), left: place(c, wide), width: place(1, wide), height: place(1, tall) });
      left.mark(r);
      top.mark(c);
    },
  };
}

// The names along one side, and the one chosen place. A name gives way to the chosen one near it, and where
// every place has a name, to its neighbor where there is no room for both.
function axis(side, groups) {
  const edge = side === "left" ? "top" : "left";
  const length = (glyph) => glyph.textContent.length + (glyph.matches("svg") ? 1 : glyph.querySelectorAll("svg").length);
  const width = (glyph) => Math.max(10, 8.6 * length(glyph)); // CSS pixels, in 14 px monospace
  const chosen = h("b", {});
  const node = h("div", { class: `lf-axis lf-axis-${side}`, "aria-hidden": "true" });
  node.classList.toggle("lf-axis-every", !groups);
  let glyphs = [];
  let names = []; // { middle, node, extent }
  let [cell, whole, at] = [0, 0, 0];

  const place = (middle, extent = 0) => {
    if (groups || !cell || side === "left") return `${(100 * (middle + 0.5)) / glyphs.length}%`;
    const inside = Math.max(Math.min((middle + 0.5) * cell, whole - extent / 2 + 8), extent / 2 - 8);
    return `${inside}px`;
  };
  const extent = (glyph) => (side === "left" ? 18 : width(glyph));
  const near = (a, b) =>
    groups
      ? Math.abs(a.middle - b.middle) < glyphs.length / 12
      : Math.abs(parseFloat(place(a.middle, a.extent)) - parseFloat(place(b.middle, b.extent))) * (side === "left" ? whole / 100 : 1) <
        (a.extent + b.extent) / 2 + 1;

  function mark(i) {
    at = i;
    if (!glyphs[i]) return;
    const one = { middle: i, extent: extent(glyphs[i]) };
    chosen.replaceChildren(glyphs[i].cloneNode(true));
    chosen.style[edge] = place(i, one.extent);
    let last;
    for (const name of names) {
      const apart = groups || !cell || !last || !near(name, last);
      if (apart) last = name;
      name.node.hidden = !apart || near(name, one);
    }
  }

  return {
    node,
    mark,
    set(all) {
      glyphs = all;
      names = groups
        ? groups.map(([text, first, last]) => ({ middle: (first + last) / 2, node: h("span", {}, text) }))
        : all.map((glyph, i) => ({ middle: i, extent: extent(glyph), node: h("span", {}, glyph.cloneNode(true)) }));
      for (const name of names) name.node.style[edge] = place(name.middle, name.extent);
      node.replaceChildren(...names.map((name) => name.node), chosen);
      mark(Math.min(at, all.length - 1));
    },
    fit(cellSize, side) {
      [cell, whole] = [cellSize, side];
      for (const name of names) name.node.style[edge] = place(name.middle, name.extent);
      mark(at);
    },
    /** Room for the names beside the map, CSS pixels. */
    extent: () => (groups ? 30 : Math.max(30, ...glyphs.map((glyph) => Math.ceil(width(glyph)) + 10))),
  };
}

function legend(even) {
  const bar = h("div", { class: "lf-scale-bar" });
  const ticks = h("div", { class: "lf-scale-ticks" });
  const hatched = h("div", { class: "lf-scale-hatched", hidden: true }, h("i", { class: "lf-hatch" }), "hidden by the mask");
  const shade = even ? (v) => v : root;
  let last;
  return {
    node: h("div", { class: "lf-scale", "aria-hidden": "true" }, bar, ticks, hatched),
    set(color, diverging, theme, holes) {
      hatched.hidden = !holes;
      if (last === `${diverging}${theme}`) return;
      last = `${diverging}${theme}`;
      const at = (v) => (diverging ? (1 + shade(v)) / 2 : shade(v));
      const stops = Array.from({ length: 21 }, (_, i) => color(diverging ? i / 10 - 1 : i / 20, theme).map(Math.round));
      bar.style.backgroundImage = `linear-gradient(90deg, ${stops.map((c) => `rgb(${c})`)})`;
      const values = diverging ? [-1, -0.25, -0.05, 0, 0.05, 0.25, 1] : even ? EVEN_TICKS : TICKS;
      const text = (v) => String(even ? Math.abs(v) : Math.round(100 * Math.abs(v)));
      const sign = (v) => (!diverging || !v ? "" : v < 0 ? "−" : "+");
      const unit = (i) => (!even && i === values.length - 1 ? " %" : "");
      ticks.replaceChildren(
        ...values.map((v, i) => h("span", { style: `left:${100 * at(v)}%` }, `${sign(v)}${text(v)}${unit(i)}`)),
      );
    },
  };
}
