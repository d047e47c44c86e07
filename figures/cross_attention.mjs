// Chapter 06: which characters of a written date each digit of the ISO date is read from.
import { attentionMap, inSentence } from "./kit/attention.mjs";
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { percent, spoken, token } from "./kit/text.mjs";
import { tokenRow } from "./kit/tokens.mjs";
import { softmax } from "./runtime/ops.mjs";
import { rowOf, slice } from "./runtime/nn.mjs";
import { seenOf, translate } from "./runtime/seq2seq.mjs";

const HIDES = [
  ["none", "Nothing"],
  ["char", "This one"],
  ["word", "Its word"],
];
const VALUE = { light: "#00473a", dark: "#b9f2d0" }; // the course's color of values

const defaults = ({ text, answer }) => ({ text, step: 0, head: -1, s: Math.max(text.indexOf(answer), 0), hide: "none", open: false });
const whole = (v, from, n) => Math.min(Math.max(Math.round(Number(v) || 0), from), n - 1);
const clean = (s, { chars, most, steps, config }) => {
  const text = [...String(s.text)].filter((c) => chars.includes(c.toLowerCase())).slice(0, most).join("") || " ";
  return {
    text,
    step: whole(s.step, 0, steps),
    head: whole(s.head, -1, config.n_head),
    s: whole(s.s, 0, text.length),
    hide: HIDES.some(([name]) => name === s.hide) ? s.hide : "none",
    open: String(s.open) === "true",
  };
};

/** The words of a text: [first, last] of each. */
const wordsOf = (text) => [...text.matchAll(/[a-z0-9]+/gi)].map((m) => [m.index, m.index + m[0].length - 1]);

/** The places that the reader's choice hides, as [first, last], or nothing. */
function hiddenBy({ text, s, hide }) {
  if (hide === "none") return;
  return (hide === "word" && wordsOf(text).find(([a, b]) => a <= s && s <= b)) || [s, s];
}

function build({ props, tensors, state, update, say }) {
  const { chars, most, steps, config, answer } = props;
  const id = (c) => 2 + chars.indexOf(c.toLowerCase());
  const glyphOf = (i) => (i > 1 ? chars[i - 2] : "·");
  const now = { text: null };

  // One text, read whole and with something hidden; kept until either changes.
  function made(s = state()) {
    const range = hiddenBy(s);
    const key = JSON.stringify([s.text, range]);
    if (now.key === key) return now;
    const source = [...s.text].map(id);
    const run = (seen) => {
      const { ids, logits, cross } = translate({ tensors, config, source, seen });
      const sure = ids.map((i, t) => softmax(rowOf(logits.data, logits.shape[1], t))[i]);
      return { iso: ids.map(glyphOf), sure, cross: cross.at(-1) };
    };
    const plain = now.text === s.text ? now.plain : run(seenOf(source));
    const may = source.map((_, i) => !range || i < range[0] || i > range[1]);
    return Object.assign(now, { key, text: s.text, plain, range, may, shown: range ? run(may.map(Number)) : plain });
  }

  function weightsOf({ shown }, { head }) {
    if (head >= 0) return slice(shown.cross, head).data;
    const [H, T, S] = shown.cross.shape;
    return Float32Array.from({ length: T * S }, (_, i) => {
      let total = 0;
      for (let j = 0; j < H; j++) total += shown.cross.data[j * T * S + i];
      return total / H;
    });
  }

  const move = (patch) => {
    update(patch);
    say(finding());
  };
  const line = textInput({ label: "A date in words or numbers", most, allowed: (c) => chars.includes(c.toLowerCase()), oninput: (text) => move({ text, s: 0, hide: "none" }) });
  const stepper = slider({ label: "Decoder step", count: steps, say: (t) => `${t + 1} of ${steps}`, oninput: (step) => move({ step }) });
  const heads = choice({
    label: "Head",
    options: [["-1", "Mean of all"], ...Array.from({ length: config.n_head }, (_, i) => [String(i), String(i + 1)])],
    onchange: (head) => move({ head }),
  });
  const places = tokenRow({ label: "A character of the source", onselect: (s) => move({ s }) });
  const hides = choice({ label: "Hide from the decoder", options: HIDES, onchange: (hide) => move({ hide }) });
  const map = attentionMap({
    label: "Cross-attention",
    rows: "writes",
    columns: "is read",
    onmove: (step, s) => {
      update({ step, s });
      say(map.words(step, s));
    },
  });

  const ribbons = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible" });
  const key = h(
    "p",
    { style: "display:flex;flex-wrap:wrap;gap:0 1rem;font-size:14px;color:var(--soft)" },
    ...[
      ["var(--blue)", "▲", "q: the step asks (target)"],
      ["var(--orange)", "■", "k: found by its key (source)"],
      ["var(--value)", "●", "v: handed over (source); a ribbon's width is the weight"],
    ].map(([color, mark, text]) => h("span", {}, h("span", { style: `color:${color}`, "aria-hidden": "true" }, `${mark} `), text)),
  );
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.5rem;min-width:0" }, quiz(), verdict, ribbons, key);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });

  function quiz() {
    const words = wordsOf(props.text).map(([a, b]) => props.text.slice(a, b + 1));
    const guess = select({ label: "Your guess", options: [["", "choose"], ...words.map((w) => [w, w])], onchange() {} });
    const reveal = () => {
      update({ ...defaults(props), open: true });
      readout.focus();
    };
    const check = () => {
      if (!guess.input.value) {
        say("Choose a word first.");
        return guess.input.focus();
      }
      reveal();
      const { share, word } = reading();
      verdict.textContent = `${guess.input.value === answer ? "Right." : `You chose ${guess.input.value}.`} The first digit gives ${percent(share)} of its weight to ${word}, although it stands last: an ISO date begins with the year.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `The source is “${props.text}”. Which of its words will the first output digit read?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => (reveal(), say(finding())))),
    );
  }

  /** What the step reads: the place with the most weight, and the word that gets most in sum. */
  function reading(s = state()) {
    const m = made(s);
    const row = rowOf(weightsOf(m, s), s.text.length, s.step);
    const best = row.indexOf(Math.max(...row));
    const sums = wordsOf(s.text).map(([a, b]) => [row.slice(a, b + 1).reduce((x, y) => x + y, 0), s.text.slice(a, b + 1)]);
    const [share, word] = sums.sort((a, b) => b[0] - a[0])[0] ?? [0, "no word"];
    return { row, best, share, word };
  }

  function changed({ plain, shown }) {
    return shown.iso.flatMap((c, t) => (c === plain.iso[t] ? [] : [t]));
  }

  function finding(s = state()) {
    const m = made(s);
    const writes = `Step ${s.step + 1} writes ${spoken(m.shown.iso[s.step])}`;
    if (!s.open) return `${writes}.`;
    const { row, best, share, word } = reading(s);
    const reads = `${writes} and reads ${inSentence(s.text[best])} at ${best + 1} most, ${percent(row[best])}; the word ${word} gets ${percent(share)}.`;
    return m.range ? `${reads} ${consequence(m, s)}` : reads;
  }

  function consequence(m, s) {
    const parts = changed(m);
    const what = `With “${s.text.slice(m.range[0], m.range[1] + 1)}” hidden it writes ${m.shown.iso.join("")}`;
    return `${what}: ${parts.length ? `character${parts.length > 1 ? "s" : ""} ${parts.map((t) => t + 1).join(", ")} changed.` : "nothing changed."}`;
  }

  let width = 320;
  function drawRibbons(s, theme) {
    const m = made(s);
    const S = s.text.length;
    const cell = Math.min(width / S, 48);
    const from = (i) => width / 2 + (i + 0.5 - S / 2) * cell;
    const gap = Math.min(width / steps, 48);
    const to = width / 2 + (s.step + 0.5 - steps / 2) * gap;
    const { row } = reading(s);
    const text = (x, y, content, style = "") => h("svg:text", { x, y, "text-anchor": "middle", fill: "currentColor", style: `font-size:14px;${style}` }, content);
    const mono = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:16px;";
    const nodes = [text(0, 14, "source", "text-anchor:start;fill:var(--soft)"), text(0, 204, "target", "text-anchor:start;fill:var(--soft)")];
    const small = Math.min(4, cell / 3);
    for (let i = 0; i < S; i++) {
      const x = from(i);
      const out = !m.may[i];
      const char = s.text[i] === " " ? "␣" : s.text[i];
      const mark = s.text[i] === " " ? h("svg:path", { d: `M${x - 4} 33v4h8v-4`, fill: "none", stroke: "currentColor", opacity: out ? 0.4 : 1 }) : text(x, 38, char, `${mono}${out ? "opacity:.4" : ""}`);
      nodes.push(mark);
      if (out) nodes.push(h("svg:line", { x1: x - cell / 2, x2: x + cell / 2, y1: 33, y2: 33, stroke: "currentColor", "stroke-width": 2 }));
      else
        nodes.push(
          h("svg:rect", { x: x - small, y: 46, width: 2 * small, height: 2 * small, style: "fill:var(--orange)" }),
          h("svg:circle", { cx: x, cy: 62, r: small, style: "fill:var(--value)" }),
        );
    }
    if (s.open) {
      const drawn = [...row.keys()].filter((i) => row[i] >= 0.005).sort((a, b) => row[a] - row[b]);
      for (const i of drawn) {
        const x = from(i);
        nodes.push(h("svg:path", { d: `M${x} 68C${x} 130 ${to} 110 ${to} 178`, fill: "none", opacity: 0.6, style: "stroke:var(--value)", "stroke-width": Math.max(0.5, 18 * row[i]) }));
      }
      const named = drawn.slice(-5).filter((i) => row[i] >= 0.045).sort((a, b) => a - b);
      const ends = [-99, -99, -99];
      for (const i of named) {
        const x = Math.min(Math.max(from(i), 16), width - 16);
        const level = Math.max(ends.findIndex((end) => x - end > 34), 0);
        ends[level] = x;
        nodes.push(text(x, 88 + 18 * level, `${Math.round(100 * row[i])}%`, "font-weight:600;paint-order:stroke;stroke:var(--paper);stroke-width:4px"));
      }
    }
    m.shown.iso.forEach((c, t) => {
      const x = width / 2 + (t + 0.5 - steps / 2) * gap;
      const on = t === s.step;
      const was = m.plain.iso[t];
      nodes.push(text(x, 228, c, `${mono}${on ? "font-weight:700;" : ""}${t > s.step ? "opacity:.65" : ""}`));
      if (on) nodes.push(h("svg:path", { d: `M${x} 180l8 14h-16Z`, style: "fill:var(--blue)" }), h("svg:rect", { x: x - 12, y: 210, width: 24, height: 26, rx: 4, fill: "none", stroke: "currentColor", "stroke-width": 2 }));
      if (c !== was) nodes.push(h("svg:line", { x1: x - 9, x2: x + 9, y1: 242, y2: 242, style: "stroke:var(--orange)", "stroke-width": 3 }), text(x, 260, was, `${mono}text-decoration:line-through`));
    });
    if (changed(m).length) nodes.push(text(0, 260, "was", "text-anchor:start;fill:var(--soft)"));
    panel.style.setProperty("--value", VALUE[theme] ?? VALUE.light);
    ribbons.setAttribute("viewBox", `0 0 ${width} 268`);
    ribbons.setAttribute("aria-label", s.open ? finding(s) : `The source ${s.text} above, what is written below.`);
    ribbons.replaceChildren(...nodes);
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const m = made(s);
    const source = [...s.text];
    line.set(s.text);
    stepper.set(s.step);
    heads.set(String(s.head));
    hides.set(s.hide);
    panel.classList.toggle("lf-locked", !s.open);
    map.node.hidden = !s.open;
    map.table.button.hidden = !s.open;
    const weights = weightsOf(m, s);
    places.set(source, s.s, s.open ? rowOf(weights, source.length, s.step) : undefined);
    map.set({ reads: m.shown.iso, read: source, weights, may: (_, i) => m.may[i], theme });
    map.cursor(s.step, s.s);
    drawRibbons(s, theme);
    const put = (t) => h("b", {}, token(m.shown.iso[t]));
    const { row, best, share, word } = reading(s);
    readout.replaceChildren(
      h("span", {}, `Step ${s.step + 1} writes `, put(s.step), s.open ? ` (${percent(m.shown.sure[s.step])}) and reads ${inSentence(s.text[best])} at ${best + 1} most: ${percent(row[best])}; the word ${word} gets ${percent(share)}` : ""),
      h("span", {}, m.range ? consequence(m, s) : "Written: ", m.range ? "" : h("b", {}, m.plain.iso.join(""))),
    );
  }

  return {
    controls: [line.node, stepper.node, heads.node, hides.node, places.node],
    picture: h("div", { style: "display:grid;grid-template-columns:minmax(0,1fr);gap:1rem" }, panel, map.node),
    readout,
    more: [map.table.region],
    actions: [map.table.button],
    notes: notes(props),
    draw,
    resize(wide) {
      width = wide;
      map.fit(Math.min(wide, 640));
      draw();
    },
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

const notes = ({ text, answer, notes: seen }) => [
  h("p", {}, h("b", {}, "Try this. "), `With “${text}”, move the decoder step from the first to the last: which word is read when, and which places between the words? Then choose a character of ${answer} and hide “Its word”: which digits break? Type the same date in another order.`),
  h("details", {}, h("summary", {}, "What you should have seen"), ...seen.map((words) => h("p", {}, words))),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
