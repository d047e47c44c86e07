// Chapter 13: a small GPT whose weights the reader rounds, with the loss, the file and the text that this gives.
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count, percent } from "./kit/text.mjs";
import { gpt } from "./runtime/gpt.mjs";
import { reader } from "./runtime/gpt_cache.mjs";
import { tokenLosses } from "./runtime/nn.mjs";
import { roundedModel, withOutlier } from "./runtime/quantize.mjs";

const BITS = [8, 7, 6, 5, 4, 3, 2];
const SCHEMES = { per_tensor: "one a matrix", per_channel: "one a row", group: "one for 32 weights" };
const WORDS = 32; // that are written
const BAR = 0.05; // nats: what the challenge allows
const LOOK = {
  per_tensor: "stroke:var(--orange)",
  per_channel: "stroke:var(--blue);stroke-dasharray:7 4",
  group: "stroke:var(--ink);stroke-dasharray:2 4",
};

const yes = (v, otherwise) => (v === undefined ? otherwise : String(v) === "true");
const defaults = () => ({ bits: 8, scheme: "per_tensor", symmetric: true, embeddings: false, outlier: false, open: false });
const clean = (s) => ({
  bits: Math.min(Math.max(Math.round(Number(s.bits) || 8), 2), 8),
  scheme: s.scheme in SCHEMES ? s.scheme : "per_tensor",
  symmetric: yes(s.symmetric, true),
  embeddings: yes(s.embeddings, false),
  outlier: yes(s.outlier, false),
  open: yes(s.open, false),
});
const nats = (v) => v.toFixed(3);
const change = (v) => `${Math.abs(v) < 0.0005 ? "±" : v < 0 ? "−" : "+"}${Math.abs(v).toFixed(3)}`;

function build({ props, tensors, state, update, say }) {
  const { tokens, config, tales, letters, prompt, base, curves, outlier } = props;
  const full = 4 * Object.values(tensors).reduce((n, x) => n + x.data.length, 0);
  const planted = withOutlier(tensors, outlier);
  const watched = `${outlier.layer}.fc.weight`;
  const keyOf = (s) => [s.outlier, s.symmetric, s.embeddings].map(Number).join(" ");

  /** The likeliest words after the prompt. */
  function written(weights) {
    const model = reader({ tensors: weights, config });
    const cache = model.empty();
    let logits;
    for (const id of prompt) logits = model.read(cache, id);
    const made = [];
    while (made.length < WORDS && cache.length < model.block_size) {
      let best = 0;
      logits.forEach((v, i) => v > logits[best] && (best = i));
      made.push(tokens[best]);
      if (tokens[best] === "\n") break;
      logits = model.read(cache, best);
    }
    return made;
  }
  const float = written(tensors);

  // What a setting gives is kept: the same bits and switches give the same model.
  const kept = new Map();
  function measured(s) {
    const key = `${s.bits} ${s.scheme} ${keyOf(s)}`;
    if (!kept.has(key)) {
      const options = { bits: s.bits, scheme: s.scheme, symmetric: s.symmetric, embeddings: s.embeddings };
      const model = roundedModel(s.outlier ? planted : tensors, options);
      let [total, n] = [0, 0];
      for (const ids of tales) {
        const { logits } = gpt({ tensors: model.tensors, config, ids: ids.slice(0, -1) });
        for (const v of tokenLosses(logits, ids.slice(1))) [total, n] = [total + v, n + 1];
      }
      const { bytes } = model;
      const layer = model.parts[watched];
      const zeros = layer.data.reduce((k, v) => k + (v === 0), 0) / layer.data.length;
      if (kept.size > 60) kept.clear();
      kept.set(key, { loss: total / n, bytes, layer, zeros, text: written(model.tensors) });
    }
    return kept.get(key);
  }

  // Controls
  const go = (patch) => (update(patch), say(finding()));
  const bits = slider({ label: "Bits a weight", count: BITS.length, say: (i) => `${BITS[i]} bits`, oninput: (i) => go({ bits: BITS[i] }) });
  bits.node.style.flex = "1 1 12rem";
  const scheme = select({ label: "Scales", options: Object.entries(SCHEMES), onchange: (v) => go({ scheme: v }) });
  const symmetric = choice({ label: "Codes", options: [["true", "Symmetric"], ["false", "Zero point"]], onchange: (v) => go({ symmetric: v === "true" }) });
  const embeddings = choice({ label: "Embeddings", options: [["false", "Floats"], ["true", "Rounded"]], onchange: (v) => go({ embeddings: v === "true" }) });
  const spike = choice({ label: "Outlier", options: [["false", "None"], ["true", "Planted"]], onchange: (v) => go({ outlier: v === "true" }) });

  // Picture
  const chart = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const keys = h("p", { class: "lf-meter-key" }, Object.entries(SCHEMES).map(([name, text]) => h("span", {}, h("svg:svg", { width: 38, height: 12, viewBox: "0 0 38 12", "aria-hidden": "true", style: "margin-right:.375rem;vertical-align:-1px" }, h("svg:line", { x1: 0, x2: 38, y1: 6, y2: 6, style: `${LOOK[name]};stroke-width:2` }), mark(name, 19, 6)), text)));
  const histogram = h("svg:svg", { role: "img", preserveAspectRatio: "xMinYMin", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const about = h("p", { style: "font-size:14px;color:var(--soft);margin:.25rem 0 0" });
  const begun = prompt.map((id) => tokens[id]).join("").trim();
  const asked = h("div", { style: "font-size:14px;color:var(--soft);margin:0 0 .5rem;line-height:1.4" }, `The likeliest words after: “${begun}” Underlined: another word than fp32 has there.`);
  const before = h("p", { style: "margin:0" });
  const after = h("p", { style: "margin:.5rem 0 0" });
  const texts = h("div", { class: "lf-story", style: "line-height:1.6;grid-column:1/-1" }, asked, before, after);
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const result = h("div", {}, keys, chart);
  const panel = h("div", { style: "min-width:0;flex:1 1 100%" }, quiz(), verdict);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "Loss for each number of bits", build: numbers });
  let width = 320;

  const named = (s) => `${s.bits} bits, ${SCHEMES[s.scheme]}${s.symmetric ? "" : ", zero point"}${s.embeddings ? ", embeddings too" : ""}${s.outlier ? ", outlier" : ""}`;
  function finding(s = state()) {
    const { loss, bytes, zeros } = measured(s);
    return `${named(s)}: loss ${nats(loss)}, ${change(loss - base)} nats; file ${count(Math.round(bytes / 1000))} kB, ${(full / bytes).toFixed(2)} times smaller; ${percent(zeros)} of the layer's weights became 0.`;
  }

  function numbers() {
    const s = state();
    return {
      caption: `Rise of the loss in nats over ${nats(base)}, with these switches.`,
      columns: ["bits", ...Object.values(SCHEMES)],
      rows: BITS.map((b, i) => [`${b}`, ...Object.keys(SCHEMES).map((name) => change(curves[keyOf(s)][name][i] - base))]),
    };
  }

  function quiz() {
    const right = BITS.filter((_, i) => curves["0 1 0"].per_tensor[i] - base < BAR).at(-1);
    const guess = select({ label: "Fewest bits", options: [["", "choose"], ...BITS.map((b) => [`${b}`, `${b}`]), ["0", "even 8 cost more"]], onchange() {} });
    const check = () => {
      if (!guess.input.value) return say("Choose an answer first."), guess.input.focus();
      const mine = Number(guess.input.value);
      verdict.textContent = `${mine === (right ?? 0) ? "Right" : "Not quite"}: ${right ? `${right} bits are the fewest that cost less than ${BAR} nats` : "all of them cost more"}.`;
      verdict.hidden = false;
      reveal(verdict.textContent);
    };
    const reveal = (words) => (update({ open: true }), readout.focus(), say(words));
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `All linear layers are rounded, with one scale a matrix. With how few bits does the loss still rise by less than ${BAR} nats?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(finding()))),
    );
  }

  function words(title, made) {
    const pieces = made.map((piece, i) => (piece === float[i] || title === "fp32" ? piece : h("u", {}, piece)));
    return [h("b", {}, `${title}: `), "…", ...pieces.map((p) => (p === "\n" ? " ¶" : p))];
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    bits.set(BITS.indexOf(s.bits));
    scheme.set(s.scheme);
    symmetric.set(String(s.symmetric));
    embeddings.set(String(s.embeddings));
    spike.set(String(s.outlier));
    panel.classList.toggle("lf-locked", !s.open);
    result.hidden = texts.hidden = !s.open;
    for (const node of [bits, scheme, symmetric, embeddings, spike]) for (const input of node.node.querySelectorAll("input, select, button")) input.disabled = !s.open;
    const now = measured(s);
    plotCurves(chart, width, { rises: curves[keyOf(s)], base, s, here: now.loss - base });
    plotWeights(histogram, width, { W: tensors[watched], layer: now.layer, s });
    about.textContent = `${watched}, ${count(now.layer.data.length)} weights. Ticks: the levels${s.scheme === "per_tensor" ? "" : s.scheme === "group" ? " of a typical group" : " of a typical row"}${s.outlier ? "; the outlier is far off to the right" : ""}.`;
    before.replaceChildren(...words("fp32", float));
    after.replaceChildren(...words(`${s.bits} bits`, now.text));
    readout.textContent = s.open ? finding(s) : `In floats the loss is ${nats(base)} nats a token, on ${letters} characters. Answer the question to round the weights.`;
    table.button.disabled = !s.open;
    table.refresh();
  }

  return {
    controls: [panel, bits.node, scheme.node, symmetric.node, embeddings.node, spike.node],
    picture: h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:1rem 1.5rem;align-items:start" }, result, h("div", { style: "min-width:0" }, histogram, about), texts),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(),
    draw,
    resize: (all) => {
      width = all >= 640 ? (all - 24) / 2 : all;
      draw();
    },
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

// A mark for each kind of scale, so that no color is needed to tell them apart.
function mark(name, x, y, size = 4.5) {
  const at = `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size / 5})`;
  if (name === "per_tensor") return h("svg:path", { transform: at, d: "M0-6L6 5H-6Z", style: "fill:var(--orange)" });
  if (name === "per_channel") return h("svg:circle", { transform: at, r: 5, style: "fill:var(--blue)" });
  return h("svg:rect", { transform: at, x: -4.5, y: -4.5, width: 9, height: 9, style: "fill:var(--ink)" });
}

const DECADES = [0.001, 0.01, 0.1, 1, 10];

function plotCurves(svg, width, { rises, base, s, here }) {
  const [left, right, top, bottom, height] = [60, 14, 24, 42, 270];
  const x = (b) => left + ((8 - b) / 6) * (width - left - right);
  const y = (v) => top + ((1 - Math.log10(Math.min(Math.max(v, 0.001), 10))) / 4) * (height - top - bottom);
  const text = (words, options) => h("svg:text", { fill: "var(--soft)", ...options }, words);
  const grid = DECADES.flatMap((v) => [
    h("svg:line", { x1: left, x2: width - right, y1: y(v), y2: y(v), style: "stroke:var(--line)" }),
    text(v === DECADES[0] ? "≤ 0.001" : `${v}`, { x: left - 6, y: y(v) + 5, "text-anchor": "end" }),
  ]);
  const lines = Object.entries(rises).flatMap(([name, row]) => {
    const points = row.map((v, i) => [x(BITS[i]), y(v - base)]);
    return [
      h("svg:polyline", { points: points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" "), style: `fill:none;stroke-width:2;${LOOK[name]}` }),
      ...points.map(([a, b]) => mark(name, a, b, 3.5)),
    ];
  });
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Rise of the loss against bits, on a logarithmic scale. Chosen: ${s.bits} bits, ${SCHEMES[s.scheme]}, ${change(here)} nats.`);
  svg.replaceChildren(
    ...grid,
    text("rise of the loss, nats", { x: 0, y: 12 }),
    h("svg:line", { x1: left, x2: width - right, y1: y(BAR), y2: y(BAR), style: "stroke:var(--soft);stroke-dasharray:1 3" }),
    ...BITS.map((b) => text(`${b}`, { x: x(b), y: height - bottom + 18, "text-anchor": "middle" })),
    text("bits a weight", { x: width - right, y: height - 4, "text-anchor": "end" }),
    ...lines,
    h("svg:circle", { cx: x(s.bits), cy: y(here), r: 10, style: "fill:none;stroke:var(--ink);stroke-width:2.5" }),
  );
}

function plotWeights(svg, width, { W, layer, s }) {
  const [height, floor, bins] = [200, 150, 49];
  const most = W.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const x = (v) => ((v / most + 1) / 2) * (width - 2) + 1;
  const tally = new Array(bins).fill(0);
  for (const v of W.data) tally[Math.min(Math.floor(((v / most + 1) / 2) * bins), bins - 1)]++;
  const high = Math.max(...tally);
  const sorted = layer.lines.toSorted((a, b) => a.scale - b.scale);
  const { scale, zero } = sorted[Math.floor(sorted.length / 2)];
  const levels = Array.from({ length: 2 ** s.bits }, (_, c) => scale * (c - zero)).filter((v) => Math.abs(v) <= most);
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Histogram of the weights of a layer, from ${(-most).toFixed(2)} to ${most.toFixed(2)}; ${levels.length} levels lie in this stretch.`);
  const text = (words, at, anchor) => h("svg:text", { x: at, y: height - 2, "text-anchor": anchor, fill: "var(--soft)" }, words);
  svg.replaceChildren(
    ...tally.map((n, i) => h("svg:rect", { x: 1 + (i * (width - 2)) / bins, width: Math.max((width - 2) / bins - 1, 1), y: floor - (130 * n) / high, height: (130 * n) / high, style: "fill:var(--blue)" })),
    ...levels.map((v) => h("svg:line", { x1: x(v), x2: x(v), y1: floor + 4, y2: floor + 26, style: `stroke:var(--ink);stroke-width:${levels.length > 60 ? 0.6 : 1.5}` })),
    text((-most).toFixed(2).replace("-", "−"), 0, "start"),
    text("0", x(0), "middle"),
    text(most.toFixed(2), width, "end"),
    h("svg:text", { x: 0, y: 14, fill: "var(--soft)" }, "weights of one layer"),
  );
}

const notes = () => [
  h("p", {}, h("b", {}, "Try this. "), `Find the smallest file that costs less than ${BAR} nats. Then plant the outlier, and find it again: one weight, a hundred times as large as all others, at a place where it changes nothing in floats.`),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      "With eight bits next to nothing is lost, whatever the scales. The loss then rises by some factor with each bit less; more scales move the cliff to the right, and cost bytes. " +
        "As long as the embeddings stay in floats, fewer bits hardly make this file smaller: the vocabulary is most of what is left. " +
        "The outlier stretches the scale of everything that shares it. With one scale a matrix nearly all weights of its layer become zero, at eight bits too. With one a row it harms its own row, which nobody listens to. " +
        "The text is short: differences under 0.01 nats say little, and rises of at most 0.001, or below zero, lie on the lowest line.",
    ),
    h("p", {}, "The quietest hidden unit of the first layer is switched off in all models of this figure, so that the outlier has a place where it is not heard. The loss of the chosen setting is computed in this page; the lines were computed when the page was made."),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
