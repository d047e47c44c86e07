// Chapter 05: a model that copies, its heads as small maps, each with what its removal costs.
import { attentionMap } from "./kit/attention.mjs";
import { button, choice, slider, textInput } from "./kit/controls.mjs";
import { h, KEYS } from "./kit/dom.mjs";
import { pixels, spread } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { percent, spoken } from "./kit/text.mjs";
import { probability } from "./kit/theme.mjs";
import { tokenRow } from "./kit/tokens.mjs";
import { gpt } from "./runtime/gpt.mjs";
import { rowOf, slice, tokenLosses } from "./runtime/nn.mjs";
import { ranked, softmax } from "./runtime/ops.mjs";

const GUESSES = [
  ["hardly", "Hardly at all"],
  ["some", "By a nat or so"],
  ["guess", "Back to guessing"],
];
const WIDEST = 12; // nats: the thickest line under a letter, unless one costs more
const FULL = 4; // nats: a full bar under a head

const defaults = ({ text, place, read, induction: [layer, head], config }) => ({
  text,
  p: place,
  s: read,
  layer,
  head,
  off: "0".repeat(config.n_layer * config.n_head),
  open: false,
});
const whole = (v, from, n) => Math.min(Math.max(Math.round(Number(v) || 0), from), n - 1);
const clean = (s, { chars, most, config: { n_layer: L, n_head: H } }) => {
  const text = [...String(s.text).toLowerCase()].filter((c) => chars.includes(c)).slice(0, most).join("") || chars[0];
  return {
    text,
    p: whole(s.p, Math.min(1, text.length - 1), text.length), // the letter that is predicted
    s: whole(s.s, 0, text.length),
    layer: whole(s.layer, 0, L),
    head: whole(s.head, 0, H),
    off: Array.from({ length: L * H }, (_, i) => (String(s.off)[i] === "1" ? 1 : 0)).join(""),
    open: String(s.open) === "true",
  };
};

const nats = (x) => x.toFixed(2);
const change = (x) => `${x < -0.005 ? "−" : "+"}${nats(Math.abs(x))}`;

function build({ props, tensors, state, update, say }) {
  const { chars, config, most } = props;
  const { n_layer: L, n_head: H } = config;
  const all = Array.from({ length: L * H }, (_, i) => [Math.floor(i / H), i % H]);
  const nameOf = ([layer, head]) => `layer ${layer + 1} head ${head + 1}`;
  const silent = (off) => all.filter((_, i) => off[i] === "1");

  // The model on one text with some heads off: kept, because the eight single removals are asked for again and again.
  const kept = new Map();
  let keptText;
  function run(text, off) {
    if (keptText !== text) kept.clear();
    keptText = text;
    if (kept.has(off)) return kept.get(off);
    const ids = [...text].map((c) => chars.indexOf(c));
    const heads = {};
    for (const [layer, head] of silent(off)) (heads[layer] ??= []).push(head);
    const { logits, weights } = gpt({ tensors, config, ids, off: { heads } });
    // The loss of each letter stands at the letter itself, not at the place that predicts it.
    const losses = [NaN, ...tokenLosses(logits, [...ids.slice(1), -1]).slice(0, -1)];
    const again = ids.flatMap((id, i) => (i && ids.indexOf(ids[i - 1]) < i - 1 ? [i] : []));
    const counted = again.length ? again : ids.map((_, i) => i).slice(1);
    const mean = counted.reduce((sum, i) => sum + losses[i], 0) / Math.max(counted.length, 1);
    const made = { ids, logits, weights, losses, again, mean };
    kept.set(off, made);
    return made;
  }
  let widest = WIDEST;
  const none = "0".repeat(L * H);
  const alone = (i) => none.slice(0, i) + "1" + none.slice(i + 1);

  // Controls
  const go = (patch, words) => {
    update(patch);
    say(words?.() ?? finding());
  };
  const line = textInput({ label: "Letters and spaces", most, allowed: (c) => chars.includes(c.toLowerCase()), oninput: (text) => go({ text, p: text.length - 1, s: 0 }) });
  const place = slider({
    label: "Letter that is predicted",
    count: 2,
    say: (i) => (state().text.length > 1 ? `${spoken(state().text[i + 1])}, place ${i + 2} of ${state().text.length}` : "none"),
    oninput: (i) => go({ p: i + 1 }),
  });
  const range = place.node.querySelector("input");
  const letters = tokenRow({ label: "What each letter costs", unit: "nats", show: (w) => (Number.isNaN(w) ? "–" : (w * widest).toFixed(1)), onselect: (p) => go({ p }) });
  const map = attentionMap({
    label: "Attention of the chosen head",
    onmove: (t, s) => go({ p: Math.min(t + 1, state().text.length - 1), s }, () => map.words(t, s)),
  });

  // One card a head
  const cards = all.map(([layer, head], i) => {
    const canvas = h("canvas", { width: 96, height: 96, style: "display:block;width:100%;aspect-ratio:1;image-rendering:pixelated" });
    const pick = h(
      "button",
      { type: "button", class: "lf-token", ...KEYS, style: "display:block;width:100%;padding:3px", onclick: () => go({ layer, head }, () => `${nameOf([layer, head])} enlarged. ${cardWords(i)}`) },
      canvas,
    );
    const fill = h("div", { class: "lf-fill", style: "inset:0 auto 0 0" });
    const number = h("span", { style: "font-size:14px;line-height:18px" });
    const bar = h("div", { class: "lf-meter-bar", "aria-hidden": "true", style: "height:8px" }, fill);
    const flip = h("button", {
      type: "button",
      role: "switch",
      class: "lf-button",
      ...KEYS,
      style: "width:100%;padding:0 .25rem",
      onclick: () => {
        const { off } = state();
        go({ off: off.slice(0, i) + (off[i] === "1" ? "0" : "1") + off.slice(i + 1), open: true });
      },
    });
    const node = h("div", { style: "display:grid;gap:4px;min-width:0" }, h("span", { style: "font-size:14px;line-height:18px" }, `Head ${head + 1}`), pick, bar, number, flip);
    return { node, canvas, pick, fill, number, flip };
  });
  const cardWords = (i) => (state().open ? `Off alone: ${change(run(state().text, alone(i)).mean - run(state().text, none).mean)} nats.` : "");
  const grid = h(
    "div",
    { style: "display:grid;gap:.75rem;min-width:0" },
    Array.from({ length: L }, (_, layer) =>
      h(
        "div",
        { role: "group", "aria-label": `Layer ${layer + 1}` },
        h("b", { style: "font-size:14px;font-weight:600" }, `Layer ${layer + 1}`),
        h("div", { style: `display:grid;grid-template-columns:repeat(${H},minmax(0,1fr));gap:.5rem;margin-top:.25rem` }, cards.slice(layer * H, (layer + 1) * H).map((card) => card.node)),
      ),
    ),
  );
  const about = h("p", { style: "font-size:14px;color:var(--soft)" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.75rem;min-width:0" }, quiz(), verdict, grid, about);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });

  function quiz() {
    const which = nameOf(props.induction);
    let mine = "";
    const guess = choice({ label: "Your guess", options: GUESSES, onchange: (value) => (guess.set((mine = value)), undefined) });
    guess.set("");
    const reveal = () => {
      update({ ...defaults(props), open: true });
      readout.focus();
    };
    const check = () => {
      if (!mine) return say("Choose an answer first.");
      reveal();
      const cost = (pair) => change(run(props.text, alone(all.findIndex(([a, b]) => a === pair[0] && b === pair[1]))).mean - run(props.text, none).mean);
      verdict.textContent =
        `${mine === "hardly" ? "Right." : "It hardly rises."} Without ${which} the copied letters cost ${cost(props.induction)} nats: the other heads of layer 2 do the same work. ` +
        `Without ${nameOf(props.helper)}, which looks one place back, they cost ${cost(props.helper)}.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `The text is “${props.text}”. At its second x, ${which} looks straight at the first q, the answer. How much worse is the copy without this head?`),
      h("div", { class: "lf-quiz-row" }, guess.node),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => (reveal(), say(finding())))),
    );
  }

  function finding(s = state()) {
    const { text, off, p } = s;
    if (text.length < 2) return "Type at least two letters.";
    const now = run(text, off);
    const whole_ = run(text, none);
    const names = silent(off).map(nameOf);
    const chance = softmax(rowOf(now.logits.data, chars.length, p - 1));
    const top = ranked(chance)[0];
    const expects = chars[top] === text[p] ? "" : ` The model expects ${spoken(chars[top])} (${percent(chance[top])}).`;
    return (
      `After ${spoken(text[p - 1])} at ${p}, ${spoken(text[p])} costs ${nats(now.losses[p])} nats (${percent(chance[now.ids[p]])})` +
      `${names.length ? `; with all heads ${nats(whole_.losses[p])}` : ""}.${expects} ${names.length ? `Off: ${names.join(", ")}.` : "All heads are on."}`
    );
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const { text, off, p, layer, head, open } = s;
    const reads = [...text];
    const T = reads.length;
    const now = run(text, off);
    const base = run(text, none);
    line.set(text);
    range.max = Math.max(T - 2, 0);
    place.set(Math.max(p - 1, 0));
    widest = Math.max(WIDEST, ...now.losses.slice(1));
    letters.set(reads, p, Array.from(now.losses, (x) => x / widest));
    const what = base.again.length ? "letters that follow a letter seen before" : "all letters: none follows a letter seen before";
    about.textContent = open
      ? `Under each map: the change, in nats, of the mean loss when this head alone is off (${what}). A full bar is ${FULL} nats.`
      : "Rows read, columns are read; light is much. Choose a map to enlarge it.";
    panel.classList.toggle("lf-locked", !open);
    for (const [i, card] of cards.entries()) {
      const [a, b] = all[i];
      const chosen = a === layer && b === head;
      const values = Float32Array.from(slice(now.weights[a], b).data, (w, j) => (j % T > Math.floor(j / T) ? NaN : w));
      const side = T * Math.max(1, Math.ceil(96 / T));
      if (card.canvas.width !== side) card.canvas.width = card.canvas.height = side;
      spread(pixels(values, T, (v) => probability(v, theme)), card.canvas);
      const rise = run(text, alone(i)).mean - base.mean;
      card.fill.hidden = !open;
      card.fill.style.width = open ? `${(100 * Math.min(Math.max(rise / FULL, 0), 1)).toFixed(1)}%` : "0";
      card.number.textContent = open ? change(rise) : "?";
      const on = off[i] !== "1";
      card.canvas.style.opacity = on ? "1" : "0.35";
      card.pick.setAttribute("aria-pressed", chosen);
      card.pick.setAttribute("aria-label", `Enlarge ${nameOf(all[i])}${open ? `; off alone ${change(rise)} nats` : ""}`);
      card.pick.style.outline = chosen ? "2px solid var(--ink)" : "";
      card.flip.textContent = on ? "On" : "Off";
      card.flip.setAttribute("aria-checked", on);
      card.flip.setAttribute("aria-label", `${nameOf(all[i])} ${on ? "on" : "off"}`);
    }
    map.set({ reads, weights: slice(now.weights[layer], head).data, may: (t, k) => k <= t, theme });
    map.cursor(Math.max(p - 1, 0), Math.min(s.s, T - 1));
    readout.replaceChildren(
      h("span", {}, finding(s)),
      h("span", {}, base.again.length ? "Letters that can be copied: " : "All letters: ", h("b", {}, `${nats(now.mean)} nats`), now === base ? "" : ` (${nats(base.mean)} with all heads)`),
    );
    title.textContent = `Enlarged: ${nameOf([layer, head])}${off[layer * H + head] === "1" ? ", switched off" : ""}`;
  }

  const title = h("p", { style: "font-size:14px;font-weight:600" });
  const enlarged = h("div", { style: "display:grid;gap:.25rem;min-width:0;align-content:start" }, title, map.node);
  return {
    controls: [line.node, place.node, letters.node],
    picture: h("div", { class: "lf-picture" }, enlarged, panel),
    readout,
    more: [map.table.region],
    actions: [button("All heads on", () => go({ off: none })), map.table.button],
    notes: notes(props, nameOf),
    draw,
    resize: (width) => map.fit(width >= 600 ? Math.min(0.48 * width, 420) : width),
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

const notes = ({ helper, induction }, nameOf) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    "Type xqz xqz. Which heads look from the second x to the first q? Switch them off, one after the other, and read the loss of the second q. " +
      `Then switch all on and only ${nameOf(helper)} off. Last, type hello hello: why does one of its letters stay expensive?`,
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      `Several heads of layer 2 look at the answer, ${nameOf(induction)} among them; without any one of them the others still copy, without all of them nothing does. ` +
        `The head that costs most alone is ${nameOf(helper)}. It looks one place back and so writes into each place which letter came before; the heads of layer 2 look for that mark. ` +
        "In hello hello the letter l was followed once by l and once by o: the model saw each letter only once in a run while it learned, and cannot know which l this is.",
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
