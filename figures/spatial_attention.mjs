// Chapter 07: what one position of a picture reads, through attention and through a 3x3 convolution.
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { heatmap, pixels as colored, spread } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { meter } from "./kit/meter.mjs";
import { tableView } from "./kit/table.mjs";
import { percent } from "./kit/text.mjs";
import { probability } from "./kit/theme.mjs";
import { rowOf, tensor } from "./runtime/nn.mjs";
import { imageModel } from "./runtime/vision.mjs";

const SIDE = 16; // pixels of the picture
const HALF = SIDE / 2; // positions: two by two pixels each

const toHex = (bits) => bits.join("").replace(/..../g, (four) => parseInt(four, 2).toString(16));
const toBits = (hex) => [...hex].flatMap((d) => [...parseInt(d, 16).toString(2).padStart(4, "0")].map(Number));

const defaults = ({ examples, query }) => ({ pixels: examples[0].pixels, r: 2 * query[0], c: 2 * query[1], tool: "query", open: false });

const within = (v) => Math.min(Math.max(Math.round(Number(v) || 0), 0), SIDE - 1);
const clean = (s, { examples }) => ({
  pixels: /^[0-9a-f]{64}$/.test(s.pixels) ? s.pixels : examples[0].pixels,
  r: within(s.r),
  c: within(s.c),
  tool: s.tool === "draw" ? "draw" : "query",
  open: s.open === true || s.open === "true",
});

const positionOf = (s) => (s.r >> 1) * HALF + (s.c >> 1);
const place = (i) => `row ${Math.floor(i / HALF) + 1}, column ${(i % HALF) + 1}`;
// What a 3x3 convolution on the positions sees at position i, in pixels: [first, last] of one side.
const reach = (i) => [Math.max(2 * i - 4, 0), Math.min(2 * i + 5, SIDE - 1)];

function build({ props, tensors, state, update, say }) {
  const part = (name) => Object.fromEntries(Object.entries(tensors).flatMap(([k, v]) => (k.startsWith(name) ? [[k.slice(name.length), v]] : [])));
  const models = { attention: part("attention."), convolution: part("convolution.") };

  let last = {};
  function run({ pixels }) {
    if (last.pixels === pixels) return last;
    const bits = toBits(pixels);
    const image = tensor([1, SIDE, SIDE], Float32Array.from(bits));
    const same = ([a, b]) => 1 / (1 + Math.exp(a - b)); // softmax of two logits
    const out = Object.fromEntries(Object.entries(models).map(([name, tensors]) => [name, imageModel({ tensors, config: props.config, image })]));
    const drawn = Array.from({ length: HALF * HALF }, (_, i) => {
      const at = 2 * Math.floor(i / HALF) * SIDE + 2 * (i % HALF);
      return Boolean(bits[at] || bits[at + 1] || bits[at + SIDE] || bits[at + SIDE + 1]);
    });
    const p = { attention: same(out.attention.logits.data), convolution: same(out.convolution.logits.data) };
    return (last = { pixels, bits, drawn, p, weights: out.attention.weights[0].data });
  }

  /** How the query shares its weights: its own half's drawing, the other half's, and the empty positions. */
  function shares(s) {
    const { weights, drawn } = run(s);
    const q = positionOf(s);
    const side = (i) => i % HALF >= HALF / 2;
    const found = { own: 0, other: 0, empty: 0, row: rowOf(weights, HALF * HALF, q), left: !side(q), on: drawn[q] };
    found.row.forEach((w, i) => (found[!drawn[i] ? "empty" : side(i) === side(q) ? "own" : "other"] += w));
    return found;
  }

  const sayShares = (s = state()) => {
    const { own, other, empty, left } = shares(s);
    const [here, there] = left ? ["left", "right"] : ["right", "left"];
    return `The query at ${place(positionOf(s))} gives ${percent(own)} to the drawing on the ${here}, ${percent(other)} to the drawing on the ${there}, ${percent(empty)} to empty positions.`;
  };
  const sayModels = (s = state()) => {
    const { p } = run(s);
    return `Same: attention ${percent(p.attention)}, convolution ${percent(p.convolution)}.`;
  };
  const answer = (patch, models) => {
    update(patch);
    say(state().open ? `${sayShares()}${models ? ` ${sayModels()}` : ""}` : `The query is at ${place(positionOf(state()))}.`);
  };

  // Controls
  const query = slider({ label: "Query", count: HALF * HALF, say: place, oninput: (i) => answer({ r: 2 * Math.floor(i / HALF), c: 2 * (i % HALF) }) });
  const examples = select({
    label: "Drawing",
    options: [...props.examples.map(({ name, pixels }) => [pixels, name]), ["", "your own"]],
    onchange: (pixels) => answer({ pixels: pixels || "0".repeat(64) }, true),
  });
  const tool = choice({
    label: "Pointer",
    options: [
      ["query", "Moves the query"],
      ["draw", "Draws"],
    ],
    onchange: (tool) => update({ tool }),
  });
  const empty = button("Clear", () => answer({ pixels: "0".repeat(64) }, true));

  // Picture: the pad, shaded by what the query reads
  const numbers = Array.from({ length: SIDE }, (_, i) => h("span", {}, String(i + 1)));
  const pad = heatmap({
    glyphs: numbers,
    groups: [],
    label: "Drawing pad of 16 by 16 pixels. Arrow keys move the query, the space bar draws or erases a pixel.",
    rows: "pixel rows",
    columns: "pixel columns",
    onmove: (r, c) => answer({ r, c }),
    onhover: (r, c) => showCell(r, c),
  });
  const box = pad.node.querySelector(".lf-map-box");
  box.setAttribute("aria-roledescription", "drawing pad");
  pad.node.querySelector(".lf-frame-row").style.display = "none";
  const inside = "position:absolute;pointer-events:none;inset:0;width:100%;height:100%";
  const ink = h("canvas", { style: `${inside};background:none;box-shadow:none` });
  const frame = (style) => h("div", { class: "lf-frame", style: `border:2px ${style} #fff;margin:-2px 0 0 -2px;outline:1px solid #14171a` });
  const chosen = frame("solid");
  const field = frame("dashed");
  box.append(ink, field, chosen);
  const cell = h("p", { class: "lf-cell" });
  pad.node.append(cell);

  const under = (event) => {
    const { left, top, width, height } = box.getBoundingClientRect();
    const at = [(event.clientY - top) / height, (event.clientX - left) / width].map((x) => Math.floor(x * SIDE));
    return at.every((x) => x >= 0 && x < SIDE) ? at : undefined;
  };
  const put = (r, c, on) => {
    const bits = toBits(state().pixels);
    if (bits[r * SIDE + c] === on) return;
    bits[r * SIDE + c] = on;
    answer({ pixels: toHex(bits) }, true);
  };
  const flip = (r, c) => {
    const on = 1 - toBits(state().pixels)[r * SIDE + c];
    put(r, c, on);
    return on;
  };
  let drawing; // 1 or 0 while the pointer is down
  const up = () => (drawing = undefined);
  box.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    flip(state().r, state().c);
  });
  box.addEventListener("pointerdown", (event) => {
    const at = under(event);
    if (state().tool !== "draw" || !at) return;
    box.setPointerCapture(event.pointerId);
    drawing = flip(...at);
  });
  box.addEventListener("pointermove", (event) => {
    const at = under(event);
    if (drawing !== undefined && at) put(...at, drawing);
  });
  box.addEventListener("pointerup", up);
  box.addEventListener("pointercancel", up);
  pad.node.addEventListener("click", (event) => state().tool === "draw" && event.stopPropagation(), true);

  // The same row as a strip, and both models' answers
  const strip = h("canvas", { width: 64 * 8, height: 24, style: "display:block;width:100%;height:24px", role: "img" });
  const ticks = h("canvas", { width: 64 * 8, height: 8, style: "display:block;width:100%;height:8px", "aria-hidden": "true" });
  const line = h(
    "div",
    {},
    h("p", { class: "lf-cell", style: "min-height:0;margin-bottom:.375rem" }, "The same weights as the model holds them: 64 positions in one line, row after row. Marks beneath: positions with ink; the tall mark is the query."),
    strip,
    ticks,
  );
  const sure = { attention: "Attention model says “same”", convolution: "Convolution model says “same”" };
  const meters = Object.fromEntries(Object.entries(sure).map(([name, label]) => [name, meter({ label, max: 1, marks: [["a coin", 0.5]] })]));
  const answers = h("div", { style: "display:grid;gap:.75rem" }, meters.attention.node, meters.convolution.node, line);
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", {}, quiz(), verdict, answers);
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({
    label: "The query's weights in numbers",
    build: () => {
      const { row } = shares(state());
      return {
        caption: `Weights of the query at ${place(positionOf(state()))}: they add up to 1. Each position is two by two pixels.`,
        columns: ["row", ...Array.from({ length: HALF }, (_, c) => `column ${c + 1}`)],
        rows: Array.from({ length: HALF }, (_, r) => [String(r + 1), ...Array.from(rowOf(row, HALF, r), (w) => w.toFixed(3))]),
      };
    },
  });

  function showCell(r = state().r, c = state().c) {
    const s = state();
    const i = (r >> 1) * HALF + (c >> 1);
    const { bits } = run(s);
    const weight = s.open ? `, weight of its position ${shares(s).row[i].toFixed(3)}` : "";
    cell.textContent = `Pixel ${r + 1}, ${c + 1}: ${bits[r * SIDE + c] ? "ink" : "empty"}${weight}. Solid frame: the query. Dashed frame: all that a 3×3 convolution there sees.`;
  }

  function quiz() {
    const guess = select({
      label: "The query's weights go",
      options: [
        ["", "choose"],
        ["own", "nearly all to its own square"],
        ["half", "to both squares about equally"],
        ["other", "nearly all to the other square"],
        ["empty", "mostly to empty positions"],
      ],
      onchange() {},
    });
    const check = () => {
      if (!guess.input.value) {
        say("Choose one first.");
        return guess.input.focus();
      }
      const { own, other, empty } = shares(clean(defaults(props), props));
      const part = other / (own + other);
      const truth = empty > 0.5 ? "empty" : part < 0.25 ? "own" : part > 0.75 ? "other" : "half";
      verdict.textContent = `${guess.input.value === truth ? "Yes" : "No"}: its own square gets ${percent(own)}, the other ${percent(other)}, the empty positions ${percent(empty)}.`;
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      verdict.hidden = !verdict.textContent;
      update({ ...defaults(props), open: true });
      box.focus();
      say(words);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), "The query (solid frame) stands in the left square; an equal one stands at the right. Nobody told the model where to look."),
      h("div", { class: "lf-quiz-row" }, guess.node),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(`${sayShares()} ${sayModels()}`))),
    );
  }

  function paint(s, row, drawn, theme) {
    const dots = Math.round((box.clientWidth || 256) * (devicePixelRatio || 1));
    if (ink.width !== dots) ink.width = ink.height = dots;
    const at = ink.getContext("2d");
    const unit = dots / SIDE;
    at.clearRect(0, 0, dots, dots);
    at.lineWidth = Math.max(1, unit / 12);
    toBits(s.pixels).forEach((on, i) => {
      if (!on) return;
      const square = [(i % SIDE) * unit + 0.22 * unit, Math.floor(i / SIDE) * unit + 0.22 * unit, 0.56 * unit, 0.56 * unit];
      at.fillStyle = "#ffffff";
      at.strokeStyle = "#14171a";
      at.fillRect(...square);
      at.strokeRect(...square);
    });
    const percentOf = (i) => `${(100 * i) / SIDE}%`;
    const frames = (node, [top, bottom], [left, right]) =>
      Object.assign(node.style, { top: percentOf(top), left: percentOf(left), height: percentOf(bottom - top + 1), width: percentOf(right - left + 1) });
    const [r, c] = [s.r >> 1, s.c >> 1];
    frames(chosen, [2 * r, 2 * r + 1], [2 * c, 2 * c + 1]);
    frames(field, reach(r), reach(c));
    spread(colored(row, HALF * HALF, (w) => probability(Math.sqrt(w), theme)), strip);
    const mark = ticks.getContext("2d");
    mark.clearRect(0, 0, ticks.width, ticks.height);
    mark.fillStyle = getComputedStyle(box).getPropertyValue("--ink") || "#1b1f24";
    drawn.forEach((on, i) => on && mark.fillRect(8 * i + 1, 0, 6, 3));
    mark.fillRect(8 * positionOf(s) + 2, 0, 4, 8);
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const { p, drawn } = run(s);
    const { row, own, other, empty: none, left } = shares(s);
    query.set(positionOf(s));
    examples.set(props.examples.some((e) => e.pixels === s.pixels) ? s.pixels : "");
    tool.set(s.tool);
    box.style.touchAction = s.tool === "draw" ? "none" : "";
    const shown = Float32Array.from({ length: SIDE * SIDE }, (_, i) => (s.open ? row[(i >> 5) * HALF + ((i % SIDE) >> 1)] : 0));
    pad.draw(shown, { theme });
    pad.cursor(s.r, s.c);
    showCell();
    panel.classList.toggle("lf-locked", !s.open);
    answers.style.display = s.open ? "grid" : "none";
    strip.setAttribute("aria-label", `The query's 64 weights in one line; the largest, ${percent(Math.max(...row))}, at ${place(row.indexOf(Math.max(...row)))}`);
    for (const name of ["attention", "convolution"]) meters[name].set(p[name], percent(p[name]));
    paint(s, row, drawn, theme);
    const [rows, columns] = [reach(s.r >> 1), reach(s.c >> 1)];
    const across = drawn.filter((on, i) => on && i % HALF >= HALF / 2 === left);
    const seen = drawn.filter((on, i) => {
      const [y, x] = [2 * Math.floor(i / HALF), 2 * (i % HALF)];
      const meets = ([first, last], at) => at <= last && at + 1 >= first;
      return on && i % HALF >= HALF / 2 === left && meets(rows, y) && meets(columns, x);
    });
    readout.replaceChildren(
      s.open
        ? h("span", {}, `Query at ${place(positionOf(s))}: `, h("b", {}, `${percent(own)} to its own side's drawing`), ", ", h("b", {}, `${percent(other)} to the other side's`), `, ${percent(none)} to empty positions`)
        : h("span", {}, `Query at ${place(positionOf(s))}`),
      h("span", {}, `A 3×3 convolution there sees ${seen.length} of the ${across.length} positions of the other side's drawing`),
    );
    table.refresh();
  }

  return {
    controls: [query.node, examples.node, tool.node, empty],
    picture: h("div", { class: "lf-picture" }, pad.node, panel),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    resize(width) {
      pad.fit(width >= 600 ? Math.min(0.5 * width, 400) : width);
      draw();
    },
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

const notes = ({ found }) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    "Clear the pad, choose Draws, and draw two equal squares, one at each side. Put the query in one. Does it see its twin? Would a 3×3 convolution? Then change one pixel of one square, and watch the weights and both answers.",
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      `In the drawing the figure opens with, the query gives ${percent(found.other)} to the other square and ${percent(found.own)} to its own: equal shapes have nearly equal keys, and without positions attention can hardly tell them apart. ` +
        `With two different shapes one of them can win. From inside a ready-made shape the dashed frame never reaches the other one, and no position sees both whole: the convolution model says “same” with ${percent(found.low)} to ${percent(found.high)} in all the ready-made drawings. ` +
        `The attention model is right in ${found.right} of the ${found.of}.`,
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
