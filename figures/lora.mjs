// Chapter 12: a fine-tuned model whose change, or whose weights, are cut to a rank, beside LoRA of that rank.
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { percent } from "./kit/text.mjs";
import { gpt } from "./runtime/gpt.mjs";
import { reader } from "./runtime/gpt_cache.mjs";
import { tokenLosses } from "./runtime/nn.mjs";
import { bits, sample, softmax } from "./runtime/ops.mjs";
import { rng } from "./runtime/rng.mjs";
import { cut, energy, plus, product, svd } from "./runtime/svd.mjs";

const PIECE = / ?[A-Za-z]+|'[a-z]+|[^A-Za-z]/gu; // tokenizer.py's WordTokenizer
const WAYS = { change: "The change, cut", whole: "The weights, cut", lora: "LoRA, trained" };
const PLACES = { all: "All", attention: "Attention", mlp: "MLP" };
const LOOKS = {
  change: ["the change cut to the rank", "stroke:var(--blue);stroke-width:2.5"],
  whole: ["the weights cut to the rank", "stroke:var(--orange);stroke-width:2.5;stroke-dasharray:7 4"],
  lora: ["LoRA trained with the rank", "stroke:var(--ink);stroke-width:2;stroke-dasharray:2 4"],
};
const STEP = 0.25; // of the scale
const MOST = 8; // steps of the scale: twice as loud
const TEMPERATURE = 0.5;
const SEEDS = 1000;
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [250, 34, 14, 10, 40];

const whole = (v, n) => Math.min(Math.max(Math.round(Number(v) || 0), 0), n);
const two = (x) => x.toFixed(2);
const shortName = (name) => name.replace("blocks.", "block ").replace(".attention", ", attention").replace(".mlp", ", MLP");

const defaults = ({ ranks, opens }) => ({ way: "change", at: ranks.indexOf(opens), where: "all", scale: MOST / 2, matrix: 0, seed: 0, open: false });
const clean = (s, { ranks, matrices }) => ({
  way: s.way in WAYS ? s.way : "change",
  at: whole(s.at, ranks.length - 1),
  where: s.where in PLACES ? s.where : "all",
  scale: whole(s.scale, MOST),
  matrix: whole(s.matrix, matrices.length - 1),
  seed: whole(s.seed, SEEDS - 1),
  open: String(s.open) === "true",
});

function build({ props, tensors, state, update, say }) {
  const { tokens, ranks, trained, matrices, curves, texts } = props;
  const ids = new Map(tokens.map((text, i) => [text, i]));
  const read = (text) => (`\n${text}`.match(PIECE) ?? []).flatMap((piece) => (ids.has(piece) ? [piece] : [...piece])).map((piece) => ids.get(piece));
  const tales = Object.fromEntries(Object.entries(texts).map(([style, list]) => [style, list.map(read)]));
  const full = ranks.at(-1);
  const loraRanks = [0, ...trained];

  // --- matrices and their pieces, each computed once
  const memo = new Map();
  const once = (key, make) => (memo.has(key) ? memo.get(key) : (memo.set(key, make()), memo.get(key)));
  const baseOf = (name) => tensors[`${name}.weight`];
  const changeOf = (name) => tensors[`${name}.change`];
  const tunedOf = (name) => once(`tuned ${name}`, () => plus(baseOf(name), changeOf(name)));
  const piecesOf = (way, name) => once(`svd ${way} ${name}`, () => svd(way === "change" ? changeOf(name) : tunedOf(name)));
  const piecesOfLora = (r, name) => once(`svd lora ${r} ${name}`, () => svd(product(tensors, `${name}.${r}`)));
  const inside = (name, where) => where === "all" || name.includes(`.${where}.`);
  const rankOf = (s) => (s.way === "lora" ? loraRanks.filter((r) => r <= ranks[s.at]).at(-1) : ranks[s.at]);
  const scaleOf = (s) => (s.way === "whole" ? 1 : s.scale * STEP);

  function weights(s) {
    const r = rankOf(s);
    const made = { ...tensors };
    for (const name of matrices) {
      const W = baseOf(name);
      if (!inside(name, s.where)) made[`${name}.weight`] = s.way === "lora" ? W : tunedOf(name);
      else if (s.way === "whole") made[`${name}.weight`] = r === full ? tunedOf(name) : cut(piecesOf("whole", name), r);
      else if (s.way === "change") made[`${name}.weight`] = plus(W, r === full ? changeOf(name) : cut(piecesOf("change", name), r), scaleOf(s));
      else if (r) made[`${name}.weight`] = plus(W, product(tensors, `${name}.${r}`), scaleOf(s));
    }
    return made;
  }
  let work = {};
  /** Losses on both styles, bits a character, and a tale, of the model that the state describes. */
  function run(s) {
    const key = [s.way, rankOf(s), s.where, scaleOf(s)].join();
    if (work.key !== key) {
      const made = weights(s);
      const loss = Object.entries(tales).map(([style, list]) => {
        let nats = 0;
        for (const text of list) for (const x of tokenLosses(gpt({ tensors: made, config: props.config, ids: text.slice(0, -1) }).logits, text.slice(1))) nats += x;
        return bits(nats / texts[style].reduce((n, text) => n + text.length, 0));
      });
      work = { key, made, loss: { night: loss[0], day: loss[1] } };
    }
    if (work.seed !== s.seed) Object.assign(work, { seed: s.seed, told: tell(work.made, s.seed) });
    return work;
  }
  function tell(made, seed) {
    const model = reader({ tensors: made, config: props.config });
    const cache = model.empty();
    const random = rng(seed);
    let [text, id] = ["", ids.get("\n")];
    while (cache.length < model.block_size) {
      const logits = model.read(cache, id);
      id = sample(softmax(logits.map((x) => x / TEMPERATURE)), random());
      if (tokens[id] === "\n") return `${text} ¶`;
      text += tokens[id];
    }
    return `${text} …`;
  }

  // --- controls
  const go = (patch) => (update(patch), say(finding()));
  const way = choice({ label: "What has the low rank", options: Object.entries(WAYS), onchange: (way) => go({ way }) });
  const rank = slider({ label: "Rank", count: ranks.length, say: (i) => sayRank({ ...state(), at: i }), oninput: (at) => go({ at }) });
  const where = choice({ label: "Matrices", options: Object.entries(PLACES), onchange: (where) => go({ where }) });
  const scale = slider({ label: "Loudness of the change (α)", count: MOST + 1, say: (i) => (state().way === "whole" ? "not here: there is no change apart" : `${two(i * STEP)} times as trained`), oninput: (scale) => go({ scale }) });
  const loud = scale.node.querySelector("input");
  const again = button("Another tale", () => (update({ seed: (state().seed + 1) % SEEDS }), say("Another tale")));
  const matrix = select({ label: "Matrix", options: matrices.map((name, i) => [String(i), shortName(name)]), onchange: (i) => (update({ matrix: Number(i) }), say(spectrumWords(state()))) });
  way.node.querySelector(".lf-choice").style.flexWrap = "wrap";

  function sayRank(s) {
    const r = rankOf(s);
    const part = s.way === "lora" ? "" : ` of ${full}`;
    return `${r}${part}${r === ranks[s.at] ? "" : ` (none was trained with ${ranks[s.at]})`}`;
  }

  // --- pictures
  const chart = h("svg:svg", { height: HEIGHT, role: "img", style: "display:block;width:100%" });
  const swatch = (style) => h("svg:svg", { width: 30, height: 10, "aria-hidden": "true", style: "margin-right:.375rem" }, h("svg:line", { x1: 0, x2: 30, y1: 5, y2: 5, style }));
  const key = h("div", { class: "lf-meter-key" }, Object.values(LOOKS).map(([name, style]) => h("span", {}, swatch(style), name)));
  const chartName = h("p", { style: "font-size:14px;color:var(--soft)" }, "Bits per character on new tales of the night, against the rank. Lower is better; the ring is the model that runs here.");
  const spectrum = h("svg:svg", { height: 120, role: "img", "aria-label": "Singular values", style: "display:block;width:100%" });
  const spectrumText = h("p", { style: "font-size:14px;color:var(--soft)" });
  const page = h("p", { class: "lf-story", style: "margin:0;line-height:1.7" });
  const pageName = h("p", { style: "font-size:14px;color:var(--soft)" }, "What this model writes, from an empty page:");
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "Every rank in numbers", build: numbers });
  const left = h("div", { style: "display:grid;gap:.5rem;min-width:0;align-content:start" }, chartName, key, chart);
  const right = h("div", { style: "display:grid;gap:.5rem;min-width:0;align-content:start" }, pageName, page, h("div", { class: "lf-actions" }, again));
  const below = h("div", { style: "display:grid;gap:.5rem;min-width:0" }, matrix.node, spectrumText, spectrum);
  const question = h("div", { style: "min-width:0" }, quiz(), verdict);
  const paper = matchMedia("print"); // on paper nobody is asked

  function quiz() {
    const options = [["", "choose"], ["change", "the change cut"], ["whole", "the weights cut"], ["same", "about the same"]];
    const guess = select({ label: "Nearer to the fine-tuned model", options, onchange() {} });
    const show = () => (update({ open: true }), readout.focus()); // the button that was pressed is gone
    const check = () => {
      const mine = guess.input.value;
      if (!mine) return say("Choose an answer first."), guess.input.focus();
      show();
      const i = ranks.indexOf(props.opens);
      const [a, b] = ["change", "whole"].map((w) => curves.all[w][i][0]);
      verdict.textContent = `${mine === "change" ? "Right" : "Not so"}: at rank ${props.opens} of ${full}, ${two(a)} bits per character with the change cut, ${two(b)} with the weights cut.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `A fine-tuned model is the base and a change. Either the change is cut to rank ${props.opens} of ${full}, or the fine-tuned weights are. Which of the two is nearer to the fine-tuned model on tales of the night?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => (show(), say(finding())))),
    );
  }

  function finding(s = state()) {
    const { loss } = run(s);
    const start = curves.all.change[0][0];
    const end = curves.all.change.at(-1)[0];
    const what = { change: `Base plus the change cut to rank ${rankOf(s)}`, whole: `Fine-tuned weights cut to rank ${rankOf(s)}`, lora: `Base plus LoRA of rank ${rankOf(s)}` }[s.way];
    const place = s.where === "all" ? "" : `, in ${s.where === "mlp" ? "the MLP" : "attention"} only`;
    const loudness = scaleOf(s) === 1 ? "" : `, ${two(scaleOf(s))} times as loud`;
    return `${what}${place}${loudness}: ${two(loss.night)} bits per character by night, ${two(loss.day)} by day. The base has ${two(start)} by night, the fine-tuned model ${two(end)}.`;
  }

  const spectrumOf = (s) => {
    const name = matrices[s.matrix];
    if (s.way === "lora") return rankOf(s) ? piecesOfLora(rankOf(s), name) : piecesOf("change", name);
    return piecesOf(s.way, name);
  };
  function spectrumWords(s) {
    const name = shortName(matrices[s.matrix]);
    const r = rankOf(s);
    const what = { change: "the change", whole: "the fine-tuned weights", lora: r ? "LoRA's product B A" : "the change" }[s.way];
    const first = `Singular values of ${what}, ${name}, each against the largest.`;
    if (s.way === "lora") return r ? `${first} No more than ${r} can differ from zero.` : `${first} At rank 0 nothing is added.`;
    return `${first} Filled: the ${Math.min(r, full)} that are kept, ${percent(energy(spectrumOf(s), r))} of the squares.`;
  }

  function numbers() {
    const s = state();
    const own = curves[s.where];
    return {
      caption: `Bits per character by night and by day at each rank; ${s.where === "all" ? `all ${matrices.length} matrices` : s.where === "mlp" ? "the MLP's matrices, the others as fine-tuned or, with LoRA, as in the base" : "attention's matrices, the others as fine-tuned or, with LoRA, as in the base"}.`,
      columns: ["rank", "change cut, night", "day", "weights cut, night", "day", "LoRA, night", "day"],
      rows: ranks.map((r, i) => {
        const l = own.lora[loraRanks.indexOf(r)];
        return [String(r), ...[...own.change[i], ...own.whole[i]].map((v) => v.toFixed(3)), ...(l ? l.map((v) => v.toFixed(3)) : ["–", "–"])];
      }),
    };
  }

  const widthOf = (svg) => Math.max(240, Math.round(svg.getBoundingClientRect().width) || 320);
  function paintChart(s) {
    const width = widthOf(chart);
    const own = curves[s.where];
    const { loss } = run(s);
    const open = s.open || paper.matches;
    const shown = open ? ["change", "whole", "lora"] : [];
    const high = 1.08 * Math.max(...Object.values(curves.all).flat().map((v) => v[0]), loss.night);
    const x = (i) => LEFT + ((width - LEFT - RIGHT) * i) / (ranks.length - 1);
    const y = (v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / high);
    const text = (words, options) => h("svg:text", { fill: "var(--soft)", "font-size": 14, ...options }, words);
    const label = (words, options) => text(words, { style: "paint-order:stroke;stroke:var(--paper);stroke-width:4px", ...options });
    const place = (r) => ranks.indexOf(r);
    const points = (w) => own[w].map((v, i) => [w === "lora" ? place(loraRanks[i]) : i, v[0]]).filter(([i]) => i >= 0);
    const level = (v) => h("svg:line", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), style: "stroke:var(--edge);stroke-width:1;stroke-dasharray:1 3" });
    const [start, end] = [own.lora[0][0], own.change.at(-1)[0]];
    const gap = high > 6 ? 2 : high > 2.5 ? 1 : 0.5;
    const grid = Array.from({ length: Math.floor(high / gap) + 1 }, (_, i) => i * gap);
    chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    chart.setAttribute("aria-label", open ? `Bits per character against the rank, three curves. ${finding(s)}` : `Bits per character: the base ${two(start)}, the fine-tuned model ${two(end)}; the curves are hidden.`);
    chart.replaceChildren(
      ...grid.flatMap((v) => [h("svg:line", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), style: "stroke:var(--line)" }), text(String(v), { x: LEFT - 6, y: y(v) + 5, "text-anchor": "end" })]),
      ...ranks.map((r, i) => text(String(r), { x: x(i), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" })),
      text("rank", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }),
      level(start),
      level(end),
      ...shown.map((w) => h("svg:polyline", { fill: "none", style: LOOKS[w][1], points: points(w).map(([i, v]) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ") })),
      label(`base ${two(start)}`, { x: width - RIGHT, y: y(start) - 6, "text-anchor": "end" }),
      label(`fine-tuned ${two(end)}`, { x: LEFT + 4, y: y(end) + 17 }),
      ...(open ? [h("svg:circle", { cx: x(place(rankOf(s)) < 0 ? s.at : place(rankOf(s))), cy: y(loss.night), r: 7, style: "fill:var(--paper);stroke:var(--ink);stroke-width:3" })] : []),
    );
  }

  function paintSpectrum(s) {
    const { s: values } = spectrumOf(s);
    const kept = s.way === "lora" && !rankOf(s) ? 0 : rankOf(s);
    const width = widthOf(spectrum);
    const pace = (width - 2) / values.length;
    spectrum.setAttribute("viewBox", `0 0 ${width} 120`);
    spectrum.setAttribute("aria-label", spectrumWords(s));
    spectrum.replaceChildren(
      ...values.map((v, i) => {
        const tall = Math.max(1, (116 * v) / values[0]);
        const color = s.way === "whole" ? "var(--orange)" : "var(--blue)";
        return h("svg:rect", { x: (1 + i * pace).toFixed(1), y: (118 - tall).toFixed(1), width: (pace * 0.72).toFixed(1), height: tall.toFixed(1), style: i < kept ? `fill:${color};stroke:${color}` : "fill:none;stroke:var(--edge)" });
      }),
    );
  }

  function draw(s = state()) {
    way.set(s.way);
    rank.set(s.at);
    where.set(s.where);
    scale.set(s.scale);
    matrix.set(String(s.matrix));
    question.classList.toggle("lf-locked", !s.open);
    for (const node of [right, below]) node.hidden = !s.open && !paper.matches;
    key.hidden = !s.open && !paper.matches;
    for (const input of [...controls.flatMap((node) => [...node.querySelectorAll("input, button")]), table.button]) input.disabled = !s.open;
    loud.disabled ||= s.way === "whole";
    paintChart(s);
    if (!s.open && !paper.matches) {
      readout.textContent = `The base has ${two(curves.all.change[0][0])} bits per character by night, the fine-tuned model ${two(curves.all.change.at(-1)[0])}. Answer the question, and see what is left between them.`;
      return;
    }
    page.textContent = run(s).told;
    spectrumText.textContent = spectrumWords(s);
    paintSpectrum(s);
    readout.replaceChildren(h("span", {}, finding(s)));
    table.refresh();
  }

  const printing = () => draw();
  paper.addEventListener("change", printing);
  const controls = [rank.node, way.node, where.node, scale.node];
  return {
    controls,
    picture: h("div", { style: "display:grid;grid-template-columns:minmax(0,1fr);gap:1rem" }, question, h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:1rem 1.5rem;align-items:start" }, left, right), below),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(ranks, curves.all, loraRanks, full),
    draw,
    resize: () => draw(),
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
    stop: () => paper.removeEventListener("change", printing),
  };
}

const notes = (ranks, { change, whole, lora }, loraRanks, full) => {
  const best = lora.at(-1);
  const near = ranks.findIndex((_, i) => change[i][0] - change.at(-1)[0] < 0.1 * (change[0][0] - change.at(-1)[0]));
  const spoiled = ranks.filter((_, i) => whole[i][0] > change[0][0]).at(-1);
  return [
    h("p", {}, h("b", {}, "Try this. "), "Keep the rank and change what has it. Explain the gap in one sentence. Then find the smallest rank of each way that is closer to the fine-tuned model than to the base. Last, turn the loudness of LoRA from 0 to 2: what happens to the two styles?"),
    h(
      "details",
      {},
      h("summary", {}, "What you should have seen"),
      h(
        "p",
        {},
        `Rank ${ranks[near]} of the change has nine tenths of its gain. The weights have to be kept nearly whole: cut to rank ${spoiled} of ${full} the model is still worse at the new style than the base, which never saw it. ` +
          `LoRA knew its rank while it learned and gets to ${two(best[0])} bits with rank ${loraRanks.at(-1)}. At loudness 0 it is the base, whatever its rank. The weights hold all that the model can do; the change holds only what is new.`,
      ),
    ),
  ];
};

export default { render: (host) => live(host, { defaults, clean, build }) };
