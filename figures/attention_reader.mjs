// Chapter 04: the trained attention layer reading a story that the reader picks or edits.
import { inSentence } from "./kit/attention.mjs";
import { bars } from "./kit/bars.mjs";
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { percent, token } from "./kit/text.mjs";
import { entropyBits, reader } from "./runtime/lookup.mjs";
import { ranked, rowOf, softmax } from "./runtime/ops.mjs";

const PIECE = / ?[A-Za-z]+|'[a-z]+|[^A-Za-z]/gu; // tokenizer.py's WordTokenizer
const MOST = 900; // characters of a story
const SHOWN = 5;
const GUESSES = [["name", "the child's name"], ["before", "the token just before it"], ["even", "all tokens alike"]]; // prettier-ignore

const whole = (v, n) => Math.min(Math.max(Math.round(Number(v) || 0), 0), n - 1);
const pieces = (text, known) => ["\n", ...(text.match(PIECE) ?? []).flatMap((piece) => (known.has(piece) ? [piece] : [...piece]))];
const two = (v) => v.toFixed(2);
const word = (text) => inSentence(text.trim() || text);

const defaults = ({ stories }) => ({ story: 0, text: "", at: stories[0].at, root: true, open: false });

function clean(s, { tokens, stories }) {
  const story = whole(s.story, stories.length);
  const known = new Set(tokens);
  const text = [...String(s.text ?? "")].filter((c) => known.has(c)).slice(0, MOST).join("");
  const n = pieces(text || stories[story].text, known).length;
  return { story, text, at: whole(s.at, n), root: String(s.root) !== "false", open: String(s.open) === "true" };
}

function build({ props, tensors, state, update, say }) {
  const { tokens: vocabulary, stories } = props;
  const ids = new Map(vocabulary.map((text, i) => [text, i]));
  const V = vocabulary.length;

  let made = {};
  function read(s = state()) {
    const text = s.text || stories[s.story].text;
    if (made.text !== text) {
      const tokens = pieces(text, ids);
      const run = (scale) => reader({ tensors, ids: tokens.map((piece) => ids.get(piece)), scale });
      made = { text, tokens, on: run(), off: run(1) };
    }
    return made;
  }
  const rows = (s = state()) => {
    const { tokens, on, off } = read(s);
    const part = (run) => ({ weights: rowOf(run.weights.data, tokens.length, s.at).slice(0, s.at + 1), p: softmax(rowOf(run.logits.data, V, s.at)) });
    return { tokens, on: part(on), off: part(off), now: part(s.root ? on : off) };
  };

  const titles = stories.map(({ text, name }, i) => [String(i), `${name}: ${text.slice(0, 32)}…`]);
  const pick = select({ label: "Story", options: titles, onchange: (i) => go({ story: Number(i), text: "", at: stories[i].at }) });
  const line = textInput({
    label: "Its text, to edit",
    most: MOST,
    allowed: (c) => ids.has(c),
    oninput: (text) => go({ text, at: pieces(text || stories[state().story].text, ids).length - 1 }),
  });
  const root = choice({ label: "Divide by √D", options: [["true", "On"], ["false", "Off"]], onchange: (on) => go({ root: on === "true" }) }); // prettier-ignore
  const reads = h("output", {});
  let who;
  const go = (patch) => (update(patch), say(finding()));

  const page = h("p", { style: "line-height:2;margin:0", "aria-hidden": "true" });
  const heard = bars({ label: "it reads", filled: "weight", marked: "even" });
  const next = bars({ label: "next token", filled: "as set", marked: "divided" });
  for (const ladder of [heard, next]) {
    ladder.node.querySelectorAll("thead th").forEach((th, i) => (th.style.width = i ? "4.5rem" : "5.5rem"));
  }
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.875rem" });
  panel.append(quiz(), verdict, heard.node, next.node);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "What every token gets", build: numbers });
  const jump = button("Before the last name", () => go({ text: "", at: stories[state().story].at }));

  // A slider whose length follows the text.
  const holder = h("div", { style: "flex:1 1 100%" });
  function scrub(n) {
    if (who?.n === n) return who;
    const had = holder.contains(holder.getRootNode().activeElement);
    who = slider({ label: "Token that reads", count: n, say: (i) => `${i + 1} of ${read().tokens.length}: ${word(read().tokens[i] ?? "")}`, oninput: (at) => go({ at }) });
    who.n = n;
    holder.replaceChildren(who.node);
    if (had) who.node.querySelector("input").focus();
    return who;
  }

  function quiz() {
    const guess = select({ label: "It reads most", options: [["", "choose"], ...GUESSES], onchange() {} });
    const show = (words) => {
      update({ ...defaults(props), open: true });
      readout.focus(); // the button that was pressed is gone
      say(words ?? finding());
    };
    const check = () => {
      if (!guess.input.value) return say("Choose an answer first."), guess.input.focus();
      const { name, at } = stories[0];
      show("");
      const { tokens, now } = rows();
      const on = (is) => now.weights.reduce((total, w, i) => total + (is(tokens[i], i) ? w : 0), 0);
      const given = { name: on((text) => text.trim() === name), before: now.weights[at], even: 1 / (at + 1) };
      const best = GUESSES.reduce((a, b) => (given[b[0]] > given[a[0]] ? b : a));
      verdict.textContent = `${guess.input.value === best[0] ? "Right" : "Not quite"}: ${name} gets ${percent(given.name)} of the weight, the token just before ${percent(given.before)}; spread evenly, each token would have ${percent(given.even)}.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `The marked token stands just before the last “${stories[0].name}” is due. What does it read most?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => show())),
    );
  }

  // Weights of equal tokens, added up, from the largest.
  function byText({ tokens }, weights) {
    const total = new Map();
    weights.forEach((w, i) => total.set(tokens[i], (total.get(tokens[i]) ?? 0) + w));
    return [...total].sort((a, b) => b[1] - a[1]);
  }

  function finding(s = state()) {
    const all = rows(s);
    const [text, w] = byText(all, all.now.weights)[0];
    const best = ranked(all.now.p)[0];
    return `${word(all.tokens[s.at])} reads ${word(text)} most, ${percent(w)}; next it expects ${word(vocabulary[best])}, ${percent(all.now.p[best])}.`;
  }

  function numbers() {
    const { tokens, now } = rows();
    return {
      caption: `What token ${state().at + 1}, ${word(tokens[state().at])}, reads. The weights add up to 1.`,
      columns: ["token", "place", "weight"],
      rows: ranked(now.weights).map((i) => [word(tokens[i]), String(i + 1), now.weights[i].toFixed(4)]),
    };
  }

  function draw(s = state()) {
    const all = rows(s);
    const { tokens, now, on } = all;
    pick.set(String(s.story));
    line.set(s.text || stories[s.story].text);
    root.set(String(s.root));
    scrub(tokens.length).set(s.at);
    panel.classList.toggle("lf-locked", !s.open);
    for (const ladder of [heard, next]) ladder.node.hidden = !s.open;

    const mark = (i) => {
      if (i === s.at) return "outline:2px solid var(--ink);border-radius:2px";
      if (i > s.at) return "color:var(--soft)";
      const w = s.open ? now.weights[i] : 0;
      return w < 0.01 ? "" : `border-bottom:${Math.min(12, 40 * w).toFixed(1)}px solid var(--blue)`;
    };
    page.replaceChildren(
      ...tokens.map((text, i) => {
        const node = h("span", { style: `${mark(i)};cursor:pointer;white-space:pre-wrap` }, i ? text : token(text));
        node.addEventListener("click", () => go({ at: i }));
        return node;
      }),
    );

    const even = (text) => tokens.slice(0, s.at + 1).filter((other) => other === text).length / (s.at + 1);
    const top = byText(all, now.weights).slice(0, SHOWN);
    const rest = 1 - top.reduce((total, [, w]) => total + w, 0);
    const shown = (text) => (text === " " ? "space" : text === "\n" ? "line break" : text.trim());
    heard.set(
      h("span", {}, h("b", {}, `${word(tokens[s.at])} reads`), ", a full bar is all the weight"),
      [...top.map(([text, w]) => [shown(text), w, even(text)]), ["all others", Math.max(rest, 0), 1 - top.reduce((total, [text]) => total + even(text), 0)]],
      1,
    );
    const order = ranked(now.p).slice(0, SHOWN);
    const left = (p) => Math.max(0, 1 - order.reduce((total, i) => total + p[i], 0));
    next.set(h("span", {}, h("b", {}, "and expects"), ", a full bar is certainty"), [...order.map((i) => [shown(vocabulary[i]), now.p[i], on.p[i]]), ["all others", left(now.p), left(on.p)]], 1);

    const best = order[0];
    const came = tokens[s.at + 1];
    const parts = [
      h("span", {}, `Scores [1, ${s.at + 1}] ${s.root ? "divided by √64" : "not divided"}, weights with `, h("b", {}, `${two(entropyBits(now.weights))} bits`), ` of ${two(Math.log2(s.at + 1))}`),
      h("span", {}, "Next: ", h("b", {}, `${word(vocabulary[best])} ${percent(now.p[best])}`), came === undefined ? "" : `; in the story it is ${word(came)}, ${percent(now.p[ids.get(came)])}`),
    ];
    if (s.open) readout.replaceChildren(...parts);
    else readout.textContent = `The marked token is ${s.at + 1} of ${tokens.length}. Answer the question, and see what it reads.`;
    table.refresh();
  }

  return {
    controls: [pick.node, root.node, holder, line.node],
    picture: h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:1rem 1.5rem;align-items:start" }, page, panel),
    readout,
    more: [table.region],
    actions: [jump, table.button],
    notes: notes(stories),
    draw,
    kept: () => ({ open: state().open }),
  };
}

const notes = ([{ name }]) => [
  h("p", {}, h("b", {}, "Try this. "), `Write another child's name in place of every “${name}” and put the marker just before the last one. Does the expected name follow? Then switch the division off: it was trained with it. What happens to the weights?`),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h("p", {}, "The expected name follows the text: nothing in the weights of the layer knows the child, only how to look one up. Without the division the scores are eight times as large and the entropy falls: the token reads one or two places and takes what it finds there. Where that is the right place, the answer grows surer; where it is not, it is surely wrong. Over the whole validation text the loss rises, as the cell above the figure prints."),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
