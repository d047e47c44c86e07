// Chapter 01: the table that counting finds and the table that gradient descent finds.
import { bars } from "./kit/bars.mjs";
import { button, choice, select, slider } from "./kit/controls.mjs";
import { curve } from "./kit/curve.mjs";
import { h } from "./kit/dom.mjs";
import { heatmap } from "./kit/heatmap.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count, glyph, nameOf, nats, percent, points, spoken } from "./kit/text.mjs";
import { bits, kl, logSoftmaxRows, meanKl, normalizeRows, ranked, rowOf, sample, softmaxRows } from "./runtime/ops.mjs";
import { rng } from "./runtime/rng.mjs";

const VIEWS = [
  ["trained", "Trained"],
  ["counted", "Counted"],
  ["difference", "Difference"],
];
const SHOWN = 12; // bars, before "others"

const defaults = ({ ask, steps }) => ({ prev: ask, next: ask, step: steps.at(-1), view: "trained", open: false });

const clean = (s, { chars, ask, steps }) => ({
  prev: chars.includes(s.prev) ? s.prev : ask,
  next: chars.includes(s.next) ? s.next : ask,
  step: steps.reduceRight((a, b) => (Math.abs(b - s.step) < Math.abs(a - s.step) ? b : a)),
  view: VIEWS.some(([name]) => name === s.view) ? s.view : "trained",
  open: s.open === true || s.open === "true",
});

function build({ props, tensors, state, update, say }) {
  const chars = props.chars;
  const { ask, steps, losses } = props;
  const size = chars.length;
  const names = chars.map(nameOf);
  const counts = tensors.counts.data;
  const counted = normalizeRows(counts, size);
  const stages = steps.map((step, i) => {
    const logits = rowOf(tensors.stages.data, size * size, i);
    const logq = logSoftmaxRows(logits, size);
    const trained = softmaxRows(logits, size);
    return { step, loss: losses[i], logq, trained, off: trained.map((p, j) => p - counted[j]), gap: meanKl(counts, logq, size) };
  });
  const stage = (s = state()) => stages[steps.indexOf(s.step)];
  const options = chars.map((c, i) => [c, names[i]]);

  // Controls
  const previous = select({ label: "Previous character", options, onchange: (prev) => go({ prev }) });
  const views = choice({
    label: "Table",
    options: VIEWS,
    onchange: (view) => {
      update({ view });
      say(`${view} table. ${sayStage()}`);
    },
  });
  const lines = [["uniform", props.uniform], ["counted", props.counted], ["floor", props.floor]]
    .filter(([, v]) => v != null)
    .map(([name, v]) => [`${name} ${nats(v)}`, v]); // prettier-ignore
  const losses_ = curve({ values: losses, lines, label: `Validation loss in nats at steps ${steps.join(", ")}: ${losses.map(nats).join(", ")}` });
  const scrub = slider({
    label: "Training step",
    count: steps.length,
    say: (i) => `${count(steps[i])}, loss ${nats(losses[i])} nats`,
    oninput: (i) => {
      update({ step: steps[i] });
      say(sayStage());
    },
  });

  // Picture
  const map = heatmap({
    glyphs: chars.map(glyph),
    groups: runs(chars),
    label: "Which character follows which. Rows: the one before. Columns: the next. Arrow keys move.",
    rows: "previous",
    columns: "next",
    onmove: (r, c) => {
      go({ prev: chars[r], next: chars[c] });
      say(inWords(r, c, spoken));
    },
    onhover: (r, c) => showCell(r, c),
  });
  const cell = h("p", { class: "lf-cell" });
  map.node.append(cell);
  const ladder = bars({ label: "next", filled: "trained", marked: "counted" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", {}, quiz(), verdict, ladder.node);
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({ label: "The table in numbers", build: numbers });

  // Text, one character at a time
  let random = rng(props.seed);
  let text = ask;
  const page = h("pre", { class: "lf-page", role: "group", "aria-label": "Text so far" });
  const write = (n) => {
    const s = state();
    const from = s.view === "counted" ? counted : stage(s).trained;
    let made = "";
    for (let i = 0; i < n; i++) made += chars[sample(rowOf(from, size, chars.indexOf((text + made).at(-1))), random())];
    text = (text + made).slice(-600);
    update({ prev: text.at(-1) });
    draw();
    say(n === 1 ? spoken(made) : made);
  };
  const more = h(
    "div",
    { class: "lf-text" },
    h(
      "div",
      { class: "lf-actions" },
      button("Next: sample one character", () => write(1), { class: "lf-button lf-button-main" }),
      button("Generate 200 characters", () => write(200)),
    ),
    page,
  );

  function go(patch) {
    if (patch.prev !== state().prev) text = patch.prev;
    update(patch);
  }

  function quiz() {
    const blank = [["", "choose"], ...options];
    const guesses = ["First", "Second"].map((label) => select({ label, options: blank, onchange() {} }));
    const check = () => {
      const missing = guesses.find((g) => !g.input.value);
      if (missing) {
        say("Choose two characters first.");
        return missing.input.focus();
      }
      const row = rowOf(counted, size, chars.indexOf(ask));
      const put = (i) => `${spoken(chars[i])} (${percent(row[i])})`;
      const mine = guesses.map((g) => chars.indexOf(g.input.value));
      const best = ranked(row).slice(0, 2).filter((i) => row[i] > 0);
      const hits = new Set(mine.filter((i) => best.includes(i))).size;
      verdict.textContent =
        `${["Neither", "One", "Both"][hits]} of your two ${hits === 2 ? "are" : "is"} what counting expects after ${spoken(ask)}: ` +
        `${best.map(put).join(", then ")}${best.length < 2 ? " and nothing else" : ""}. You chose ${mine.map(put).join(" and ")}.`;
      verdict.hidden = false;
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      go({ open: true, prev: ask, next: chars[ranked(rowOf(counted, size, chars.indexOf(ask)))[0]] });
      ladder.caption.focus();
      say(words);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `Which two characters do you expect after ${spoken(ask)}?`),
      h("div", { class: "lf-quiz-row" }, guesses.map((g) => g.node)),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(sayStage()))),
    );
  }

  function inWords(r, c, name = nameOf) {
    const at = r * size + c;
    const times = `${count(counts[at])} of ${count(rowOf(counts, size, r).reduce((a, b) => a + b, 0))} times`;
    const shares = `trained ${percent(stage().trained[at])}, counted ${percent(counted[at])}`;
    return `${name(chars[c])} after ${name(chars[r])}: ${shares} (${times})`;
  }

  function showCell(r, c) {
    const s = state();
    const asked = !s.open && r === chars.indexOf(ask);
    cell.textContent = asked ? "Point at a cell, or use the arrow keys." : inWords(r, c);
  }

  function sayStage() {
    const { step, loss, gap } = stage();
    return `Step ${count(step)}: validation loss ${nats(loss)} nats, ${nats(bits(loss))} bits per character. The trained table is ${nats(gap)} nats from the counted one.`;
  }

  function numbers() {
    const { view, step } = state();
    const values = { trained: stage().trained, counted, difference: stage().off }[view];
    const put = view === "difference" ? points : (p) => percent(p).slice(0, -2);
    const what = view === "counted" ? "Counted" : `${view === "trained" ? "Trained" : "Trained minus counted"}, step ${count(step)}`;
    return {
      caption: `${what}: percent. Row: previous character; column: next character.`,
      columns: ["previous", ...names],
      rows: names.map((name, r) => [name, ...Array.from(rowOf(values, size, r), put)]),
    };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const r = chars.indexOf(s.prev);
    const c = chars.indexOf(s.next);
    const now = stage(s);
    if (text.at(-1) !== s.prev) text = s.prev; // Python chose another character
    previous.set(s.prev);
    views.set(s.view);
    scrub.set(steps.indexOf(s.step));
    losses_.set(steps.indexOf(s.step));
    map.draw({ trained: now.trained, counted, difference: now.off }[s.view], { diverging: s.view === "difference", theme });
    map.cursor(r, c);
    showCell(r, c);
    panel.classList.toggle("lf-locked", !s.open);

    const p = rowOf(counted, size, r);
    const q = rowOf(now.trained, size, r);
    const order = ranked(p);
    const rest = order.slice(SHOWN);
    const add = (row) => rest.reduce((sum, i) => sum + row[i], 0);
    const rows = order.slice(0, SHOWN).map((i) => [names[i], q[i], p[i]]);
    if (rest.length) rows.push([`${rest.length} others`, add(q), add(p)]);
    const top = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((v) => v >= Math.max(...rows.map((row) => row[2])) - 1e-9) ?? 1;
    const seen = rowOf(counts, size, r).some(Boolean);
    const full = seen ? `, a full bar is ${100 * top} %` : " was never seen: counting says nothing";
    ladder.set(h("span", {}, h("b", {}, `After ${names[r]}`), full), rows, top);

    const apart = kl(p, rowOf(now.logq, size, r));
    const first = stages[0];
    const before = now === first ? "" : ` (${nats(first.gap)} at step ${count(first.step)})`;
    readout.replaceChildren(
      h("span", {}, `Step ${count(s.step)}: validation loss `, h("b", {}, `${nats(now.loss)} nats`), ` = ${nats(bits(now.loss))} bits per character`),
      h("span", {}, "KL(counted ‖ trained) ", h("b", {}, `${nats(now.gap)} nats`), before, s.open && seen ? `; after ${names[r]} ${nats(apart)}` : ""),
    );
    page.replaceChildren(text.slice(0, -1), h("mark", {}, text.at(-1) === "\n" ? glyph("\n") : text.at(-1)));
    table.refresh();
  }

  return {
    controls: [previous.node, views.node, h("div", { class: "lf-track" }, losses_.node, scrub.node)],
    picture: h("div", { class: "lf-picture" }, map.node, panel),
    readout,
    more: [more, table.region],
    actions: [table.button],
    notes: notes(props, stages),
    draw,
    resize: (width) => map.fit(width >= 600 ? Math.min(0.54 * width, 460) : width),
    reset() {
      random = rng(props.seed);
      text = ask;
    },
    kept: () => ({ open: state().open }),
  };
}

// Stretches of the alphabet, named along the axes: [text, first, last].
function runs(chars) {
  return [/[A-Z]/, /[a-z]/, /[0-9]/]
    .map((kind) => chars.flatMap((c, i) => (kind.test(c) ? [i] : [])))
    .filter((at) => at.length > 3)
    .map((at) => [`${chars[at[0]]}–${chars[at.at(-1)]}`, at[0], at.at(-1)]);
}

const notes = ({ ask }, stages) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    `Choose Difference and move the training step from 0 to the end. Then pick ${spoken(ask)}, generate 200 characters, and find where the text first stops being language. Why can this model not know?`,
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      `The difference fades: the two tables are ${nats(stages[0].gap)} nats apart at step ${count(stages[0].step)} and ${nats(stages.at(-1).gap)} at step ${count(stages.at(-1).step)}. ` +
        "The text goes wrong within a word or two: each pair of neighbors is plausible, but the model has forgotten everything before the last character.",
    ),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
