// Chapter 09: BabyGPT writes a tale word by word, with the chance of each word and whether the tale keeps its promises.
import { inSentence } from "./kit/attention.mjs";
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { percent } from "./kit/text.mjs";
import { reader } from "./runtime/gpt_cache.mjs";
import { bits, ranked, sample, softmax } from "./runtime/ops.mjs";
import { promises } from "./runtime/promises.mjs";
import { rng } from "./runtime/rng.mjs";

const PIECE = / ?[A-Za-z]+|'[a-z]+|[^A-Za-z]/gu; // tokenizer.py's WordTokenizer
const MOST = 200; // characters of a beginning
const SEEDS = 1000;
const SHOWN = 5; // words that came into question
const PACE = 180; // ms a word
const KINDS = { name: "The name", wish: "The wish", count: "The count" };
const ABOUT = {
  name: "the child named last was named before",
  wish: "the toy named last was named before",
  count: "two numbers, and their sum to the end",
};
const SAYS = { none: "not made", open: "not due yet", kept: "kept", broken: "broken" };
const MARK = { none: "–", open: "…", kept: "✓", broken: "✗" };

const whole = (v, n) => Math.min(Math.max(Math.round(Number(v) || 0), 0), n);
const word = (text) => inSentence(text.trim() || text);
const shown = (text) => ({ "\n": "end of the tale", " ": "space" })[text] ?? text.trim();

const defaults = ({ prompts, seed }) => ({ prompt: prompts[0], how: "draw", seed, n: 0, at: 0, open: false });
function clean(s, { tokens, prompts }) {
  const known = new Set(tokens);
  const prompt = [...String(s.prompt ?? prompts[0])].filter((c) => c !== "\n" && known.has(c)).slice(0, MOST).join("");
  return {
    prompt,
    how: s.how === "likely" ? "likely" : "draw",
    seed: whole(s.seed, SEEDS - 1),
    n: whole(s.n, 9999), // words written: cut to the tale where it is drawn
    at: whole(s.at, 9999), // the word that is looked at, counted from 1
    open: String(s.open) === "true",
  };
}

function build({ props, tensors, state, update, say }) {
  const { tokens, prompts, rules } = props;
  const ids = new Map(tokens.map((text, i) => [text, i]));
  const model = reader({ tensors, config: props.config });
  const BREAK = ids.get("\n");

  // A tale is made as far as somebody looks, and kept: the same beginning, way and seed give the same one.
  let made = {};
  function tale(s = state()) {
    const key = `${s.how} ${s.how === "draw" ? s.seed : ""} ${s.prompt}`;
    if (made.key !== key) {
      const start = (s.prompt.match(PIECE) ?? []).flatMap((piece) => (ids.has(piece) ? [piece] : [...piece]));
      const cache = model.empty();
      let logits = model.read(cache, BREAK);
      for (const piece of start) logits = model.read(cache, ids.get(piece));
      made = { key, start, cache, logits, random: rng(s.seed), words: [], ended: false };
    }
    return made;
  }
  /** The first n words of the tale: each { id, p: the chances of all }. Fewer if it ends before. */
  function upTo(n, s = state()) {
    const t = tale(s);
    while (t.words.length < n && !t.ended) {
      const p = softmax(t.logits);
      const id = s.how === "draw" ? sample(p, t.random()) : ranked(p)[0];
      t.words.push({ id, p });
      t.full = t.cache.length >= model.block_size;
      t.ended = id === BREAK || t.full;
      if (!t.ended) t.logits = model.read(t.cache, id);
    }
    return t.words.slice(0, n);
  }
  const atEnd = (n, s = state()) => tale(s).ended && n >= tale(s).words.length;
  const textOf = (s = state()) => s.prompt + upTo(s.n, s).map(({ id }) => tokens[id]).join("");
  const judged = (s = state()) => promises(textOf(s), atEnd(s.n, s), rules);

  // Controls
  const go = (patch, words) => (update(patch), say(words ?? finding()));
  const fresh = (patch) => {
    stop();
    const s = { ...state(), ...patch };
    const n = s.open ? upTo(9999, clean(s, props)).length : 0;
    go({ ...patch, n, at: n && Math.max(1, dueAt(clean({ ...s, n }, props))) });
  };
  const named = (text) => text || "(an empty page)";
  const pick = select({
    label: "Beginning",
    options: [...prompts.map((text, i) => [String(i), named(text)]), ["own", "your own, below"]],
    onchange: (i) => (i === "own" ? line.input.focus() : fresh({ prompt: prompts[i] })),
  });
  pick.node.style.minWidth = "0";
  pick.input.style.maxWidth = "100%";
  const line = textInput({ label: "The beginning, to edit", most: MOST, allowed: (c) => c !== "\n" && ids.has(c), oninput: (prompt) => fresh({ prompt }) });
  const how = choice({ label: "Next word", options: [["draw", "Drawn"], ["likely", "Likeliest"]], onchange: (value) => fresh({ how: value }) });
  const again = button("Another tale", () => fresh({ how: "draw", seed: (state().seed + 1) % SEEDS }));
  const one = button("One word", () => (stop(), step()));
  const play = button("Play", () => (timer ? stop() : start()), { "aria-pressed": "false" });
  const all = button("To the end", () => {
    stop();
    const n = upTo(9999).length;
    go({ n, at: n });
  });
  const back = button("Back to the beginning", () => (stop(), go({ n: 0, at: 0 })));

  let timer;
  const step = () => {
    const n = upTo(state().n + 1).length;
    go({ n, at: n });
    return !atEnd(n);
  };
  function start() {
    if (atEnd(state().n)) update({ n: 0, at: 0 });
    timer = setInterval(() => step() || stop(), PACE);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
  }
  function stop() {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  // A slider whose length follows the tale.
  const holder = h("div", { style: "flex:1 1 100%" });
  let scrub;
  function place(n) {
    if (scrub?.n === n) return scrub;
    const had = holder.contains(holder.getRootNode().activeElement);
    const say = (i) => (n ? `${i + 1} of ${n}: ${word(tokens[upTo(n)[i]?.id] ?? " ")}` : "none is written");
    scrub = slider({ label: "Word that is looked at", count: Math.max(n, 1), say, oninput: (i) => (stop(), go({ at: i + 1 })) });
    scrub.n = n;
    scrub.node.querySelector("input").disabled = !n;
    holder.replaceChildren(scrub.node);
    if (had) scrub.node.querySelector("input").focus();
    return scrub;
  }

  /** The word to look at first: a number where a sum is due, else the least likely of all. */
  function dueAt(s) {
    const words = upTo(s.n, s);
    const numbers = words.flatMap(({ id }, i) => (rules.numbers.includes(tokens[id].trim().toLowerCase()) ? [i + 1] : []));
    const { state: sum } = promises(textOf(s), true, rules)[2];
    if (sum === "broken" && numbers.length) return numbers.at(-1);
    let least = 0;
    words.forEach(({ id, p }, i) => p[id] < words[least].p[words[least].id] && (least = i));
    return least + 1;
  }

  // Picture
  const page = h("p", { class: "lf-story", style: "line-height:1.9;margin:0" });
  const key = h("p", { style: "font-size:14px;color:var(--soft);margin-top:.5rem" }, "Soft: the beginning. Bold: what the promises are about. Underlined: unlikely words, the thicker the less likely.");
  const verdicts = h("table", { class: "lf-table", "aria-label": "The promises of the tale" });
  const guesses = h("table", { class: "lf-table lf-bars" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.875rem;min-width:0" });
  panel.append(quiz(), verdict, verdicts, guesses);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "Every word and its chance", build: numbers });

  function quiz() {
    const options = [["", "choose"], ["name", "the name"], ["wish", "the wish"], ["count", "the count"], ["more", "more than one"], ["all", "it keeps all three"]];
    const guess = select({ label: "It breaks", options, onchange() {} });
    const show = () => {
      const s = clean({ ...defaults(props), open: true }, props);
      const n = upTo(9999, s).length;
      update({ ...s, n, at: dueAt({ ...s, n }) });
      readout.focus(); // the button that was pressed is gone
    };
    const check = () => {
      const mine = guess.input.value;
      if (!mine) return say("Choose an answer first."), guess.input.focus();
      show();
      const broken = judged().filter((p) => p.state === "broken").map((p) => p.kind);
      const right = broken.length > 1 ? "more" : (broken[0] ?? "all");
      const found = judged().map((p) => `${p.kind} ${SAYS[p.state]}`).join(", ");
      verdict.textContent = `${mine === right ? "Right" : "Not quite"}: ${found}.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), "The tale has begun. It will name a child, a wish, and two numbers with their sum. Which of the three promises will BabyGPT break in this tale?"),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => (show(), say(finding())))),
    );
  }

  function finding(s = state()) {
    const words = upTo(s.n, s);
    const at = Math.min(s.at, words.length);
    const found = judged(s).map((p) => `${p.kind} ${SAYS[p.state]}`).join(", ");
    if (!at) return "Nothing is written yet.";
    const { id, p } = words[at - 1];
    const other = ranked(p).find((i) => i !== id);
    return `Word ${at}, ${word(tokens[id])}: ${percent(p[id])}; ${p[other] > p[id] ? "likelier was" : "next likeliest"} ${word(tokens[other])}, ${percent(p[other])}. Promises: ${found}.`;
  }

  function numbers() {
    const words = upTo(state().n);
    return {
      caption: `${words.length} words and signs, each with its chance when it was its turn.`,
      columns: ["place", "word", "chance", "bits", "another", "its chance"],
      rows: words.map(({ id, p }, i) => {
        const other = ranked(p).find((j) => j !== id);
        return [String(i + 1), shown(tokens[id]), percent(p[id]), bits(-Math.log(p[id])).toFixed(2), shown(tokens[other]), percent(p[other])];
      }),
    };
  }

  // Which characters of a text a promise is about.
  function bold(found, text) {
    const said = new Set(found.flatMap((p) => (p.state === "none" ? [] : p.said)));
    const on = new Uint8Array(text.length);
    for (const w of said) for (const m of text.matchAll(new RegExp(`\\b${w}\\b`, "gi"))) on.fill(1, m.index, m.index + w.length);
    return on;
  }

  function draw(s = state()) {
    const words = upTo(s.n, s);
    const at = Math.min(s.at, words.length);
    const found = judged(s);
    const ended = atEnd(s.n, s);
    pick.set(prompts.includes(s.prompt) ? String(prompts.indexOf(s.prompt)) : "own");
    line.set(s.prompt);
    how.set(s.how);
    place(words.length).set(Math.max(at - 1, 0));
    panel.classList.toggle("lf-locked", !s.open);
    verdicts.hidden = guesses.hidden = !s.open;
    for (const b of [one, play, all, back, again]) b.disabled = !s.open;
    one.disabled = all.disabled = !s.open || ended;

    const text = textOf(s);
    const on = bold(found, text);
    const start = h("span", { style: "color:var(--soft)" });
    for (let i = 0; i < s.prompt.length; i++) start.append(on[i] ? h("b", {}, s.prompt[i]) : s.prompt[i]);
    start.normalize();
    let place_ = s.prompt.length;
    const spans = words.map(({ id, p }, i) => {
      const surprise = bits(-Math.log(p[id]));
      const thick = surprise < 1 ? "" : `border-bottom:${Math.min(8, surprise).toFixed(1)}px solid var(--orange);`;
      const here = i + 1 === at ? "outline:2px solid var(--ink);outline-offset:1px;border-radius:2px;" : "";
      const piece = tokens[id] === "\n" ? " ¶" : tokens[id];
      const heavy = on[place_ + (tokens[id].length > 1 ? 1 : 0)] ? "font-weight:700;" : "";
      place_ += tokens[id].length;
      const lead = piece.startsWith(" ") ? " " : "";
      const node = h("span", { style: `${thick}${here}${heavy}cursor:pointer` }, piece.slice(lead.length));
      node.addEventListener("click", () => (stop(), go({ at: i + 1 })));
      return [lead, node];
    });
    page.replaceChildren(start, ...spans.flat(), ended ? "" : s.open ? " …" : " …");

    verdicts.replaceChildren(
      h("caption", {}, h("b", {}, "Promises"), ended ? "" : ", so far"),
      h(
        "tbody",
        {},
        found.map(({ kind, state: now, said }) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", style: "vertical-align:top" }, KINDS[kind]),
            h("td", { style: "white-space:normal;text-align:left" }, said.join(", ") || "–", h("br"), h("span", { style: "color:var(--soft)" }, ABOUT[kind])),
            h("td", { style: `vertical-align:top;font-weight:600${now === "broken" ? ";color:var(--orange)" : ""}` }, h("span", { "aria-hidden": "true" }, `${MARK[now]} `), SAYS[now]),
          ),
        ),
      ),
    );

    if (at) {
      const { id, p } = words[at - 1];
      const top = ranked(p).slice(0, SHOWN);
      if (!top.includes(id)) top.push(id);
      const rest = Math.max(0, 1 - top.reduce((total, i) => total + p[i], 0));
      const row = (name, v, chosen) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", style: chosen ? "font-weight:700" : "" }, name, chosen ? h("span", { class: "lf-hidden" }, ", written") : ""),
          h("td", { class: "lf-bar", "aria-hidden": "true" }, h("div", {}, h("i", { class: "lf-fill", style: `width:${(100 * v).toFixed(2)}%` }))),
          h("td", {}, percent(v)),
        );
      guesses.replaceChildren(
        h("caption", {}, h("b", {}, `Word ${at}`), ": what came into question; bold was written"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col", style: "width:7rem" }, "word"), h("td", {}), h("th", { scope: "col" }, "chance"))),
        h("tbody", {}, top.map((i) => row(shown(tokens[i]), p[i], i === id)), row("all others", rest, false)),
      );
    } else guesses.replaceChildren(h("caption", {}, "No word is written yet."));

    if (s.open) readout.replaceChildren(h("span", {}, finding(s)));
    else readout.textContent = "The tale is begun. Answer the question, and see how it goes on.";
    table.refresh();
  }

  return {
    controls: [pick.node, how.node, line.node, h("div", { class: "lf-actions", style: "flex:1 1 100%" }, play, one, all, back, again), holder],
    picture: h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:1rem 1.5rem;align-items:start" }, h("div", { style: "min-width:0" }, page, key), panel),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(),
    draw,
    reset: () => {
      stop();
      verdict.hidden = true;
    },
    kept: () => {
      if (!state().open) return {};
      const s = clean({ ...defaults(props), open: true }, props);
      const n = upTo(9999, s).length;
      return { open: true, n, at: dueAt({ ...s, n }) };
    },
    stop,
  };
}

const notes = () => [
  h("p", {}, h("b", {}, "Try this. "), "Take the likeliest word each time: are more promises kept? Then write a beginning of your own with a name and a toy, and press Another tale a few times. Which promise is broken most often, and how sure was the model when it broke it?"),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      "Most words are nearly certain: they finish a phrase that the model knows. Doubt sits where the tale must choose, and where something said long ago must come back. " +
        "There it knows what kind of word is due: before a name nearly all its guesses are names. Which one, it knows least for children and better for toys. " +
        "The likeliest word is no cure, since a wrong name may well be the likeliest, and the tale is then the same every time.",
    ),
    h("p", {}, "The verdicts come from simple rules on the text. No tale of the grammar breaks one. They do not see everything: two children of the tale who change places pass for kept."),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
