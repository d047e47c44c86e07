// Chapter 15: four ways to know a position. Shift all positions: which scores stay, and what is the loss then?
import { inSentence } from "./kit/attention.mjs";
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { heatmap } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { lossChart } from "./kit/losses.mjs";
import { tableView } from "./kit/table.mjs";
import { count, token } from "./kit/text.mjs";
import { slice, tokenLosses } from "./runtime/nn.mjs";
import { positioned } from "./runtime/positions.mjs";
import { rate } from "./runtime/rotary.mjs";

const OWN = "own";
const BREAK = "¶"; // a line of text cannot hold a line break
const PAPER = 10000; // the base of the trained models
const LOOK = { rotary: "train", learned: "val", sinusoids: "before", none: "guess" };

const most = ({ trained, length }, text) => Math.min(length - trained, length - [...text].length);
const defaults = ({ texts, thetas }) => ({ scheme: "rotary", text: texts[0], head: 0, shift: 0, theta: thetas.indexOf(PAPER), t: [...texts[0]].length - 1, s: 0, open: false });
const whole = (v, n, otherwise = 0) => (v !== "" && Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), 0), n - 1) : otherwise);
const clean = (s, props) => {
  const { chars, texts, trained, thetas, schemes, config } = props;
  const kept = [...String(s.text)].filter((c) => chars.includes(c)).slice(0, trained).join("");
  const text = [...kept].length > 1 ? kept : texts[0];
  const T = [...text].length;
  return {
    scheme: schemes.some(([name]) => name === s.scheme) ? s.scheme : "rotary",
    text,
    head: whole(s.head, config.n_head),
    shift: whole(s.shift, most(props, text) + 1),
    theta: whole(s.theta, thetas.length, thetas.indexOf(PAPER)),
    t: whole(s.t, T),
    s: whole(s.s, T),
    open: String(s.open) === "true",
  };
};

const bits = (x) => x.toFixed(2);
const signed = (x) => `${x < 0 ? "−" : ""}${Math.abs(x).toFixed(3)}`;

function build({ props, tensors, state, update, say }) {
  const { chars, texts, schemes, trained, length, thetas, config, curves } = props;
  const nameOf = Object.fromEntries(schemes);
  const C = tensors["rotary.token_embedding.weight"].shape[1];
  const D = C / config.n_head;

  // One run of a model at a shift, kept until the text changes.
  let kept = { text: "", runs: new Map() };
  function run(s, scheme, shift) {
    if (kept.text !== s.text) kept = { text: s.text, runs: new Map() };
    const theta = scheme === "rotary" ? thetas[s.theta] : PAPER;
    const key = `${scheme} ${shift} ${theta}`;
    if (!kept.runs.has(key)) {
      if (kept.runs.size > 60) kept.runs.clear();
      const ids = [...s.text].map((c) => chars.indexOf(c));
      const { logits, scores } = positioned({ tensors, prefix: `${scheme}.`, config, ids, rotary: scheme === "rotary", start: shift, theta });
      const losses = tokenLosses(logits, [...ids.slice(1), -1]).subarray(0, ids.length - 1);
      kept.runs.set(key, { scores: scores[0], bits: losses.reduce((a, b) => a + b, 0) / losses.length / Math.LN2 });
    }
    return kept.runs.get(key);
  }
  /** How far the shift moves a score that the mask lets through, at most, over the heads of the first layer. */
  function moved(s, scheme) {
    const [a, b] = [0, s.shift].map((shift) => run(s, scheme, shift).scores);
    const T = a.shape[1];
    return a.data.reduce((top, v, i) => (i % T <= Math.floor(i / T) % T ? Math.max(top, Math.abs(v - b.data[i])) : top), 0);
  }

  // Controls
  const go = (patch) => (update(patch), say(finding()));
  const way = choice({ label: "How the model knows positions", options: schemes, onchange: (scheme) => go({ scheme }) });
  const menu = select({
    label: "Text",
    options: [...texts.map((text, i) => [String(i), text.replaceAll("\n", BREAK)]), [OWN, "your own, below"]],
    onchange: (i) => (i === OWN ? line.input.focus() : go({ text: texts[i], t: [...texts[i]].length - 1, s: 0 })),
  });
  menu.input.style.maxWidth = "100%";
  menu.node.style.minWidth = "0";
  const line = textInput({
    label: `What the model reads${chars.includes("\n") ? ` (${BREAK}: a line break)` : ""}`,
    most: trained,
    allowed: (c) => chars.includes(c === BREAK ? "\n" : c),
    oninput: (text) => [...text].length > 1 && go({ text: text.replaceAll(BREAK, "\n"), t: [...text].length - 1, s: 0 }),
  });
  const some = (options) => {
    const made = slider(options);
    made.node.style.flex = "1 1 10.5rem";
    return made;
  };
  const shift = some({ label: "Shift of all positions", count: length - trained + 1, say: (i) => (i ? `by ${i}` : "none"), oninput: (i) => go({ shift: i }) });
  const shiftInput = shift.node.querySelector("input");
  const head = some({ label: "Head", count: config.n_head, say: (i) => `${i + 1} of ${config.n_head}`, oninput: (i) => go({ head: i }) });
  const base = some({ label: "Base", count: thetas.length, say: (i) => `${count(thetas[i])}${thetas[i] === PAPER ? ", trained" : ""}`, oninput: (i) => go({ theta: i, scheme: "rotary" }) });

  // Picture
  const cell = h("p", { class: "lf-cell" });
  const map = heatmap({
    label: "Scores of the head before the mask is applied. Rows: the character that reads. Columns: the character that is read. Arrow keys move.",
    rows: "reads",
    columns: "is read",
    least: 18,
    most: 34,
    onmove: (t, s) => (update({ t, s }), say(words())),
    onhover: (t, s) => (cell.textContent = words({ ...state(), t, s })),
  });
  const scaleOf = h("p", { style: "font-size:14px;color:var(--soft)" });
  map.node.append(cell, scaleOf);
  const dials = h("div", { class: "lf-panels", role: "group", style: "grid-template-columns:repeat(4,minmax(0,1fr));max-width:24rem" });
  const dialWords = h("p", { style: "font-size:14px;color:var(--soft)" });
  const answers = h("tbody", {});
  const table4 = h(
    "table",
    { class: "lf-table" },
    h("caption", {}, h("b", {}, "All four under this shift"), ": how far a score moves at most, and bits per character of this text"),
    h("thead", {}, h("tr", {}, ["positions", "moves by", "before", "after"].map((name) => h("th", { scope: "col" }, name)))),
    answers,
  );
  const compared = h("div", {}, table4);
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const side = h("div", { style: "display:grid;gap:1rem;min-width:0;align-content:start" }, quiz(), verdict, compared, dials, dialWords);
  const chart = lossChart({ keys: Object.fromEntries(schemes.map(([s, name]) => [LOOK[s], name])) });
  const farther = h("div", { style: "min-width:0" }, h("p", {}, h("b", {}, "Longer than they were trained for"), `: bits per character at each position, held-out text. The upright line is the trained length, ${trained}.`), chart.node);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "The scores in numbers", build: numbers });

  function quiz() {
    const guess = select({ label: "How many of the four stay?", options: [["", "choose"], ...[0, 1, 2, 3, 4].map((n) => [String(n), String(n)])], onchange() {} });
    const right = schemes.map(([s]) => s).filter((s) => moved({ ...defaults(props), shift: props.shift }, s) < 0.001);
    const reveal = (text) => {
      update({ ...defaults(props), shift: props.shift, open: true });
      readout.focus();
      say(text());
    };
    const check = () => {
      if (!guess.input.value) {
        say("Choose a number first.");
        return guess.input.focus();
      }
      verdict.textContent = `${Number(guess.input.value) === right.length ? "Right" : "Not so"}: ${right.length} stay, ${right.map((s) => `“${nameOf[s]}”`).join(" and ")}. Without positions there is nothing to shift; turned ones keep every distance.`;
      verdict.hidden = false;
      reveal(() => verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz", role: "group", "aria-label": "Predict first" },
      h("p", {}, h("b", {}, "Predict first. "), `Each model has a map of scores like this one. Now the same text stands ${props.shift} positions later. How many of the four maps stay as they are?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(finding))),
    );
  }

  function finding(s = state()) {
    const there = run(s, s.scheme, s.shift).bits;
    const name = nameOf[s.scheme];
    const turned = s.scheme === "rotary" && thetas[s.theta] !== PAPER ? ` with the base ${count(thetas[s.theta])} in place of ${count(PAPER)}` : "";
    if (!s.shift) return `Positions: ${name}${turned}. No shift: ${bits(there)} bits per character of this text.`;
    const far = moved(s, s.scheme);
    return `Positions: ${name}${turned}. Shifted by ${s.shift}, ${far < 0.001 ? "no score of the first layer moves" : `scores of the first layer move by up to ${far.toFixed(3)}`}; this text costs ${bits(there)} bits per character, ${bits(run(s, s.scheme, 0).bits)} before.`;
  }
  function words(s = state()) {
    const reads = [...s.text];
    const name = (i) => `${inSentence(reads[i])} at ${s.shift + i}`;
    if (s.s > s.t) return `${name(s.t)} may not read ${name(s.s)}`;
    const value = slice(run(s, s.scheme, s.shift).scores, s.head).data[s.t * reads.length + s.s];
    return `${name(s.t)} reads ${name(s.s)}, distance ${s.t - s.s}: score ${signed(value)}`;
  }
  function numbers() {
    const s = state();
    const reads = [...s.text];
    const values = slice(run(s, s.scheme, s.shift).scores, s.head).data;
    const names = reads.map((c, i) => `${s.shift + i} ${inSentence(c)}`);
    return {
      caption: `Scores of head ${s.head + 1}, positions: ${nameOf[s.scheme]}, shift ${s.shift}. Row: the character that reads; column: the one that is read.`,
      columns: ["reads", ...names],
      rows: names.map((name, t) => [name, ...reads.map((_, k) => (k > t ? "hidden" : signed(values[t * reads.length + k])))]),
    };
  }

  function drawDials(s) {
    const turned = s.scheme === "rotary";
    dials.style.display = turned ? "" : "none";
    const [q, k] = [s.shift + s.t, s.shift + s.s];
    dialWords.textContent = turned
      ? `One dial a pair of channels. Solid blue: how far the query at ${q} is turned; dashed orange: the key at ${k}. The angle between them is the distance ${s.t - s.s} times the rate of the pair.`
      : s.scheme === "none"
        ? "Nothing tells this model where a character stands, except that the mask hides what comes later."
        : `A row of the table is added to each character: rows ${s.shift} to ${s.shift + [...s.text].length - 1}. Rows from ${trained} on were never used in training.`;
    if (!turned) return dials.replaceChildren();
    dials.setAttribute("aria-label", `Turns of the ${D / 2} pairs of channels`);
    dials.replaceChildren(
      ...Array.from({ length: D / 2 }, (_, i) => {
        const each = rate(D, i, thetas[s.theta]);
        const hand = (position, style) => {
          const angle = position * each;
          return h("svg:line", { x1: 0, y1: 0, x2: 26 * Math.cos(angle), y2: -26 * Math.sin(angle), style });
        };
        const degrees = (position) => Math.round(((position * each * 180) / Math.PI) % 360);
        const label = `Pair ${i + 1}: query ${degrees(q)} degrees, key ${degrees(k)} degrees`;
        return h(
          "div",
          {},
          h(
            "svg:svg",
            { viewBox: "-30 -30 60 60", role: "img", "aria-label": label, style: "max-width:4.5rem" },
            h("svg:circle", { r: 28, style: "fill:none;stroke:var(--line);stroke-width:1.5" }),
            hand(q, "stroke:var(--blue);stroke-width:3"),
            hand(k, "stroke:var(--orange);stroke-width:3;stroke-dasharray:5 3"),
          ),
          `pair ${i + 1}`,
        );
      }),
    );
  }

  const paper = matchMedia("print"); // on paper nobody is asked
  const printing = () => draw();
  paper.addEventListener("change", printing);

  let shown = "";
  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    if (paper.matches && !s.open) s = { ...s, shift: props.shift, open: true };
    const reads = [...s.text];
    way.set(s.scheme);
    const at = texts.indexOf(s.text);
    menu.set(at < 0 ? OWN : String(at));
    line.set(s.text.replaceAll("\n", BREAK));
    shiftInput.max = most(props, s.text);
    shift.set(s.shift);
    head.set(s.head);
    base.set(s.theta);
    const [here, now] = [0, s.shift].map((by) => slice(run(s, s.scheme, by).scores, s.head).data);
    const seen = (i) => i % reads.length <= Math.floor(i / reads.length);
    const top = [here, now].reduce((a, row) => row.reduce((b, v, i) => (seen(i) ? Math.max(b, Math.abs(v)) : b), a), 1e-9);
    if (shown !== s.text) map.names(reads.map((c) => token(c)), reads.map((c) => token(c)));
    shown = s.text;
    map.draw(Float32Array.from(now, (v, i) => (seen(i) ? v / top : NaN)), { diverging: true, theme });
    map.cursor(s.t, s.s);
    cell.textContent = words(s);
    scaleOf.textContent = `Shades: 100 % is a score of ${top.toFixed(2)}, the largest of this head before or after the shift. Blue is above zero, orange below.`;
    side.classList.toggle("lf-locked", !s.open);
    compared.hidden = !s.open;
    answers.replaceChildren(
      ...schemes.map(([scheme, name]) => {
        const cells = [moved(s, scheme).toFixed(3), ...[0, s.shift].map((by) => bits(run(s, scheme, by).bits))];
        return h("tr", {}, h("th", { scope: "row", style: scheme === s.scheme ? "font-weight:600" : "" }, name), cells.map((text) => h("td", {}, text)));
      }),
    );
    drawDials(s);
    const points = (values) => values.map((v, i) => [Math.min((i + 0.5) * props.bin, length), v]).slice(2);
    const all = Object.values(curves).flatMap((values) => values.slice(2));
    chart.set({
      label: `Bits per character by position. ${schemes.map(([s, name]) => `${name}: ${bits(curves[s][trained / props.bin - 1])} at the trained length, ${bits(curves[s].at(-1))} at the end`).join("; ")}.`,
      series: schemes.map(([s]) => [LOOK[s], points(curves[s])]),
      x: length,
      y: [Math.floor(Math.min(...all) * 2) / 2, Math.ceil(Math.max(...all) * 2) / 2],
      at: trained,
    });
    readout.replaceChildren(h("span", {}, finding(s)));
    table.refresh();
  }

  return {
    controls: [way.node, menu.node, line.node, shift.node, head.node, base.node],
    picture: h("div", { class: "lf-picture", style: "grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))" }, map.node, side),
    readout,
    more: [farther, table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    reset: () => (verdict.hidden = true),
    kept: () => (state().open ? { open: true, shift: props.shift } : {}),
    resize(width) {
      map.fit(width >= 680 ? Math.min(0.5 * width, 460) : width);
      chart.fit(width);
    },
    stop: () => paper.removeEventListener("change", printing),
  };
}

const notes = ({ shift, trained }) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    `Shift by ${shift} and go through the four. Whose loss does not change at all? Move the shift on until the text stands past position ${trained}. Then go back to rotary and change the base: the scores move now. Why?`,
  ),
  h(
    "details",
    {},
    h("summary", {}, "Answer"),
    h(
      "p",
      {},
      "The models without positions and with turned ones lose nothing by a shift: their scores never knew the place. The table and the sinusoids do, and past the trained length they read rows that training never met. Another base turns the pairs at other rates, so the same distance is another angle, and the model was trained on the old ones. A longer text is something else than a shifted one: it has distances that no training text had, and there the rotary model gets worse too, as the lower picture shows.",
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
