// Chapter 10: what temperature, top-k and top-p leave of a model's answer, and what it then writes.
import { button, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { meter } from "./kit/meter.mjs";
import { tableView } from "./kit/table.mjs";
import { count, glyph, nameOf, percent, spoken } from "./kit/text.mjs";
import { reader } from "./runtime/gpt_cache.mjs";
import { continuation, entropy, filtered } from "./runtime/sampling.mjs";

const SHOWN = 14; // bars, before "others"
const P = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1];
const SEEDS = 50;
const OWN = "own"; // a context that is in no menu

const BREAK = "¶"; // a line of text cannot hold a line break

// No cut at first: how many characters the cut by p keeps is the question.
const defaults = ({ contexts, unsure, chars, seed }) => ({ context: contexts[unsure], temperature: 1, k: chars.length, p: 1, seed, open: false });
const number = (v, otherwise) => (v !== "" && Number.isFinite(Number(v)) ? Number(v) : otherwise);
const within = (v, low, high) => Math.min(Math.max(v, low), high);
const clean = (s, props) => {
  const { chars, most } = props;
  const first = defaults(props);
  const wanted = number(s.p, first.p);
  return {
    context: [...String(s.context)].filter((c) => chars.includes(c)).slice(-most).join("") || first.context,
    temperature: Math.round(10 * within(number(s.temperature, 1), 0, 2)) / 10,
    k: Math.round(within(number(s.k, chars.length), 1, chars.length)), // all of them: no cut
    p: P.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a)), // 1: no cut
    seed: Math.round(within(number(s.seed, first.seed), 0, SEEDS - 1)),
    open: String(s.open) === "true",
  };
};

const characters = (n) => `${count(n)} character${n === 1 ? "" : "s"}`;
const oneLine = (text) => text.replaceAll("\n", " ").trim() || nameOf(text[0]);

function build({ props, tensors, state, update, say }) {
  const { chars, contexts, most, length, texts } = props;
  const V = chars.length;
  const model = reader({ tensors, config: props.config });

  // What was read stays: the cache and the logits after a context.
  const kept = new Map();
  function read(context) {
    if (kept.has(context)) return kept.get(context);
    const cache = model.empty();
    let logits;
    for (const c of context) logits = model.read(cache, chars.indexOf(c));
    if (kept.size > 40) kept.clear();
    kept.set(context, { cache, logits });
    return kept.get(context);
  }
  const settings = (s) => ({ temperature: s.temperature, k: s.k < V ? s.k : null, p: s.p < 1 ? s.p : null });
  const cutAt = (s, context = s.context) => filtered(read(context).logits, settings(s));

  // Controls
  const go = (patch) => (update(patch), say(finding()));
  const menu = select({
    label: "Context",
    options: [...contexts.map((text, i) => [String(i), oneLine(text)]), [OWN, "your own, below"]],
    onchange: (i) => (i === OWN ? line.input.focus() : go({ context: contexts[i] })),
  });
  menu.input.style.maxWidth = "100%";
  menu.node.style.minWidth = "0";
  const line = textInput({
    label: `What the model has read${chars.includes("\n") ? ` (${BREAK}: a line break)` : ""}`,
    most,
    allowed: (c) => chars.includes(c === BREAK ? "\n" : c),
    oninput: (text) => text && go({ context: text.replaceAll(BREAK, "\n") }),
  });
  const some = (options) => {
    const made = slider(options);
    made.node.style.flex = "1 1 10.5rem";
    return made;
  };
  const warmth = some({ label: "Temperature", count: 21, say: (i) => (i ? (i / 10).toFixed(1) : "0: the likeliest"), oninput: (i) => go({ temperature: i / 10 }) });
  const k = some({ label: "Top-k", count: V, say: (i) => (i + 1 < V ? `${i + 1}` : `off, all ${V}`), oninput: (i) => go({ k: i + 1 }) });
  const p = some({ label: "Top-p", count: P.length, say: (i) => (P[i] < 1 ? `${P[i]}` : "1: off"), oninput: (i) => go({ p: P[i] }) });
  const seed = some({ label: "Seed of the texts", count: SEEDS, say: String, oninput: (i) => update({ seed: i }) });

  // Picture: sorted bars, the two cuts as lines between them
  const caption = h("caption", {});
  const body = h("tbody", {});
  const head = [["next", "width:4.25rem"], ["", ""], ["before cuts", "width:4.5rem;white-space:normal"], ["drawn with", "width:4.25rem;white-space:normal"]].map(([name, style]) =>
    name ? h("th", { scope: "col", style }, name) : h("td", {}),
  ); // prettier-ignore
  const ladder = h("table", { class: "lf-table lf-bars" }, caption, h("thead", {}, h("tr", {}, head)), body);
  const mass = meter({ label: "Probability kept", max: 1 });
  const spread = meter({ label: "Entropy of the draw", max: Math.log2(V) });
  const answers = h("tbody", {});
  const compared = h(
    "table",
    { class: "lf-table", style: "table-layout:fixed" },
    h("caption", {}, h("b", {}, "The same settings after each context"), ": how many characters each cut alone keeps, and both"),
    h(
      "thead",
      {},
      h("tr", {}, h("th", { scope: "col" }, "after"), ["top-k", "top-p", "both"].map((name) => h("th", { scope: "col", style: "width:3.4rem" }, name))),
    ),
    answers,
  );
  const comparison = h("div", {}, compared);
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const side = h("div", { style: "display:grid;gap:1rem;min-width:0;align-content:start" }, mass.node, spread.node, quiz(), verdict, comparison);
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "All probabilities in numbers", build: numbers });

  function quiz() {
    const ranges = [["1", 1, 1], ["2 to 4", 2, 4], ["5 to 8", 5, 8], ["9 or more", 9, Infinity]]; // prettier-ignore
    const options = [["", "choose"], ...ranges.map(([text], i) => [String(i), text])];
    const asked = [props.sure, props.unsure];
    const guesses = asked.map((i) => select({ label: `after “${oneLine(contexts[i])}”`, options, onchange() {} }));
    const check = () => {
      const missing = guesses.find((g) => !g.input.value);
      if (missing) {
        say("Choose two numbers first.");
        return missing.input.focus();
      }
      const right = guesses.filter((g, j) => {
        const [, low, high] = ranges[g.input.value];
        return low <= props.kept[asked[j]] && props.kept[asked[j]] <= high;
      }).length;
      verdict.textContent =
        `${["Neither", "One", "Both"][right]} of your two ${right === 2 ? "are" : "is"} right. Top-p = ${props.p} keeps ${characters(props.kept[props.sure])} after ` +
        `“${oneLine(contexts[props.sure])}” and ${props.kept[props.unsure]} after “${oneLine(contexts[props.unsure])}”. Top-k keeps the same number after both.`;
      verdict.hidden = false;
      reveal(() => verdict.textContent);
    };
    const reveal = (words) => {
      update({ context: contexts[props.unsure], temperature: 1, k: V, p: props.p, open: true });
      readout.focus();
      say(words());
    };
    return h(
      "div",
      { class: "lf-quiz", role: "group", "aria-label": "Predict first" },
      h("p", {}, h("b", {}, "Predict first. "), `Top-p = ${props.p} keeps the fewest characters that together have ${100 * props.p} %. How many, of ${V}, at temperature 1?`),
      h("div", { class: "lf-quiz-row" }, guesses.map((g) => g.node)),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(finding))),
    );
  }

  function finding(s = state()) {
    const { order, full, byK, byP, probs, mass: share } = cutAt(s);
    const best = order.slice(0, 3).filter((i) => full[i] > 0).map((i) => `${spoken(chars[i])} ${percent(full[i])}`);
    const cuts = byP === V ? `all ${V} characters stay` : `${characters(byP)} of ${V} stay, with ${percent(share)} of the probability`;
    const first = byK < V && byP < byK ? ` (top-k keeps ${byK}, top-p ${byP} of them)` : "";
    return `After “${oneLine(s.context)}” at temperature ${s.temperature.toFixed(1)}: ${best.join(", ")}. ${cuts[0].toUpperCase()}${cuts.slice(1)}${first}; entropy ${entropy(probs).toFixed(2)} bits.`;
  }

  function numbers() {
    const s = state();
    const { order, full, byK, byP, probs } = cutAt(s);
    return {
      caption: `After “${oneLine(s.context)}” at temperature ${s.temperature.toFixed(1)}: percent, the likeliest first.`,
      columns: ["next", "rank", "before cuts", "drawn with", "cut by"],
      rows: order.map((id, rank) => [nameOf(chars[id]), `${rank + 1}`, percent(full[id]).slice(0, -2), percent(probs[id]).slice(0, -2), rank >= byK ? "top-k" : rank >= byP ? "top-p" : ""]),
    };
  }

  function bar(name, full, drawn, top, cut) {
    const width = `${Math.min(100, (100 * full) / top).toFixed(2)}%`;
    return h(
      "tr",
      { style: cut ? "color:var(--soft)" : "" },
      h("th", { scope: "row" }, name),
      h("td", { class: "lf-bar", "aria-hidden": "true" }, h("div", {}, h("i", { class: "lf-fill", style: `width:${width}${cut ? ";background:none;border:1px solid var(--edge)" : ""}` }))),
      h("td", {}, percent(full)),
      h("td", {}, cut ? "cut" : percent(drawn)),
    );
  }
  const cutLine = (words) => h("tr", {}, h("th", { scope: "row", colspan: 4, style: "border-top:2px solid var(--ink);font-family:inherit;text-align:right;color:var(--ink);width:auto" }, words));

  function drawBars(s) {
    const { order, full, byK, byP, probs } = cutAt(s);
    const end = byP === V ? Math.min(SHOWN, V) : Math.min(Math.max(SHOWN, Math.min(byP + 2, 24)), V);
    const most_ = full[order[0]];
    const top = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((v) => v >= most_ - 1e-9) ?? 1;
    const rows = [];
    const lineAt = (rank) => {
      if (s.temperature === 0) return rank === 1 && rows.push(cutLine("temperature 0 takes the likeliest"));
      if (rank === byP && byP < byK) rows.push(cutLine(`top-p = ${s.p} keeps ${byP}`));
      if (rank === byK && byK < V) rows.push(cutLine(`top-k = ${s.k} keeps ${byK}`));
    };
    for (let rank = 0; rank < end; rank++) {
      const id = order[rank];
      lineAt(rank);
      rows.push(bar(nameOf(chars[id]), full[id], probs[id], top, rank >= byP));
    }
    const rest = order.slice(end);
    if (rest.length) {
      const stay = Math.max(0, byP - end);
      if (byP <= end) lineAt(end);
      const add = (row) => rest.reduce((sum, i) => sum + row[i], 0);
      const row = bar(`${rest.length} others`, add(full), add(probs), top, stay === 0);
      row.firstChild.style.fontFamily = "inherit";
      rows.push(row);
      if (byP > end && byP < V) rows.push(cutLine(`${byP < byK ? `top-p = ${s.p}` : `top-k = ${s.k}`} keeps ${stay} of the others`));
      else if (byK > end && byK < V) rows.push(cutLine(`top-k = ${s.k} keeps ${byK}`));
    }
    caption.replaceChildren(h("b", {}, "What may come next"), ` at temperature ${s.temperature.toFixed(1)}, sorted; a full bar is ${100 * top} %`);
    body.replaceChildren(...rows);
  }

  // Texts: one after the other between two pictures, so that no slider waits for them
  const lines = Array.from({ length: texts }, () => h("pre", { class: "lf-page" }));
  const same = h("p", { style: "font-size:14px;color:var(--soft)" });
  const pages = h("div", { class: "lf-text", role: "group", "aria-label": "Texts that the model writes" }, h("p", {}, h("b", {}, `${texts} texts`), ` of ${length} characters after this context, with these settings`), lines, same);
  let timer;
  let written = "";
  function writeTexts(s) {
    const key = JSON.stringify([s.context, s.temperature, s.k, s.p, s.seed]);
    if (key === written) return;
    written = key;
    clearTimeout(timer);
    delete pages.dataset.done;
    const made = [];
    const next = () => {
      const i = made.length;
      const ids = continuation({ model, ...read(s.context), n: length, seed: texts * s.seed + i, ...settings(s) });
      made.push(ids.join());
      lines[i].replaceChildren(h("span", { style: "color:var(--soft)" }, shown(s.context)), ...shown(ids.map((id) => chars[id])));
      if (made.length < texts) return void (timer = setTimeout(next));
      const different = new Set(made).size;
      same.textContent = different === texts ? `All ${texts} are different.` : different === 1 ? `All ${texts} are the same.` : `${different} of the ${texts} are different.`;
      pages.dataset.done = key;
    };
    timer = setTimeout(next, 60);
  }
  const shown = (text) => [...text].map((c) => (c === "\n" ? glyph(c) : c));

  const paper = matchMedia("print"); // on paper nobody is asked
  const printing = () => draw();
  paper.addEventListener("change", printing);

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    if (paper.matches && !s.open) s = { ...s, p: props.p, open: true };
    const at = contexts.indexOf(s.context);
    menu.set(at < 0 ? OWN : String(at));
    line.set(s.context.replaceAll("\n", BREAK));
    warmth.set(Math.round(10 * s.temperature));
    k.set(s.k - 1);
    p.set(P.indexOf(s.p));
    seed.set(s.seed);
    drawBars(s);
    const { byP, probs, mass: share, full } = cutAt(s);
    mass.set(share, `${percent(share)}, ${characters(byP)}`);
    const [now, before] = [entropy(probs), entropy(full)];
    spread.set(now, `${now.toFixed(2)} bits${byP < V ? `, ${before.toFixed(2)} without the cuts` : ""}`);
    side.classList.toggle("lf-locked", !s.open);
    comparison.hidden = !s.open;
    const every = at < 0 ? [...contexts, s.context] : contexts;
    answers.replaceChildren(
      ...every.map((text) => {
        const alone = (patch) => filtered(read(text).logits, { ...settings(s), ...patch });
        const counts = [alone({ p: null }).byP, alone({ k: null }).byP, alone({}).byP].map(String);
        const own = text === s.context;
        return h("tr", {}, h("th", { scope: "row", style: `white-space:normal;overflow-wrap:anywhere${own ? ";font-weight:600" : ""}` }, oneLine(text)), counts.map((n) => h("td", {}, n)));
      }),
    );
    readout.replaceChildren(h("span", {}, finding(s)));
    writeTexts(s);
    table.refresh();
  }

  return {
    controls: [menu.node, line.node, warmth.node, k.node, p.node, seed.node],
    picture: h("div", { class: "lf-picture", style: "grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr))" }, ladder, side),
    readout,
    more: [pages, table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    reset: () => (verdict.hidden = true),
    kept: () => (state().open ? { open: true, p: props.p } : {}),
    stop() {
      clearTimeout(timer);
      paper.removeEventListener("change", printing);
    },
  };
}

const notes = ({ contexts, sure, unsure, kept, k, p }) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    `Set top-p to 1 and top-k to ${k}. Look at “${oneLine(contexts[sure])}” and then at “${oneLine(contexts[unsure])}”: where does this k keep what it should not, and where does it cut what it should keep? Then find one p that serves both. Last, set the temperature to 0 and read the texts.`,
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      `Top-p = ${p} keeps ${characters(kept[sure])} after the first context and ${kept[unsure]} after the second: it follows the model. Top-k keeps the same number after both. ` +
        "At temperature 0 nothing is left to chance: all texts are the same, whatever the seed. " +
        "The temperature comes first, over all characters; top-k cuts what it made, top-p cuts what top-k left, and what stays is divided by its sum.",
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
