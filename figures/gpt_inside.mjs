// Chapter 08: the forward pass of a GPT from left to right: every tensor, where each number comes from, the guess
// after each block, and every part with a switch.
import { inSentence } from "./kit/attention.mjs";
import { button, select, slider, textInput } from "./kit/controls.mjs";
import { h, KEYS, uid } from "./kit/dom.mjs";
import { heatmap } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { percent, token } from "./kit/text.mjs";
import { tokenRow } from "./kit/tokens.mjs";
import { gpt } from "./runtime/gpt.mjs";
import { hidden, origin } from "./runtime/gpt_terms.mjs";
import { layerNorm, layers, linear, rowOf, tensor, tokenLosses } from "./runtime/nn.mjs";
import { ranked, softmax } from "./runtime/ops.mjs";

const PIECE = / ?[A-Za-z]+|'[a-z]+|[^A-Za-z]/gu; // tokenizer.py's WordTokenizer
const CHARS = 200; // of a text
const TOP = 5;
const SHOWN = 6; // terms of a sum
const LOGITS = 12; // columns of the logits: the likeliest tokens

const whole = (v, n) => Math.min(Math.max(Math.round(Number(v) || 0), 0), n - 1);
const pieces = (text, known) => ["\n", ...(text.match(PIECE) ?? []).flatMap((piece) => (known.has(piece) ? [piece] : [...piece]))];
const number = (v, digits = 2) => `${v < 0 ? "−" : ""}${Math.abs(v).toFixed(digits)}`;
const word = (text) => inSentence(text.trim() || text);

// The tensors of one block in the order in which they are made: [name, what a reader sees, shape, is it the stream?]
const INNER = [
  ["norm1", "norm", "T, C"],
  ["attention.q", "q ▲", "T, C"],
  ["attention.k", "k ■", "T, C"],
  ["attention.v", "v ●", "T, C"],
  ["attention.scores", "scores", "H, T, T"],
  ["attention.weights", "weights", "H, T, T"],
  ["attention.heads", "heads", "H, T, D"],
  ["attention", "attention", "T, C"],
  ["middle", "stream", "T, C", true],
  ["norm2", "norm", "T, C"],
  ["mlp.hidden", "hidden", "T, 4C"],
  ["mlp", "MLP", "T, C"],
];
const HEADED = ["attention.scores", "attention.weights", "attention.heads"];

const defaults = ({ texts, config }) => ({
  text: texts[0].text,
  t: texts[0].at,
  part: `blocks.${config.n_layer - 1}`,
  c: 0,
  head: 0,
  off: "0".repeat(2 * config.n_layer),
});

function clean(s, { tokens, most, config: { n_layer: L, n_head: H } }) {
  const known = new Set(tokens);
  const given = [...String(s.text ?? "")].filter((c) => known.has(c) && c !== "\n").slice(0, CHARS).join("");
  const text = pieces(given, known).slice(1, most).join("");
  const [, block, rest] = String(s.part).match(/^blocks\.(\d+)(?:\.(.+))?$/) ?? [];
  const inner = block !== undefined && Number(block) < L && (rest === undefined || INNER.some(([name]) => name === rest));
  return {
    text,
    t: whole(s.t, pieces(text, known).length),
    part: inner || ["embed", "norm", "head"].includes(s.part) ? String(s.part) : `blocks.${L - 1}`,
    c: Math.max(0, Math.round(Number(s.c) || 0)),
    head: whole(s.head, H),
    off: Array.from({ length: 2 * L }, (_, i) => (String(s.off)[i] === "1" ? 1 : 0)).join(""),
  };
}

/** A row of tensors of which one is chosen: one tab stop, arrow keys move. set([{ key, text, shape, stream }], chosen). */
function strip({ label, onselect }) {
  const id = uid();
  const group = h("div", { class: "lf-tokens", role: "radiogroup", "aria-labelledby": id, style: "row-gap:.375rem;align-items:stretch" });
  const head = h("span", { id }, label);
  let chips = [];
  let keys = [];
  const go = (i) => {
    const to = Math.min(Math.max(i, 0), chips.length - 1);
    onselect(keys[to]);
    chips[to].focus();
  };
  group.addEventListener("keydown", (event) => {
    const i = chips.indexOf(event.target.closest("button"));
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: chips.length - 1 }[event.key];
    if (i < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(to);
  });
  let shown = "";
  return {
    node: h("div", { class: "lf-field lf-field-wide" }, head, group),
    set(title, items, chosen) {
      head.textContent = title;
      keys = items.map((item) => item.key);
      if (shown !== JSON.stringify(items)) {
        shown = JSON.stringify(items);
        const had = chips.indexOf(group.getRootNode().activeElement);
        chips = items.map(({ text, shape, stream }, i) =>
          h(
            "button",
            {
              type: "button",
              class: "lf-token",
              role: "radio",
              ...KEYS,
              style: `min-width:3.75rem;padding:3px 6px;${stream ? "border-bottom:5px solid var(--blue)" : "margin-bottom:4px"}`,
              onclick: () => go(i),
            },
            h("span", { style: "font-size:14px" }, text),
            h("span", { style: "font-size:14px;line-height:18px;color:var(--soft);white-space:nowrap" }, shape),
          ),
        );
        const arrow = (i) => h("span", { "aria-hidden": "true", style: "align-self:center;color:var(--soft)" }, items[i].plus ? "+" : "→");
        group.replaceChildren(...chips.flatMap((chip, i) => (i ? [arrow(i), chip] : [chip])));
        if (had >= 0) chips[Math.min(had, chips.length - 1)].focus();
      }
      const on = keys.indexOf(chosen);
      chips.forEach((chip, i) => {
        chip.setAttribute("aria-checked", i === on);
        chip.style.outline = i === on ? "2px solid var(--ink)" : "";
        chip.style.background = i === on ? "var(--wash)" : "";
        chip.tabIndex = i === Math.max(on, 0) ? 0 : -1;
      });
    },
  };
}

function build({ props, tensors, state, update, say }) {
  const { tokens: vocabulary, config, texts } = props;
  const { n_layer: L, n_head: H } = config;
  const ids = new Map(vocabulary.map((text, i) => [text, i]));
  const V = vocabulary.length;
  const C = tensors["token_embedding.weight"].shape[1];
  const get = layers(tensors);
  const PARTS = Array.from({ length: 2 * L }, (_, i) => [Math.floor(i / 2), i % 2 ? "MLP" : "attention"]);
  const partName = (i) => `${PARTS[i][1]} ${PARTS[i][0] + 1}`;
  const silent = (off) => ({
    attentions: PARTS.flatMap(([b], i) => (i % 2 === 0 && off[i] === "1" ? [b] : [])),
    mlps: PARTS.flatMap(([b], i) => (i % 2 && off[i] === "1" ? [b] : [])),
  });
  const none = "0".repeat(2 * L);

  // One forward pass for a text and its switches; the one with all parts on is kept beside it.
  const kept = new Map();
  let keptText;
  function run(text, off) {
    if (keptText !== text) kept.clear();
    keptText = text;
    if (kept.has(off)) return kept.get(off);
    const read = pieces(text, ids);
    const taps = {};
    const made = { tokens: read, ids: read.map((piece) => ids.get(piece)), taps, off: silent(off) };
    gpt({ tensors, config, ids: made.ids, off: made.off, tap: (name, x) => (taps[name] = x) });
    made.losses = tokenLosses(taps.head, [...made.ids.slice(1), -1]);
    kept.set(off, made);
    return made;
  }
  const tensorOf = (now, part) => {
    const [, block] = part.match(/^blocks\.(\d+)\.mlp\.hidden$/) ?? [];
    if (block !== undefined) return (now.taps[part] ??= hidden({ tensors, taps: now.taps, block: Number(block) }));
    return now.taps[part];
  };
  // The logit lens: the last norm and the head on one row of the stream.
  const lens = (now, t) =>
    ["embed", ...Array.from({ length: L }, (_, i) => `blocks.${i}`)].map((name) => {
      const x = tensor([1, C], Float32Array.from(rowOf(now.taps[name].data, C, t)));
      const y = layerNorm(x, get("norm"), config.norm_eps);
      return softmax(linear(y, get.has("head") ? get("head") : get("token_embedding")).data);
    });

  // What is drawn of the chosen tensor: rows, columns and the number behind each cell.
  function view(s = state()) {
    const now = run(s.text, s.off);
    const rest = s.part.replace(/^blocks\.\d+\.?/, "");
    const x = tensorOf(now, s.part);
    const T = now.tokens.length;
    if (s.part === "head") {
      const columns = ranked(rowOf(x.data, V, s.t)).slice(0, LOGITS);
      const values = Float32Array.from({ length: T * LOGITS }, (_, i) => x.data[Math.floor(i / LOGITS) * V + columns[i % LOGITS]]);
      return { now, rest, values, width: LOGITS, columns, tokens: true };
    }
    const headed = HEADED.includes(rest);
    const width = x.shape.at(-1);
    const values = headed ? rowOf(x.data, T * width, s.head) : x.data;
    const square = rest === "attention.scores" || rest === "attention.weights";
    return { now, rest, values, width, headed, square, columns: Array.from({ length: width }, (_, i) => i) };
  }
  const at = (v, s) => Math.min(s.c, v.width - 1);
  const columnName = (v, c) => (v.square ? `${word(v.now.tokens[c])} at ${c + 1}` : v.tokens ? word(vocabulary[v.columns[c]]) : `channel ${c + 1}`);
  const hides = (v, t, c) => v.square && c > t;

  const titleOf = (part) => {
    if (part === "embed") return "Embeddings";
    if (part === "norm") return "Last norm";
    if (part === "head") return "Logits";
    const [, block, rest] = part.match(/^blocks\.(\d+)(?:\.(.+))?$/);
    const n = Number(block) + 1;
    const inner = { norm1: "norm before attention", "attention.q": "queries ▲", "attention.k": "keys ■", "attention.v": "values ●", "attention.scores": "scores", "attention.weights": "weights", "attention.heads": "what the heads bring", attention: "what attention adds", middle: "stream between", norm2: "norm before the MLP", "mlp.hidden": "hidden numbers of the MLP", mlp: "what the MLP adds" }[rest]; // prettier-ignore
    return `Block ${n}: ${inner ?? "stream after it"}`;
  };

  // Controls
  const go = (patch, words) => {
    update(patch);
    say(words?.() ?? finding());
  };
  const count = (text) => pieces(text, ids).length;
  const pick = select({
    label: "Text",
    options: texts.map(({ text }, i) => [String(i), `${text.slice(0, 28)}…`]),
    onchange: (i) => go({ text: texts[i].text, t: texts[i].at }),
  });
  const line = textInput({ label: "Its words, to edit", most: CHARS, allowed: (c) => ids.has(c) && c !== "\n", oninput: (text) => go({ text, t: Math.max(count(text) - 2, 0) }) });
  const row = tokenRow({ label: "Guess the word after", onselect: (t) => go({ t }) });
  const spine = strip({ label: "", onselect: (part) => go({ part }, cellWords) });
  const inner = strip({ label: "", onselect: (part) => go({ part }, cellWords) });
  const switches = PARTS.map((_, i) =>
    h("button", {
      type: "button",
      role: "switch",
      class: "lf-button",
      ...KEYS,
      onclick: () => {
        const { off } = state();
        go({ off: off.slice(0, i) + (off[i] === "1" ? "0" : "1") + off.slice(i + 1) });
      },
    }),
  );
  const switchBox = h("div", { class: "lf-field lf-field-wide" }, h("span", {}, "Parts that add to the stream"), h("div", { style: "display:flex;flex-wrap:wrap;gap:.375rem" }, switches));
  const heads = slider({ label: "Head", count: H, say: (i) => `${i + 1} of ${H}`, oninput: (head) => go({ head }, cellWords) });

  // The picture of the chosen tensor
  const map = heatmap({
    label: "The chosen tensor. Rows: tokens. Columns: channels or tokens. Arrow keys move.",
    rows: "tokens",
    columns: "channels",
    even: true,
    least: 16,
    most: 40,
    onmove: (t, c) => go({ t, c }, cellWords),
  });
  map.node.querySelector(".lf-scale").hidden = true;
  const compass = map.node.querySelector(".lf-compass").lastChild;
  const shades = h("p", { style: "font-size:14px;color:var(--soft);margin-top:.5rem" });
  const title = h("p", { style: "font-size:14px;font-weight:600" });
  const left = h("div", { style: "display:grid;gap:.25rem;min-width:0;align-content:start" }, title, heads.node, map.node, shades);

  // Where the number comes from, and the lens
  const cell = h("p", { style: "font-size:14px" });
  const terms = h("table", { class: "lf-table", "aria-label": "The terms of the number" }, h("tbody", {}));
  const why = h("div", { style: "display:grid;gap:.375rem;min-width:0" }, h("b", { style: "font-size:14px;font-weight:600" }, "Where the number comes from"), cell, terms);
  const guesses = Array.from({ length: L + 1 }, (_, i) =>
    h("div", { role: "listitem", style: "display:flex;flex-wrap:wrap;gap:.125rem .75rem;padding:3px 0;border-bottom:1px solid var(--line);font-size:14px" }, h("span", { style: "width:5.75rem;color:var(--soft)" }, i ? `after block ${i}` : "embeddings"), h("span", { style: "flex:1 1 11rem;display:flex;flex-wrap:wrap;gap:.125rem .75rem" })),
  );
  const lensBox = h("div", { style: "min-width:0" }, h("b", { style: "font-size:14px;font-weight:600" }, "The guess after each block"), h("div", { role: "list" }, guesses));
  const right = h("div", { style: "display:grid;gap:1rem;min-width:0;align-content:start" }, lensBox, why);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({
    label: "The chosen tensor in numbers",
    build: () => {
      const s = state();
      const v = view(s);
      return {
        caption: `${titleOf(s.part)}${v.headed ? `, head ${s.head + 1}` : ""}. Row: token; column: ${v.square || v.tokens ? "token" : "channel"}.`,
        columns: ["token", ...v.columns.map((_, c) => columnName(v, c))],
        rows: v.now.tokens.map((text, t) => [`${t + 1} ${word(text)}`, ...v.columns.map((_, c) => (hides(v, t, c) ? "hidden" : number(v.values[t * v.width + c], 3)))]),
      };
    },
  });

  function trace(s, v) {
    const c = at(v, s);
    return origin({ tensors, config, ids: v.now.ids, taps: v.now.taps, off: v.now.off, name: s.part, t: s.t, c: v.tokens ? v.columns[c] : c, h: s.head });
  }
  function cellWords(s = state()) {
    const v = view(s);
    const c = at(v, s);
    if (hides(v, s.t, c)) return `${word(v.now.tokens[s.t])} at ${s.t + 1} may not read ${columnName(v, c)}: it comes later.`;
    const value = v.values[s.t * v.width + c];
    return `${titleOf(s.part)}, ${word(v.now.tokens[s.t])} at ${s.t + 1}, ${columnName(v, c)}: ${number(value, 3)}.`;
  }

  // The terms as rows of a table, the largest first.
  function showTerms(s, v) {
    const body = terms.tBodies[0];
    const line = (name, text) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, text));
    const c = at(v, s);
    if (hides(v, s.t, c)) return body.replaceChildren(line("hidden by the mask", "0"));
    const one = trace(s, v);
    const from = s.part.replace(/^blocks\.\d+\.?/, "");
    const place = (i) => (from === "attention.heads" || from === "attention.weights" ? `${word(v.now.tokens[i])} at ${i + 1}` : from === "mlp" ? `hidden ${i + 1}` : `channel ${i + 1}`);
    if (one.kind === "sum") return body.replaceChildren(...one.terms.map(([name, x]) => line(name, number(x, 3))), line("sum", number(one.value, 3)));
    if (one.kind === "norm")
      return body.replaceChildren(
        line("stream", number(one.x, 3)),
        line("− mean of the row", number(one.mean, 3)),
        line("÷ size of the row", number(one.size, 3)),
        line("× weight + bias", `${number(one.weight)}, ${number(one.bias)}`),
        line("normalized", number(one.value, 3)),
      );
    const size = (x) => (one.kind === "softmax" ? x[0] : x[0] * x[1]);
    const order = one.terms.map((_, i) => i).sort((a, b) => Math.abs(size(one.terms[b])) - Math.abs(size(one.terms[a])));
    const first = order.slice(0, SHOWN);
    const others = order.slice(SHOWN).reduce((sum, i) => sum + size(one.terms[i]), 0);
    const rows = first.map((i) => line(place(i), one.kind === "softmax" ? `exp(${number(Math.log(one.terms[i][0]))}) = ${number(one.terms[i][0])}` : `${number(one.terms[i][0])} × ${number(one.terms[i][1])} = ${number(size(one.terms[i]), 3)}`));
    if (order.length > SHOWN) rows.push(line(`${order.length - SHOWN} more`, number(others, 3)));
    if (one.kind === "softmax") rows.push(line("its share of the sum", `${number(one.terms[c][0])} ÷ ${number(one.sum)} = ${number(one.value, 3)}`));
    else {
      rows.push(line("sum", number(one.sum, 3)));
      if (one.scale !== 1) rows.push(line("÷ root of D", number(one.value, 3)));
      if (one.bias) rows.push(line("+ bias", `${number(one.bias, 3)} = ${number(one.sum + one.bias, 3)}`));
      if (one.kind === "gelu") rows.push(line("GELU", number(one.value, 3)));
    }
    body.replaceChildren(...rows);
  }

  function finding(s = state()) {
    const now = run(s.text, s.off);
    const base = run(s.text, none);
    const p = lens(now, s.t);
    const next = now.ids[s.t + 1];
    const names = [...s.off].flatMap((bit, i) => (bit === "1" ? [partName(i)] : []));
    const off = names.length ? ` Off: ${names.join(", ")}.` : " All parts are on.";
    const here = `After ${word(now.tokens[s.t])} at ${s.t + 1}`;
    if (next === undefined) return `${here} the model expects ${word(vocabulary[ranked(p[L])[0]])} (${percent(Math.max(...p[L]))}).${off}`;
    const leads = p.findIndex((row) => ranked(row)[0] === next);
    const when = leads < 0 ? "it never leads" : leads ? `it first leads after block ${leads}` : "it leads from the start";
    const before = names.length ? `, with all parts ${percent(lens(base, s.t)[L][next])}` : "";
    return `${here} comes ${word(vocabulary[next])}: ${percent(p[L][next])}${before}; ${when}.${off}`;
  }
  const mean = (now) => now.losses.slice(0, -1).reduce((a, b) => a + b, 0) / Math.max(now.losses.length - 1, 1);

  let named = "";
  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const v = view(s);
    const { now } = v;
    const T = now.tokens.length;
    const base = run(s.text, none);
    const here = /^blocks\.(\d+)/.exec(s.part);
    const block = here ? Number(here[1]) : s.part === "embed" ? 0 : L - 1;
    const live_ = { T, C, H, D: C / H, V, "4C": 4 * C };
    const shape = (letters) => letters.split(", ").map((x) => live_[x]).join(" × ");
    const at_ = (letters) => `[${letters}] ${shape(letters)}`;

    pick.set(String(Math.max(texts.findIndex(({ text }) => text === s.text), 0)));
    line.set(s.text);
    row.set(now.tokens, s.t);
    spine.set(
      "The stream, from left to right",
      [
        { key: "embed", text: "embeddings", shape: at_("T, C"), stream: true },
        ...Array.from({ length: L }, (_, i) => ({ key: `blocks.${i}`, text: `block ${i + 1}`, shape: at_("T, C"), stream: true })),
        { key: "norm", text: "last norm", shape: at_("T, C") },
        { key: "head", text: "logits", shape: at_("T, V") },
      ],
      s.part,
    );
    inner.set(
      `Inside block ${block + 1}`,
      INNER.map(([name, text, letters, stream]) => ({ key: `blocks.${block}.${name}`, text, shape: at_(letters), stream, plus: name === "middle" })),
      s.part,
    );
    switches.forEach((node, i) => {
      const on = s.off[i] !== "1";
      node.textContent = `${partName(i)}: ${on ? "on" : "off"}`;
      node.setAttribute("aria-checked", on);
      node.style.opacity = on ? "" : ".75";
      node.style.textDecoration = on ? "" : "line-through";
    });
    heads.node.hidden = !v.headed;
    heads.set(s.head);

    const names = JSON.stringify([now.tokens, v.width, v.square, v.tokens && v.columns]);
    if (names !== named) {
      const short = (text) => token(text.trim() || text, 10);
      const down = now.tokens.map(short);
      const across = v.square ? down : v.tokens ? v.columns.map((i) => short(vocabulary[i])) : v.columns.map((i) => h("span", {}, String(i + 1)));
      map.names(down, across);
      named = names;
    }
    compass.textContent = `→ ${v.square ? "is read" : v.tokens ? `the ${LOGITS} likeliest tokens` : "channels"}`;
    const weights = v.rest === "attention.weights";
    const seen = Array.from(v.values, (x, i) => (hides(v, Math.floor(i / v.width), i % v.width) ? NaN : x));
    const most = seen.reduce((a, x) => Math.max(a, Math.abs(x) || 0), 1e-9);
    map.draw(Float32Array.from(seen, (x) => (weights ? x : x / most)), { diverging: !weights, theme });
    const c = at(v, s);
    map.cursor(s.t, c);
    title.textContent = `${titleOf(s.part)}${v.headed ? `, head ${s.head + 1}` : ""}`;
    shades.textContent = weights ? "Dark is 0, light is 1; hatched is hidden by the mask." : `Orange is below zero, blue above; the deepest shade is ${number(most)}.${v.square ? " Hatched is hidden by the mask." : ""}`;
    cell.textContent = cellWords(s);
    showTerms(s, v);

    const p = lens(now, s.t);
    const next = now.ids[s.t + 1];
    guesses.forEach((node, i) => {
      const best = ranked(p[i]).slice(0, TOP);
      node.lastChild.replaceChildren(
        ...best.map((id) => {
          const right = id === next;
          return h(right ? "b" : "span", { style: `white-space:nowrap${right ? ";text-decoration:underline 2px;text-underline-offset:3px" : ""}` }, token(vocabulary[id].trim() || vocabulary[id], 12), ` ${percent(p[i][id])}`);
        }),
      );
    });
    readout.replaceChildren(
      h("span", {}, finding(s)),
      T > 1 ? h("span", {}, "Mean loss of this text: ", h("b", {}, `${mean(now).toFixed(2)} nats`), s.off === none ? "" : ` (${mean(base).toFixed(2)} with all parts)`) : "",
    );
    table.refresh();
  }

  return {
    controls: [texts.length > 1 ? pick.node : null, line.node, row.node, spine.node, inner.node, switchBox].filter(Boolean),
    picture: h("div", { class: "lf-picture" }, left, right),
    readout,
    more: [table.region],
    actions: [button("All parts on", () => go({ off: none })), table.button],
    notes: notes(),
    draw,
    resize: (width) => {
      const room = width >= 600 ? Math.min(0.5 * width, 430) : width;
      left.style.width = `${room}px`;
      map.fit(room);
    },
  };
}

const notes = () => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    "After which block does the right word first lead? Switch the MLP of that block off: does another part make up for it? Then switch off one part of block 1 instead. " +
      "Choose “embeddings”, then “logits”, and follow one number back through the blocks.",
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      "In the texts of the list the right word leads only after the last block: they were chosen for that. Before any block the guess is mostly the word just read: its embedding points the way of itself, and the head compares with embeddings. Each block adds a term, and the guess gets sharper on the whole, if not for every word. " +
        "Without a part of block 1 everything after it reads a stream that it has never met, and the mean loss of the text rises by much. Every number of the stream is a sum; every other number is one dot product (in the MLP with GELU behind it), one weighted mean, one norm or one softmax. " +
        "The underlined word is the one that comes. Only the chosen row of the last tensor is used to guess.",
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
