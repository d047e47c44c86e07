// Chapter 03: the pieces of any text, merge by merge or by the most probable way.
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { meter } from "./kit/meter.mjs";
import { tableView } from "./kit/table.mjs";
import { count, nats, token } from "./kit/text.mjs";
import { bytePairs, unpackUnigram, utf8, words } from "./runtime/tokenize.mjs";

const METHODS = [
  ["bpe", "BPE"],
  ["unigram", "Unigram"],
];
const MOST = 120; // characters of the text
const LONGEST = 14; // characters of the word whose lattice is drawn
const CELL = 54; // pixels of a character in the lattice
const LANE = 44;
const MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace";
const CHIPS = "display:flex;flex-wrap:wrap;gap:6px 4px;margin:0;padding:0;list-style:none";
const CHIP =
  "display:grid;justify-items:center;max-width:100%;margin:0;padding:2px 4px;border:solid var(--edge);border-width:1px 3px;border-radius:6px;overflow-wrap:anywhere";

const defaults = ({ text, merges, size, word }) => ({ text, method: "bpe", merges, size, word: word ?? longest(text), open: false });

const longest = (text) => words(text).reduce((a, b) => ([...b].length > [...a].length ? b : a), "");
const whole = (v, most, otherwise) => (Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), 0), most) : otherwise);

function clean(s, props) {
  const text = [...String(s.text)].slice(0, MOST).join("").toWellFormed?.() ?? String(s.text).slice(0, MOST);
  return {
    text,
    method: s.method === "unigram" ? "unigram" : "bpe",
    merges: whole(s.merges, 65_000, props.merges),
    size: whole(s.size, props.sizes.length - 1, props.size),
    word: words(text).includes(s.word) ? s.word : longest(text),
    open: s.open === true || s.open === "true",
  };
}

const hex = (bytes) => bytes.map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join(" ");
const log = (x) => x.toFixed(1).replace("-", "−");

// A piece in letters; bytes that are no whole character as <E2>.
function letters(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return bytes.map((b) => `<${hex([b])}>`).join("");
  }
}

function build({ props, tensors, state, update, say }) {
  const { models, samples, n_embd, context, sizes } = props;
  const bpe = bytePairs(tensors.merges.data);
  const N = tensors.merges.shape[0];
  const unigrams = sizes.map((_, i) =>
    unpackUnigram({ codes: tensors[`codes.${i}`].data, lengths: tensors[`lengths.${i}`].data, scores: tensors[`scores.${i}`].data }),
  );
  const merges = (s = state()) => Math.min(s.merges, N);
  const go = (patch) => (update(patch), say(inWords()));

  // What the tokenizer of this state makes of a text: [{ text, bytes }].
  function cut(text, s = state()) {
    if (s.method === "bpe") return bpe.encode(text, merges(s)).map((id) => ({ text: letters(bpe.pieces[id]), bytes: bpe.pieces[id] }));
    const model = unigrams[s.size];
    return model.encode(text).map((id) => {
      const piece = model.piece(id)?.replaceAll("\u2581", " ");
      const bytes = piece === undefined ? [id - 3] : utf8(piece);
      return { text: piece ?? `<${hex(bytes)}>`, bytes };
    });
  }
  const size = (s = state()) => (s.method === "bpe" ? 256 + merges(s) : unigrams[s.size].size);

  // Controls
  const line = textInput({ label: "Text", most: MOST, oninput: (text) => go({ text }) });
  const sample = select({
    label: "Or take",
    options: [["", "an example"], ...samples.map(([name]) => [name, name])],
    onchange: (name) => name && go({ text: samples.find(([n]) => n === name)[1] }),
  });
  const method = choice({ label: "Method", options: METHODS, onchange: (m) => go({ method: m }) });
  const steps = slider({
    label: "Merges",
    count: N + 1,
    say: (n) => `${count(n)} of ${count(N)}, V = ${count(256 + n)}${n ? `; the last one made “${letters(bpe.pieces[255 + n])}”` : ": bytes"}`,
    oninput: (n) => go({ merges: n }),
  });
  const before = button("Undo the last merge in this text", () => go({ merges: bpe.around(state().text, merges()).last ?? merges() }));
  const after = button("Next merge in this text", () => go({ merges: bpe.around(state().text, merges()).next ?? merges() }));
  const walk = h("div", { class: "lf-actions" }, before, after);
  const vocabulary = choice({ label: "Vocabulary", options: sizes.map((V, i) => [`${i}`, count(V)]), onchange: (i) => go({ size: i }) });

  // Picture
  const chips = h("ol", { style: CHIPS, "aria-label": "Pieces, each with its bytes beneath" });
  const perChar = meter({ label: "Tokens a character", max: 4 });
  const costs = meter({ label: "Embedding, V × C", max: (256 + N) * n_embd });
  const reach = meter({ label: `Context of ${context} tokens`, max: 30 });
  const meters = h("div", { style: "display:grid;gap:.75rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr))" }, perChar.node, costs.node, reach.node);
  const paid = h("table", { class: "lf-table" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { class: "lf-panel" }, quiz(), verdict, paid);
  const word = select({ label: "One word, _ for a space", options: [], onchange: (w) => go({ word: w }) });
  const drawing = h("div", { class: "lf-scroll", style: "max-height:none", role: "region", tabindex: 0, "aria-label": "Lattice of the word", "data-lm-suppress-shortcuts": "true" });
  const ways = h("p", {});
  const replayed = h("ol", { style: "margin:0;padding-left:1.5rem" });
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({ label: "The pieces in numbers", build: numbers });

  function inWords() {
    const s = state();
    const pieces = cut(s.text, s).length;
    const n = [...s.text].length;
    return `${s.method === "bpe" ? `BPE with ${count(merges(s))} merges` : `Unigram with ${count(size(s))} ids`}: ${count(pieces)} tokens for ${count(n)} characters, ${n ? (pieces / n).toFixed(2) : 0} a character.`;
  }

  function numbers() {
    const s = state();
    return {
      caption: `Each piece of the text, in order: ${inWords()}`,
      columns: ["place", "piece", "bytes"],
      rows: cut(s.text, s).map((p, i) => [`${i + 1}`, p.text.replaceAll(" ", "_").replaceAll("\n", "\\n"), hex(p.bytes)]),
    };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const pieces = cut(s.text, s);
    const chars = [...s.text].length;
    const rate = chars ? pieces.length / chars : 0;
    const V = size(s);
    line.set(s.text);
    sample.set(samples.find(([, text]) => text === s.text)?.[0] ?? "");
    method.set(s.method);
    steps.set(merges(s));
    vocabulary.set(`${s.size}`);
    steps.node.hidden = walk.hidden = s.method !== "bpe";
    vocabulary.node.hidden = s.method === "bpe";
    if (s.method === "bpe") {
      const { next, last } = bpe.around(s.text, merges(s));
      before.disabled = last === null;
      after.disabled = next === null;
    }
    chips.replaceChildren(
      ...pieces.map((p) =>
        h("li", { style: CHIP }, h("b", { style: `${MONO};font-weight:600;font-size:15px` }, token(p.text)), h("span", { style: `${MONO};font-size:14px;color:var(--soft)` }, hex(p.bytes))),
      ),
    );
    perChar.set(rate, rate.toFixed(2));
    costs.set(V * n_embd, `${count(V)} × ${n_embd} = ${count(V * n_embd)}`);
    reach.set(rate ? context / rate : 0, rate ? `${(context / rate).toFixed(1)} characters` : "no text");
    paidFor(V, s.open);
    panel.classList.toggle("lf-locked", !s.open);
    panel.firstChild.hidden = s.open;
    paid.hidden = !s.open;
    inside(s);
    readout.replaceChildren(
      h("span", {}, `${count(chars)} characters, ${count(utf8(s.text).length)} bytes, `, h("b", {}, `${count(pieces.length)} tokens`), `: ${rate.toFixed(2)} a character`),
      h("span", {}, `V = ${count(V)}: `, h("b", {}, count(V * n_embd)), " numbers in the embedding"),
    );
    table.refresh();
  }

  // The three models of the chapter; the one whose vocabulary is nearest is marked.
  function paidFor(V, open) {
    if (!open) return paid.replaceChildren();
    const near = models.reduce((a, b) => (Math.abs(Math.log(b.V / V)) < Math.abs(Math.log(a.V / V)) ? b : a));
    const top = Math.max(...models.map((m) => m.bits));
    const head = ["model", "", "bits a character", "nats a token"].map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {})));
    paid.replaceChildren(
      h("caption", { tabindex: -1 }, h("b", {}, "What the chapter’s models paid"), ", validation text; ▶ is nearest to this vocabulary"),
      h("thead", {}, h("tr", {}, head)),
      h(
        "tbody",
        {},
        models.map((m) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", style: m === near ? "font-weight:700" : "" }, `${m === near ? "▶ " : ""}${m.name}`),
            h("td", { class: "lf-bar", style: "width:34%", "aria-hidden": "true" }, h("div", {}, h("i", { class: "lf-fill", style: `width:${(100 * m.bits) / top}%` }))),
            h("td", {}, nats(m.bits)),
            h("td", {}, nats(m.loss)),
          ),
        ),
      ),
    );
  }

  // One word: every piece that fits, the best way, and the merges that cut it.
  function inside(s) {
    const found = [...new Set(words(s.text))];
    word.input.replaceChildren(...found.map((w) => h("option", { value: w }, w.replaceAll(" ", "_").replaceAll("\n", "\\n"))));
    word.set(s.word);
    const shown = [...s.word].slice(0, LONGEST).join("");
    const model = unigrams[s.size];
    const chars = model.blanks(shown);
    const arcs = model.lattice(chars);
    const { path, total } = model.best(chars, arcs);
    const sum = `${path.map((a) => `${plain(a.text)} (${log(a.score)})`).join(" + ")} = ${log(total)}`;
    drawing.replaceChildren(chars.length ? picture(chars, arcs, path, sum) : "");
    const { ids, steps: acted } = bpe.replay(shown, merges(s));
    const joined = (list) => list.map((id) => plain(letters(bpe.pieces[id]))).join(" | ");
    ways.replaceChildren(
      h("b", {}, `Unigram, V = ${count(model.size)}: `),
      `${path.map((a) => plain(a.text)).join(" | ")}, log-probability ${log(total)}. `,
      h("b", {}, `BPE, V = ${count(256 + merges(s))}: `),
      `${joined(ids) || "nothing"}.`,
    );
    const rows = acted.length > 6 ? [...acted.slice(0, 3), null, ...acted.slice(-2)] : acted;
    replayed.replaceChildren(...rows.map((row) => h("li", { style: "list-style:none" }, row ? `merge ${count(row[0] + 1)}: ${joined(row[1])}` : "…")));
  }

  function quiz() {
    const n = utf8(props.text).length;
    const truth = bpe.encode(props.text, N).length;
    const options = [1, 2, 4, 8].map((k) => [`${k}`, k === 1 ? `${n}, as many as bytes` : `about ${Math.round(n / k)}`]);
    const near = [1, 2, 4, 8].reduce((a, b) => (Math.abs(Math.log((truth * b) / n)) < Math.abs(Math.log((truth * a) / n)) ? b : a));
    const first = select({ label: `Pieces with all ${count(N)} merges`, options: [["", "choose"], ...options], onchange() {} });
    const second = select({ label: "Fewest bits a character", options: [["", "choose"], ...models.map((m) => [m.name, m.name])], onchange() {} });
    const best = models.reduce((a, b) => (b.bits < a.bits ? b : a));
    const check = () => {
      const missing = [first, second].find((g) => !g.input.value);
      if (missing) {
        say("Choose twice first.");
        return missing.input.focus();
      }
      const hits = (first.input.value === `${near}`) + (second.input.value === best.name);
      verdict.textContent =
        `${["Neither", "One", "Both"][hits]} of your two guesses ${hits === 2 ? "hold" : "holds"}. The ${n} bytes of “${props.text}” become ` +
        `${truth} pieces, and ${best.name} needs fewest bits, ${nats(best.bits)} a character.`;
      verdict.hidden = false;
      reveal(verdict.textContent);
    };
    const reveal = (said) => {
      update({ open: true });
      paid.querySelector("caption").focus();
      say(said);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `Without merges “${props.text}” is ${n} pieces, one a byte.`),
      h("div", { class: "lf-quiz-row" }, first.node, second.node),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(inWords()))),
    );
  }

  return {
    controls: [line.node, sample.node, method.node, vocabulary.node, steps.node, walk],
    picture: h("div", { style: "display:grid;gap:1rem;grid-template-columns:minmax(0,1fr)" }, chips, meters, panel, h("div", { style: "display:grid;gap:.5rem;grid-template-columns:minmax(0,1fr)" }, word.node, drawing, ways, replayed)),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

const plain = (text) => text.replaceAll("\u2581", "_").replaceAll(" ", "_").replaceAll("\n", "\\n");

// Bars over the letters: each piece lies in the lowest lane that is free; the best way is filled and bold.
function picture(chars, arcs, path, sum) {
  const lanes = [];
  const order = [...arcs].sort((a, b) => path.includes(b) - path.includes(a) || a.to - a.from - (b.to - b.from) || a.from - b.from);
  const bars = order.map((arc) => {
    const lane = lanes.findIndex((taken) => taken.every(([from, to]) => arc.to <= from || to <= arc.from));
    const at = lane < 0 ? lanes.length : lane;
    (lanes[at] ??= []).push([arc.from, arc.to]);
    const on = path.includes(arc);
    const x = arc.from * CELL + 2;
    const width = (arc.to - arc.from) * CELL - 4;
    const y = 28 + at * LANE;
    const ink = on ? "fill:var(--paper);font-weight:700" : "fill:var(--ink)";
    const line = (text, dy, style) => h("svg:text", { x: x + width / 2, y: y + dy, "text-anchor": "middle", style: `font-size:14px;${ink};${style}` }, text);
    return [
      h("svg:rect", { x, y, width, height: LANE - 6, rx: 5, style: on ? "fill:var(--blue);stroke:var(--ink);stroke-width:2.5" : "fill:none;stroke:var(--edge);stroke-width:1" }),
      line(arc.id === null ? "bytes" : plain(arc.text), 16, arc.id === null ? "" : MONO),
      line(log(arc.score), 33, ""),
    ];
  });
  const names = chars.map((c, i) =>
    h("svg:text", { x: (i + 0.5) * CELL, y: 18, "text-anchor": "middle", style: `font-size:16px;fill:var(--ink);${MONO}` }, plain(c)),
  );
  const [width, height] = [chars.length * CELL, 28 + lanes.length * LANE];
  return h(
    "svg:svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${arcs.length} pieces fit into ${plain(chars.join(""))}. The most probable way: ${sum}.`, style: "display:block" },
    names,
    bars.flat(),
  );
}

const notes = ({ models }) => {
  const [first, last] = [models[0], models.at(-1)];
  return [
    h(
      "p",
      {},
      h("b", {}, "Try this. "),
      "Find a word that BPE and unigram cut differently at about the same V. Then take the sentence in Greek or the emoji and move the merges: what changes, and what does not?",
    ),
    h(
      "details",
      {},
      h("summary", {}, "What you should have seen"),
      h(
        "p",
        {},
        "Merges that are common elsewhere cut some words in odd places; the best way looks at the whole word. No merge was learned for Greek or emoji, so each byte stays a token whatever the slider says. " +
          `From ${first.name} to ${last.name} the vocabulary grows from ${count(first.V)} to ${count(last.V)} ids, and the text costs ${nats(last.bits)} bits a character in place of ${nats(first.bits)}, although the loss a token is ${last.loss > first.loss ? "higher" : "lower"}.`,
      ),
    ),
  ];
};

export default { render: (host) => live(host, { defaults, clean, build }) };
