// Chapter 14: number formats on a line, a run's gradients laid over it, and a weight that small updates cannot move.
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h, uid } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count, percent } from "./kit/text.mjs";
import { accumulate, BINS, fates, FORMATS, middle, fate, numbersIn, unchanged } from "./runtime/formats.mjs";

const NAMES = { fp32: "fp32", bf16: "bf16", fp16: "fp16", fp8_e4m3: "fp8 e4m3", fp8_e5m2: "fp8 e5m2" };
const OF = { outputs: "layer outputs", weights: "weights" };
const VIEWS = { gradients: "the gradients", all: "the whole line", small: "the smallest numbers", one: "1 to 4" };
const UPDATES = [2, 26]; // the update is 2^-2 ... 2^-26
const N = 512; // updates
const SCALE_MINUS = (k) => `2^−${k}`;

const whole = (v, low, high, otherwise) => (Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), low), high) : otherwise);
const known = (table, name, otherwise) => (Object.hasOwn(table, name) ? name : otherwise);

const defaults = ({ steps }) => ({ format: "fp16", of: "outputs", at: steps.length - 1, scale: 0, view: "gradients", update: 12, open: false });
const clean = (s, { steps, scales }) => ({
  format: known(FORMATS, s.format, "fp16"),
  of: known(OF, s.of, "outputs"),
  at: whole(s.at, 0, steps.length - 1, steps.length - 1),
  scale: whole(s.scale, 0, scales - 1, 0),
  view: known(VIEWS, s.view, "gradients"),
  update: whole(s.update, ...UPDATES, 12),
  open: s.open === true || s.open === "true",
});

const share = (n, all) => (n === 0 ? "none" : percent(n / all));
const short = (v) => (Number.isInteger(v) && v < 1e6 ? count(v) : v >= 1e-3 && v < 1e5 ? String(+v.toPrecision(4)) : v.toExponential(1).replace("e+", "e").replace("-", "−"));
const power = (e) => (e === 0 ? "1" : `2^${e < 0 ? "−" : ""}${Math.abs(e)}`);

function build({ props, tensors, state, update, say }) {
  const { steps, scales, best, answer } = props;
  const say_ = (patch) => (update(patch), say(finding()));
  const made = (s, of = s.of) => ({ counts: tensors[`${of}.${s.at}`].data, ...steps[s.at][of] });
  const totals = {}; // of a histogram
  const totalOf = (s, of = s.of) => (totals[`${of}.${s.at}`] ??= made(s, of).counts.reduce((a, b) => a + b, 0));
  const kept = {}; // shares of updates that change nothing
  const still = (at, name) => (kept[`${at} ${name}`] ??= unchanged(tensors[`w.${at}`].data, tensors[`update.${at}`].data, FORMATS[name]));

  // Controls
  const format = select({ label: "Format", options: Object.entries(NAMES), onchange: (f) => say_({ format: f }) });
  const of = choice({ label: "Gradients of", options: Object.entries(OF), onchange: (v) => say_({ of: v }) });
  const view = select({ label: "Show", options: Object.entries(VIEWS), onchange: (v) => say_({ view: v }) });
  const scale = slider({ label: "Loss times", count: scales, say: (i) => `${power(i)}${i ? ` = ${count(2 ** i)}` : ""}`, oninput: (i) => say_({ scale: i }) });
  const at = slider({ label: "Training", count: steps.length, say: (i) => `step ${count(steps[i].step)}, loss ${steps[i].loss.toFixed(2)} nats`, oninput: (i) => say_({ at: i }) });
  const size = slider({ label: "Each update", count: UPDATES[1] - UPDATES[0] + 1, say: (i) => `${SCALE_MINUS(i + UPDATES[0])} = ${short(2 ** -(i + UPDATES[0]))}`, oninput: (i) => (update({ update: i + UPDATES[0] }), say(standing())) });
  for (const one of [scale, at]) one.node.style.flex = "1 1 15rem";

  // Pictures
  const line = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const walk = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const legend = h("p", { class: "lf-card" }, swatch("zero"), "becomes 0 ", swatch("coarse"), "loses bits (subnormal) ", swatch("kept"), "kept ", swatch("overflow"), "overflows");
  const steady = h("p", { class: "lf-card" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "flex:1 1 100%" }, quiz(), verdict);
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({ label: "The numbers of the picture", build: numbers });
  let width = 320;

  function finding(s = state()) {
    const told = fates(made(s), s.scale, FORMATS[s.format]);
    const all = totalOf(s);
    const skipped = told.overflow ? `${count(told.overflow)} overflow, so the step is skipped` : "none overflow";
    return `${NAMES[s.format]}, step ${count(steps[s.at].step)}, loss times ${power(s.scale)}. Of the gradients of ${OF[s.of]}, ${share(told.zero, all)} become 0, ${share(told.coarse, all)} lose bits, ${skipped}.`;
  }
  function standing(s = state()) {
    const { own, master } = sums(s);
    return `After ${N} updates of ${SCALE_MINUS(s.update)}, a weight kept in ${NAMES[s.format]} has gone from 1 to ${short(own.at(-1))}; with a master in fp32 it is at ${short(master.at(-1))}; exact: ${short(1 + N * 2 ** -s.update)}.`;
  }
  function sums(s) {
    const options = { start: 1, update: 2 ** -s.update, n: N, format: FORMATS[s.format] };
    return { own: accumulate(options), master: accumulate({ ...options, master: true }) };
  }

  function numbers() {
    const s = state();
    const rows = Object.entries(FORMATS).map(([name, f]) => {
      const told = fates(made(s), s.scale, f);
      const all = totalOf(s);
      return [
        NAMES[name], short(f.smallest), short(f.smallestNormal), short(f.largest), short(f.eps),
        share(told.zero, all), share(told.coarse, all), told.overflow ? count(told.overflow) : "none",
        s.open ? percent(still(s.at, name)) : "hidden", short(sums({ ...s, format: name }).own.at(-1)),
      ]; // prettier-ignore
    });
    return {
      caption: `Gradients of ${OF[s.of]} at step ${count(steps[s.at].step)}, loss times ${power(s.scale)}; at last, a weight of 1 after ${N} updates of ${SCALE_MINUS(s.update)}.`,
      columns: ["format", "smallest", "smallest normal", "largest", "eps", "become 0", "lose bits", "overflow", "updates lost", "weight"],
      rows,
    };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    format.set(s.format);
    of.set(s.of);
    view.set(s.view);
    scale.set(s.scale);
    at.set(s.at);
    size.set(s.update - UPDATES[0]);
    panel.classList.toggle("lf-locked", !s.open);
    drawLine(line, width, s, made(s), finding(s));
    const { own, master } = sums(s);
    drawWalk(walk, width >= 640 ? 0.62 * width : width, s, own, master, standing(s));
    readout.replaceChildren(
      h("span", {}, finding(s)),
      s.open ? h("span", {}, `Of AdamW's updates at this step, `, h("b", {}, still(s.at, s.format) ? percent(still(s.at, s.format)) : "none"), ` leave a weight kept in ${NAMES[s.format]} as it was.`) : "",
    );
    const last = own.at(-1);
    const moved = own.findIndex((v) => v === last); // from here on it stands
    steady.textContent = last === 1 ? `Kept in ${NAMES[s.format]}, the weight never moves: half the gap above 1 is ${short(FORMATS[s.format].eps / 2)}.` : moved < N ? `Kept in ${NAMES[s.format]}, it stands still at ${short(last)} from update ${count(moved)} on.` : `Kept in ${NAMES[s.format]}, it still moves after ${N} updates.`;
    table.refresh();
  }

  function quiz() {
    const options = [["", "choose"], ["0", "none"], ["1", "below 1 %"], ["2", "1 to 10 %"], ["3", "10 to 50 %"], ["4", "more than half"]];
    const asked = ["fp32", "fp16", "bf16"];
    const guesses = asked.map((name) => select({ label: `In ${NAMES[name]}`, options, onchange() {} }));
    const last = steps.length - 1;
    const bin = (p) => (p === 0 ? "0" : p < 0.01 ? "1" : p < 0.1 ? "2" : p < 0.5 ? "3" : "4");
    const check = () => {
      const missing = guesses.find((g) => !g.input.value);
      if (missing) {
        say("Choose everywhere first.");
        return missing.input.focus();
      }
      const right = guesses.filter((g, i) => g.input.value === bin(still(last, asked[i]))).length;
      verdict.textContent = `${right} of your ${asked.length} guesses ${right === 1 ? "is" : "are"} right. ${asked.map((name) => `${NAMES[name]}: ${still(last, name) ? percent(still(last, name)) : "none"}`).join("; ")}.`;
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      verdict.hidden = !verdict.textContent;
      update({ open: true });
      format.input.focus();
      say(words);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `After ${count(steps[last].step)} steps, AdamW adds its update to each weight. If the weights are kept in this format, how many stay as they are, because the update is below half a gap?`),
      h("div", { class: "lf-quiz-row" }, guesses.map((g) => g.node)),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(finding()))),
    );
  }

  const key = h("div", { class: "lf-card" }, h("div", {}, stroke(OWN), "kept in the format"), h("div", {}, stroke(MASTER), "master in fp32, rounded for use"), h("div", {}, stroke(EXACT), "exact"));
  const below = h("div", { style: "display:grid;gap:.5rem" }, h("p", {}, h("b", {}, "A weight of 1, and 512 small updates")), size.node, h("div", { style: "display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center" }, walk, h("div", { style: "flex:1 1 12rem" }, key, steady)));
  return {
    controls: [panel, format.node, of.node, view.node, scale.node, at.node],
    picture: h("div", { class: "lf-picture", style: "grid-template-columns:minmax(0,1fr)" }, h("div", { style: "display:grid;gap:.375rem" }, line, legend), below),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes({ answer, best }),
    draw,
    resize: (all) => {
      width = all;
      draw();
    },
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

// --- fates: a color and a pattern each, so that no color is needed to tell them apart
const STRIPES = uid();
const LINES = uid();
const FATES = {
  zero: `fill:url(#${STRIPES});stroke:var(--orange);stroke-width:1`,
  coarse: `fill:url(#${LINES});stroke:var(--blue);stroke-width:1`,
  kept: "fill:var(--blue)",
  overflow: "fill:var(--orange)",
};
const patterns = () =>
  h(
    "svg:defs",
    {},
    h("svg:pattern", { id: STRIPES, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, h("svg:rect", { width: 2, height: 5, style: "fill:var(--orange)" })),
    h("svg:pattern", { id: LINES, width: 4, height: 4, patternUnits: "userSpaceOnUse" }, h("svg:rect", { width: 4, height: 1.5, style: "fill:var(--blue)" })),
  );
const swatch = (fate) => h("svg:svg", { width: 18, height: 12, viewBox: "0 0 18 12", "aria-hidden": "true", style: "margin:0 .25rem 0 .125rem;vertical-align:-1px" }, patterns(), h("svg:rect", { x: 1, y: 1, width: 16, height: 10, style: FATES[fate] }));
const OWN = "stroke:var(--orange);stroke-width:2.5";
const MASTER = "stroke:var(--blue);stroke-width:2.5";
const EXACT = "stroke:var(--ink);stroke-width:1.5;stroke-dasharray:4 4";
const stroke = (style) => h("svg:svg", { width: 30, height: 10, "aria-hidden": "true", style: "margin:0 .25rem 0 .125rem" }, h("svg:line", { x1: 0, x2: 30, y1: 5, y2: 5, style }));
const text = (words, attributes) => h("svg:text", { fill: "var(--soft)", ...attributes }, words);

/** Octaves that a view shows. */
function range({ view, format }) {
  const f = FORMATS[format];
  if (view === "all") return [-152, 130];
  if (view === "one") return [0, 2];
  const least = Math.log2(f.smallest);
  if (view === "small") return [least - 3, least + 6];
  return [-44, 20];
}

function drawLine(svg, width, s, made, alt) {
  const [left, right, top, bars] = [80, 8, 22, 140];
  const names = Object.keys(FORMATS);
  const rowHeight = 26;
  const [low, high] = range(s);
  const x = (e) => left + ((Math.min(Math.max(e, low), high) - low) / (high - low)) * (width - left - right);
  const floor = top + bars;
  const height = floor + names.length * rowHeight + 26;
  const nodes = [patterns()];

  // The histogram: bars of an octave, or of its sixteenths where there is room.
  const wide = (width - left - right) / (high - low) > 90;
  const groups = new Map();
  const format = FORMATS[s.format];
  made.counts.forEach((n, i) => {
    if (!n) return;
    const octave = made.low + Math.floor(i / BINS) + s.scale;
    const part = wide ? i % BINS : 0;
    const what = fate(middle(i, made.low) * 2 ** s.scale, format);
    const key = `${octave} ${part}`;
    if (!groups.has(key)) groups.set(key, { octave, part, zero: 0, coarse: 0, kept: 0, overflow: 0 });
    groups.get(key)[what] += n;
  });
  const seen = [...groups.values()].filter(({ octave }) => octave >= low && octave < high);
  const all = made.counts.reduce((a, b) => a + b, 0);
  for (const g of seen) {
    // Sixteenths are equal on a straight line, not on this one: the height is a share for each octave.
    [g.from, g.to] = wide ? [0, 1].map((k) => g.octave + Math.log2(1 + (g.part + k) / BINS)) : [g.octave, g.octave + 1];
    g.height = (g.zero + g.coarse + g.kept + g.overflow) / all / (g.to - g.from);
  }
  const most = Math.max(...seen.map((g) => g.height));
  for (const g of seen) {
    const [a, b] = [x(g.from), x(g.to)];
    let y = floor;
    for (const what of ["zero", "coarse", "kept", "overflow"]) {
      if (!g[what]) continue;
      const tall = Math.max(1.5, (g[what] / all / (g.to - g.from) / most) * bars);
      y -= tall;
      nodes.push(h("svg:rect", { class: what, x: a.toFixed(1), y: y.toFixed(1), width: Math.max(1, b - a - (b - a > 5 ? 1.5 : 0)).toFixed(1), height: tall.toFixed(1), style: FATES[what] }));
    }
  }
  if (!seen.length) nodes.push(text("No gradients here.", { x: (left + width) / 2, y: floor - 60, "text-anchor": "middle" }));
  else nodes.push(text(`${percent(most)} a power of two`, { x: left, y: 13 }));
  nodes.push(h("svg:line", { x1: left, x2: width - right, y1: floor, y2: floor, style: "stroke:var(--edge)" }));

  // A row for each format: subnormal numbers striped, normal ones filled, single numbers as ticks where there is room.
  names.forEach((name, i) => {
    const f = FORMATS[name];
    const y = floor + 8 + i * rowHeight;
    const chosen = name === s.format;
    nodes.push(text(NAMES[name], { x: 0, y: y + 14, style: chosen ? "fill:var(--ink);font-weight:600" : "" }));
    const room = Math.floor((width - left - right) / 3);
    const ticks = high - low <= 10 ? numbersIn(2 ** low, 2 ** high, f, room) : undefined;
    const color = chosen ? "var(--ink)" : "var(--edge)";
    if (ticks) {
      nodes.push(h("svg:line", { x1: left, x2: width - right, y1: y + 9, y2: y + 9, style: "stroke:var(--line)" }));
      if (!ticks.length) return;
      const d = ticks.map((v) => `M${x(Math.log2(v)).toFixed(1)} ${y}v18`).join("");
      return nodes.push(h("svg:path", { class: "ticks", "data-n": ticks.length, d, style: `stroke:${color};stroke-width:1.2` }));
    }
    const [a, b, c] = [f.smallest, f.smallestNormal, f.largest].map((v) => x(Math.log2(v)));
    const style = `stroke:${color};stroke-width:${chosen ? 2 : 1}`;
    if (b > a) nodes.push(h("svg:rect", { x: a, y, width: b - a, height: 18, style: `fill:var(--wash);${style};stroke-dasharray:3 3` }));
    if (c > b) nodes.push(h("svg:rect", { x: b, y, width: c - b, height: 18, style: `fill:${chosen ? "var(--ink)" : "var(--edge)"};${style}` }));
  });

  // The axis: powers of two
  const most_ = Math.max(2, Math.floor((width - left) / 58));
  const pace = [1, 2, 4, 8, 16, 32, 64, 128].find((p) => (high - low) / p <= most_) ?? 128;
  for (let e = Math.ceil(low / pace) * pace; e <= high; e += pace) {
    nodes.push(h("svg:line", { x1: x(e), x2: x(e), y1: 20, y2: height - 20, style: "stroke:var(--line);stroke-dasharray:2 4" }));
    const end = x(e) > width - 26;
    nodes.push(text(high <= 4 && low >= 0 ? String(2 ** e) : power(e), { x: end ? width : x(e), y: height - 5, "text-anchor": end ? "end" : "middle" }));
  }
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Number line with five formats and a histogram of gradients. ${alt}`);
  svg.replaceChildren(...nodes);
}

function drawWalk(svg, width, s, own, master, alt) {
  const [left, right, top, bottom, height] = [64, 12, 12, 26, 190];
  const exact = 1 + N * 2 ** -s.update;
  const high = Math.max(exact, ...[...own, ...master].filter(Number.isFinite));
  const x = (i) => left + (i / N) * (width - left - right);
  const y = (v) => height - bottom - ((v - 1) / (high - 1)) * (height - top - bottom);
  const polyline = (values, style) => h("svg:polyline", { fill: "none", style, points: values.map((v, i) => (Number.isFinite(v) ? `${x(i).toFixed(1)},${y(v).toFixed(1)}` : "")).join(" ") });
  const grid = [0, 128, 256, 384, 512].flatMap((i) => [
    h("svg:line", { x1: x(i), x2: x(i), y1: top, y2: height - bottom, style: "stroke:var(--line)" }),
    text(String(i), { x: x(i), y: height - 7, "text-anchor": i === N ? "end" : "middle" }),
  ]);
  const levels = [1, high].map((v) => text(v === 1 ? "1" : high - 1 < 0.01 ? `1+${short(v - 1)}` : short(v), { x: left - 6, y: y(v) + 5, "text-anchor": "end" }));
  const gaps = numbersIn(1, high, FORMATS[s.format], 60) ?? [];
  const rules = gaps.map((v) => h("svg:line", { class: "gap", x1: left, x2: width - right, y1: y(v), y2: y(v), style: "stroke:var(--line);stroke-width:.75" }));
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.width = `${width}px`;
  svg.setAttribute("aria-label", alt);
  svg.replaceChildren(...rules, ...grid, ...levels, polyline(master, MASTER), polyline(own, OWN), h("svg:line", { x1: x(0), y1: y(1), x2: x(N), y2: y(exact), style: EXACT }));
}

const notes = ({ answer }) => [
  h("p", {}, h("b", {}, "Try this. "), "Find a scale of the loss with which fp16 loses nearly nothing and nothing overflows. Switch to bf16: do you still need it? Then look at 1 to 4, and find the smallest update that still moves a weight of 1 in bf16, in fp16 and in fp32."),
  h("details", {}, h("summary", {}, "What you should have seen"), h("p", {}, answer)),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
