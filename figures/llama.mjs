// Chapter 16: a LLaMA writes a tale token by token, its cache of keys and values fills, and what each token costs.
import { inSentence } from "./kit/attention.mjs";
import { button, choice, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { pixels, spread } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count } from "./kit/text.mjs";
import { probability } from "./kit/theme.mjs";
import { llama, pieces } from "./runtime/llama.mjs";
import { ranked, sample, softmax } from "./runtime/ops.mjs";
import { rng } from "./runtime/rng.mjs";

const LINE = 120; // characters of a beginning
const SEEDS = 1000;
const PACE = 60; // ms a token
const REST = 150; // ms without a change, then the text is read again
const ROW = 6; // pixels of a strip, one a head of keys

const whole = (v, n) => Math.min(Math.max(Math.round(Number(v) || 0), 0), n);
const millions = (n) => (n >= 9.95e6 ? count(Math.round(n / 1e6)) : (n / 1e6).toFixed(n >= 0.995e6 ? 1 : 2));
const times = (x) => (x >= 9.95 ? count(Math.round(x)) : x.toFixed(1));
const ms = (x) => (x >= 9.95 ? x.toFixed(0) : x.toFixed(x >= 0.995 ? 1 : 2));

const defaults = ({ prompts }) => ({ prompt: prompts[0], how: "likely", seed: 0, n: 0, cache: "on", open: false });
const clean = (s, { prompts }) => ({
  prompt: [...String(s.prompt ?? prompts[0])].filter((c) => c >= " ").slice(0, LINE).join(""),
  how: s.how === "draw" ? "draw" : "likely",
  seed: whole(s.seed, SEEDS - 1),
  n: whole(s.n, 9999), // tokens written: cut to the tale where it is drawn
  cache: s.cache === "off" ? "off" : "on",
  open: String(s.open) === "true",
});

function build({ props, tensors, state, update, say }) {
  const { prompts, most, config } = props;
  const model = llama({ tensors, config });
  const words = pieces(props.pieces, props.scores);
  const { L, G, D } = model;
  const H = config.n_heads;
  const BYTES = 2 * L * G * D * 4; // of one token

  // A tale is made as far as somebody looks, and kept: the same beginning and way give the same one.
  let made = {};
  function tale(s = state()) {
    const key = `${s.how} ${s.how === "draw" ? s.seed : ""} ${s.prompt}`;
    if (made.key !== key) {
      const start = words.encode(s.prompt).slice(0, most - 1);
      const cache = model.empty();
      made = { key, start, ids: [...start], cache, reads: [], random: rng(s.seed), ended: false };
      read(start);
    }
    return made;
  }
  // The cache reads what is new; what the last token read, the mean of each group of heads, is kept for the picture.
  function read(ids) {
    const began = performance.now();
    const { logits, weights } = model.read(made.cache, ids, { last: true });
    const took = performance.now() - began;
    const S = made.cache.length;
    const strips = new Float32Array(L * G * S);
    weights.forEach(({ data, shape: [, T] }, l) => {
      for (let head = 0; head < H; head++) {
        const g = Math.floor(head / (H / G));
        for (let i = 0; i < S; i++) strips[(l * G + g) * S + i] += (data[(head * T + T - 1) * S + i] * G) / H;
      }
    });
    made.reads.push({ logits: logits.data, strips, S, took });
  }
  /** Write until n tokens are there or the tale has ended: how many there are. */
  function upTo(n, s = state()) {
    const t = tale(s);
    while (t.ids.length - t.start.length < n && !t.ended) {
      const { logits } = t.reads.at(-1);
      const id = s.how === "draw" ? sample(softmax(logits), t.random()) : ranked(logits)[0];
      if (id === words.BOS) t.ended = t.whole = true;
      else {
        t.ids.push(id);
        if (t.ids.length >= most) t.ended = true;
        read([id]);
      }
    }
    return Math.min(n, t.ids.length - t.start.length);
  }
  const atEnd = (n, s = state()) => tale(s).ended && n >= tale(s).ids.length - tale(s).start.length;

  // What tokens cost: number t of a text, and all from the first that is written.
  const costs = Array.from({ length: most + 1 }, (_, t) => (t ? [model.multiplies(t - 1, 1), model.multiplies(0, t)] : [0, 0]));
  const total = (start, t, way) => {
    let sum = model.multiplies(0, start); // the beginning is read in one piece, either way
    for (let i = start + 1; i <= t; i++) sum += costs[i][way];
    return sum;
  };

  // The whole text again, as a model without a cache does it for each token.
  let again = {};
  let waiting;
  function readAgain() {
    const s = state();
    const t = tale(s);
    const n = t.start.length + upTo(s.n, s);
    const key = `${t.key} ${n}`;
    if (s.cache !== "off" || again.key === key) return;
    const began = performance.now();
    const { logits } = model.read(model.empty(), t.ids.slice(0, n), { last: true });
    const took = performance.now() - began;
    const kept = t.reads[n - t.start.length];
    again = { key, took, gap: Math.max(...logits.data.map((v, i) => Math.abs(v - kept.logits[i]))), once: kept.took };
  }

  // Controls
  const go = (patch, text) => (update(patch), say(text ?? finding()));
  const fresh = (patch) => {
    stop();
    const s = { ...state(), ...patch };
    go({ ...patch, n: s.open ? upTo(9999, clean(s, props)) : 0 });
  };
  const pick = select({
    label: "Beginning",
    options: [...prompts.map((text, i) => [String(i), text || "(an empty page)"]), ["own", "your own, below"]],
    onchange: (i) => (i === "own" ? line.input.focus() : fresh({ prompt: prompts[i] })),
  });
  pick.node.style.minWidth = "0";
  pick.input.style.maxWidth = "100%";
  const line = textInput({ label: "The beginning, to edit", most: LINE, allowed: (c) => c >= " ", oninput: (prompt) => fresh({ prompt }) });
  const cache = choice({ label: "Cache", options: [["on", "On"], ["off", "Off"]], onchange: (value) => go({ cache: value }) });
  const how = choice({ label: "Next token", options: [["likely", "Likeliest"], ["draw", "Drawn"]], onchange: (value) => fresh({ how: value }) });
  const other = button("Another tale", () => fresh({ how: "draw", seed: (state().seed + 1) % SEEDS }));
  const one = button("One token", () => (stop(), step()));
  const play = button("Play", () => (playing ? stop() : start()), { "aria-pressed": "false" });
  const all = button("To the end", () => (stop(), go({ n: upTo(9999) })));
  const back = button("Back to the beginning", () => (stop(), go({ n: 0 })));

  let playing;
  const step = () => {
    const n = upTo(state().n + 1);
    update({ n });
    clearTimeout(waiting);
    readAgain(); // does nothing with the cache on
    draw();
    if (!playing) say(finding());
    return !atEnd(n);
  };
  function start() {
    if (atEnd(state().n)) update({ n: 0 });
    const tick = () => (step() ? (playing = setTimeout(tick, PACE)) : (stop(), say(finding())));
    playing = setTimeout(tick, PACE);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
  }
  function stop() {
    clearTimeout(playing);
    clearTimeout(waiting);
    playing = undefined;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  const lastWord = (n, s = state()) => {
    const { ids, start } = tale(s);
    return ids.length && n ? words.text([ids[start.length + n - 1]]) : "";
  };
  const scrub = slider({
    label: "Tokens written",
    count: 2,
    say: (i) => (i ? `${i}: ${inSentence(lastWord(i).trim() || lastWord(i))}` : "none"),
    oninput: (n) => (stop(), go({ n })),
  });
  const stops = scrub.node.querySelector("input");

  // Picture
  const page = h("p", { class: "lf-story", style: "line-height:1.7;margin:0;white-space:pre-line" });
  const svg = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const canvas = h("canvas", { role: "img", style: "display:block;width:100%;box-shadow:0 0 0 1px var(--line);forced-color-adjust:none" });
  const names = h("div", { "aria-hidden": "true", style: "display:grid;font-size:14px;line-height:1;color:var(--soft)" });
  names.append(...Array.from({ length: L }, (_, l) => h("span", { style: `height:${G * ROW + 2}px;display:flex;align-items:center` }, `${l + 1}`)));
  const filled = h("p", { style: "font-size:14px;color:var(--soft)" });
  const strips = h(
    "div",
    {},
    h("p", { style: "font-size:14px;margin-bottom:.25rem" }, h("b", {}, "The cache"), `: ${L} layers, ${G} ${G === 1 ? "strip" : "strips"} each`),
    h("div", { style: "display:grid;grid-template-columns:auto minmax(0,1fr);gap:.5rem" }, names, canvas),
    filled,
  );
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.875rem;min-width:0" });
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "Every token and what it costs", build: numbers });
  let width = 320;
  const drawn = h("div", { style: "display:grid;gap:.875rem;min-width:0" }, strips, svg);
  panel.append(quiz(), verdict, drawn);

  function quiz() {
    const options = [["", "choose"], ["0", "less than 3 times"], ["1", "3 to 30 times"], ["2", "30 to 300 times"], ["3", "more than 300 times"]];
    const guess = select({ label: "Without, it takes", options, onchange() {} });
    const show = () => {
      const s = clean({ ...defaults(props), open: true }, props);
      update({ ...s, n: upTo(9999, s) });
      readout.focus(); // the button that was pressed is gone
    };
    const check = () => {
      const mine = guess.input.value;
      if (!mine) return say("Choose an answer first."), guess.input.focus();
      show();
      const x = compared();
      const right = String([3, 30, 300].filter((limit) => x.times >= limit).length);
      verdict.textContent = `${mine === right ? "Right" : "Not quite"}: for ${x.t} tokens it takes ${times(x.times)} times as many multiplications.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `A model will write up to ${most} tokens. With a cache it reads each once. Without one, it reads the whole text again for each. How much more does it multiply, in all?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => (show(), say(finding())))),
    );
  }

  function compared(s = state()) {
    const n = upTo(s.n, s);
    const start = tale(s).start.length;
    const t = start + n;
    const [kept, anew] = [total(start, t, 0), total(start, t, 1)];
    return { n, t, start, kept, anew, times: anew / kept };
  }

  function finding(s = state()) {
    const { n, t, kept, anew, times: x } = compared(s);
    if (!n) return "Nothing is written yet.";
    const [now, then] = costs[t];
    return `Token ${t}, ${inSentence(lastWord(n, s).trim() || lastWord(n, s))}: ${millions(now)} million multiplications with the cache, ${millions(then)} million without. All so far: ${millions(kept)} against ${millions(anew)} million, ${times(x)} times.`;
  }

  function numbers() {
    const { n, start } = compared();
    const { ids } = tale();
    const rows = Array.from({ length: n }, (_, i) => {
      const t = start + i + 1;
      return [String(t), words.text([0, ids[t - 1]]).trim() || "space or line", count(costs[t][0]), count(costs[t][1]), count(BYTES * t)];
    });
    return { caption: `${n} tokens written, each with its multiplications, and the bytes of the cache after it.`, columns: ["token", "text", "with the cache", "without", "bytes kept"], rows };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const { n, t, start } = compared(s);
    const { ids, reads } = tale(s);
    pick.set(prompts.includes(s.prompt) ? String(prompts.indexOf(s.prompt)) : "own");
    line.set(s.prompt);
    cache.set(s.cache);
    how.set(s.how);
    const end = s.open ? upTo(9999, s) : 0;
    stops.max = Math.max(end, 1);
    stops.disabled = !end;
    scrub.set(n);
    panel.classList.toggle("lf-locked", !s.open);
    drawn.style.display = s.open ? "grid" : "none";
    const ended = s.open && n >= end;
    for (const b of [one, play, all, back, other]) b.disabled = !s.open;
    one.disabled = all.disabled = !s.open || ended;
    for (const b of cache.node.querySelectorAll("button")) b.disabled = !s.open;

    const before = words.text(ids.slice(0, start));
    const text = words.text(ids.slice(0, t));
    page.replaceChildren(h("span", { style: "color:var(--soft)" }, before), text.slice(before.length), ended && tale(s).whole ? " ¶" : " …");

    const { strips: values, S } = reads[n];
    const dots = Math.max(1, Math.round(globalThis.devicePixelRatio || 1));
    const tall = L * (G * ROW + 2) - 2;
    canvas.style.height = `${tall}px`;
    canvas.width = most * dots * 2;
    canvas.height = tall * dots;
    const context = canvas.getContext("2d");
    for (let l = 0; l < L; l++) {
      const small = pixels(
        Array.from({ length: G * most }, (_, i) => (i % most < S ? values[(l * G + Math.floor(i / most)) * S + (i % most)] : NaN)),
        most,
        (v) => probability(Math.sqrt(v), theme),
      );
      const part = h("canvas", { width: canvas.width, height: G * ROW * dots });
      spread(small, part);
      context.drawImage(part, 0, l * (G * ROW + 2) * dots);
    }
    const bytes = BYTES * t;
    canvas.setAttribute("aria-label", `${t} of ${most} places of the cache are filled, ${count(bytes)} bytes.`);
    filled.textContent =
      `${t} of ${most} places filled: ${count(bytes)} bytes${G < H ? `, and ${count((bytes * H) / G)} if each of the ${H} heads had its own` : ""}. ` +
      "The lighter a place, the more the newest token reads it (shades follow the square root).";
    chart(svg, width, { costs, most, start, t, off: s.cache === "off", alt: finding(s) });

    if (!s.open) readout.textContent = "The beginning is read. Answer the question, and see the tale.";
    else {
      const parts = [h("span", {}, finding(s))];
      if (s.cache === "off" && n) {
        if (again.key === `${tale(s).key} ${t}`)
          parts.push(h("span", {}, `This browser read all ${t} tokens again in `, h("b", {}, `${ms(again.took)} ms`), `, where the cache took ${ms(again.once)} ms. ${again.gap ? `No logit differs by more than ${again.gap.toExponential(0)}` : "The logits are equal"}: the same token comes next.`));
        else {
          clearTimeout(waiting);
          parts.push(h("span", {}, "Reading all of it again …"));
          waiting = setTimeout(() => (readAgain(), draw()), REST);
        }
      }
      readout.replaceChildren(...parts);
    }
    table.refresh();
  }

  return {
    controls: [pick.node, cache.node, how.node, line.node, h("div", { class: "lf-actions", style: "flex:1 1 100%" }, play, one, all, back, other), scrub.node],
    picture: h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:1rem 1.5rem;align-items:start" }, h("div", { style: "min-width:0" }, page), panel),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(),
    draw,
    resize: (all) => {
      width = all >= 640 ? (all - 24) / 2 : all;
      draw();
    },
    reset: () => {
      stop();
      verdict.hidden = true;
    },
    kept: () => {
      if (!state().open) return {};
      const s = clean({ ...defaults(props), open: true }, props);
      return { open: true, n: upTo(9999, s) };
    },
    stop,
  };
}

/** Multiplications of each token, with and without; the area under a line is what all of them take together. */
function chart(svg, width, { costs, most, start, t, off, alt }) {
  const [height, left, right, top, bottom] = [190, 44, 10, 24, 40];
  const high = costs[most][1];
  const x = (i) => left + ((width - left - right) * i) / most;
  const y = (v) => top + (height - top - bottom) * (1 - v / high);
  const path = (way, last) => Array.from({ length: last }, (_, i) => `${x(i + 1).toFixed(1)},${y(costs[i + 1][way]).toFixed(1)}`).join(" ");
  const text = (words, at) => h("svg:text", { fill: "var(--soft)", ...at }, words);
  const chosen = off ? 1 : 0;
  const from = Math.min(start + 1, t);
  const area = `${x(from).toFixed(1)},${y(0)} ${path(chosen, t).split(" ").slice(from - 1).join(" ")} ${x(t).toFixed(1)},${y(0)}`;
  const style = (way) => `fill:none;stroke:var(--${way ? "orange" : "blue"});stroke-width:2.5${way ? ";stroke-dasharray:7 4" : ""}`;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.setAttribute("aria-label", alt);
  svg.replaceChildren(
    h("svg:polygon", { points: area, style: `fill:var(--${off ? "orange" : "blue"});opacity:.25` }),
    h("svg:line", { x1: left, x2: width - right, y1: y(0), y2: y(0), style: "stroke:var(--edge)" }),
    h("svg:polyline", { points: path(1, most), style: style(1) }),
    h("svg:polyline", { points: path(0, most), style: style(0) }),
    h("svg:line", { x1: x(t), x2: x(t), y1: top, y2: y(0), style: "stroke:var(--ink);stroke-width:1" }),
    h("svg:circle", { cx: x(t), cy: y(costs[t][chosen]), r: 5, style: `fill:var(--${off ? "orange" : "blue"})` }),
    text("million multiplications a token", { x: 0, y: 14 }),
    text(millions(high), { x: left - 6, y: y(high) + 10, "text-anchor": "end" }),
    text("0", { x: left - 6, y: y(0) + 4, "text-anchor": "end" }),
    ...[1, most / 2, most].map((i) => text(String(i), { x: x(i), y: height - 22, "text-anchor": i === most ? "end" : "middle" })),
    text("token", { x: width - right, y: height - 4, "text-anchor": "end" }),
    text("without a cache", { x: x(most * 0.62), y: y(costs[Math.round(most * 0.66)][1]) - 6, "text-anchor": "end" }),
    text("with a cache", { x: width - right, y: y(0) - 8, "text-anchor": "end" }),
  );
}

const notes = () => [
  h("p", {}, h("b", {}, "Try this. "), "Switch the cache off and press Play. Does it begin to stutter, and where? Then move the slider from the first token to the last, and compare the two times that this browser took."),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      "The tale does not change by a letter, and the logits in their last digits at most. With the cache a token costs one row through all matrices, and one query against the keys that are there: a little more with each. " +
        "Without it, token t costs t rows, and the area under the line is what the whole tale costs. The price is the strips: every layer keeps a key and a value for each token and each head of keys.",
    ),
    h("p", {}, "Most of what is kept is hardly read by the newest token. How far back a strip is bright differs from layer to layer, and within a layer from one group of heads to the next. The model cannot know beforehand which places it will want, so it keeps them all."),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
