// Chapter 10: curves of recorded runs, one of them to be predicted, and a bigram table trained in the browser.
import { button, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { lossChart } from "./kit/losses.mjs";
import { tableView } from "./kit/table.mjs";
import { count, glyph, nats } from "./kit/text.mjs";
import { unpack } from "./runtime/ngram.mjs";
import { rng } from "./runtime/rng.mjs";
import { leastLoss, meanLoss, pairCounts, sgdStep, start, weightSize, write } from "./runtime/sgd.mjs";

const HERE = "here"; // the run that the browser makes
const SHOWN_TEXT = 64; // characters of a sample
const SLICE = 12; // milliseconds of arithmetic between two pictures
const GRID = 0.05; // nats: what a guess moves by

const defaults = ({ runs, exhibit, rates, batches, shares }) => ({
  run: runs.length ? "0" : HERE,
  at: 0, // a row of the recorded run; 0 is its best, so that the picture opens there
  lr: rates.indexOf(10),
  batch: batches.indexOf(64),
  share: shares.length - 1,
  decay: 0,
  step: 0,
  open: !exhibit,
});
const whole = (v, n, otherwise = 0) => (Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), 0), n - 1) : otherwise);
const clean = (s, props) => {
  const { runs, rates, batches, shares, decays, steps } = props;
  const first = defaults(props);
  const run = s.run === HERE || !runs[s.run] ? (s.run === HERE ? HERE : first.run) : String(s.run);
  return {
    run,
    at: run === HERE ? 0 : whole(s.at, runs[run].rows.length + 1),
    lr: whole(s.lr, rates.length, first.lr),
    batch: whole(s.batch, batches.length, first.batch),
    share: whole(s.share, shares.length, first.share),
    decay: whole(s.decay, decays.length),
    step: whole(s.step, steps + 1),
    open: first.open || String(s.open) === "true",
  };
};

/** Is the loss of the browser's run kept at this step? All at first, then less and less often. */
const due = (step) => step % 2 ** Math.max(0, 26 - Math.clz32(step)) === 0;
const bestOf = (rows) => rows.reduce((a, b) => (b[2] < a[2] ? b : a));
const share = (x) => `${+(100 * x).toPrecision(3)}\u00a0%`;
const round = (most) => [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(most))).find((v) => v >= most);

function build({ props, tensors, state, update, say }) {
  const { chars, runs, rates, batches, shares, sizes, decays, steps, seed } = props;
  const V = chars.length;
  const ids = unpack(tensors.train.data, props.n);
  const valCounts = pairCounts(unpack(tensors.val.data, props.m), props.m, V);
  const opens = chars.includes("\n") ? chars.indexOf("\n") : 0; // what stands before a sample
  const even = Math.log(V);
  const checkpoints = [0, 10, 100, 1000, steps].filter((step) => step <= steps);

  // --- the browser's run
  let work; // { key, run, counts, least, rows, texts }
  let before = []; // the rows of the run before, to compare with
  let playing = false;
  let frame;
  let stopped = false;

  const settings = (s) => ({ lr: rates[s.lr], batch: batches[s.batch], decay: decays[s.decay] });
  const keyOf = (s) => JSON.stringify([s.lr, s.batch, s.share, s.decay]);
  const sampleText = (table) => write(table, V, opens, SHOWN_TEXT, rng(seed));

  function record() {
    const { run, counts, rows, texts } = work;
    rows.push([run.step, meanLoss(run.table, counts, V), meanLoss(run.table, valCounts, V)]);
    if (checkpoints.includes(run.step)) texts.set(run.step, sampleText(run.table));
  }

  const target = (s) => (playing ? steps : s.step);

  /** The run of these settings at its beginning, if it is not the one at work or has gone too far. */
  function begin(s) {
    const key = keyOf(s);
    if (work?.key === key && work.run.step <= target(s)) return;
    if (work && work.key !== key && work.rows.length > 8) before = work.rows;
    const n = sizes[s.share];
    const counts = pairCounts(ids, n, V);
    work = { key, run: start({ ids, n, V, seed }), counts, least: leastLoss(counts, V), rows: [], texts: new Map() };
    record();
  }

  function advance(to, s) {
    const { run, rows } = work;
    const until = performance.now() + SLICE;
    while (run.step < to && performance.now() < until) {
      sgdStep(run, settings(s));
      if (due(run.step) || run.step === steps || checkpoints.includes(run.step)) record();
    }
    if (run.step >= to && rows.at(-1)[0] !== run.step) record();
  }

  // Some steps a picture: one by one at first, so that the steep part is seen, then ever more.
  function tick() {
    frame = undefined;
    const s = state();
    if (stopped || s.run !== HERE) return;
    begin(s);
    const pace = Math.max(1, Math.ceil(work.run.step / 50));
    advance(playing ? Math.min(steps, work.run.step + pace) : s.step, s);
    if (playing && work.run.step >= steps) return pause();
    drawRun(s);
    wake(s);
    if (work.run.step === target(s)) say(finding(s));
  }
  function wake(s) {
    if (work.run.step < target(s) && frame === undefined && !stopped) frame = requestAnimationFrame(tick);
  }
  function pause() {
    playing = false;
    update({ step: work.run.step });
    say(finding());
  }
  const play = () => {
    if (playing) return pause();
    if (work.run.step >= steps) {
      work = undefined;
      update({ step: 0 });
    }
    playing = true;
    draw();
  };
  const go = (n) => {
    if (playing) pause();
    update({ step: Math.min(steps, work.run.step + n) });
  };
  const again = () => {
    playing = false;
    work = undefined;
    update({ step: 0 });
  };
  const unseen = new IntersectionObserver(([entry]) => !entry.isIntersecting && playing && pause());

  // --- controls
  const which = select({
    label: "Run",
    options: [...runs.map(({ name }, i) => [String(i), name]), [HERE, "Train a bigram table here"]],
    onchange: (run) => {
      if (playing) pause();
      update({ run, at: 0 });
      say(finding());
    },
  });
  const at = slider({ label: "Evaluation", count: 2, say: (i) => sayRow(rowsOf(state())[i]), oninput: (i) => (update({ at: i + 1 }), say(finding())) });
  const range = at.node.querySelector("input");
  const set = (name) => (i) => update({ [name]: i });
  const some = (options) => {
    const made = slider(options);
    made.node.style.flex = "1 1 10.5rem";
    return made;
  };
  const lr = some({ label: "Learning rate", count: rates.length, say: (i) => String(rates[i]), oninput: set("lr") });
  const batch = some({ label: "Batch", count: batches.length, say: (i) => `${batches[i]} ${batches[i] === 1 ? "pair" : "pairs"}`, oninput: set("batch") });
  const data = some({ label: "Training text", count: shares.length, say: (i) => share(shares[i]), oninput: set("share") });
  const decay = some({ label: "Weight decay", count: decays.length, say: (i) => (decays[i] ? decays[i].toFixed(Math.round(-Math.log10(decays[i]))) : "none"), oninput: set("decay") });
  const player = button("Play", play, { class: "lf-button lf-button-main" });
  const drive = h("div", { class: "lf-actions" }, player, button("1 step", () => go(1)), button("100 steps", () => go(100)), button("Start over", again));
  const mine = h("div", { style: "flex:1 1 100%" }, h("div", { class: "lf-controls" }, lr.node, batch.node, data.node, decay.node, drive));

  // --- picture
  const chart = lossChart({
    keys: { train: "training", val: "validation", before: "validation of the run before", guess: "your guess", level: "least possible on the training text" },
    onpoint: (step, loss) => {
      const s = state();
      if (s.run === HERE) return;
      if (!locked(s)) return update({ at: 1 + nearest(rowsOf(s), step) });
      const i = nearest(later, step);
      guess(i, loss);
    },
  });
  const readout = h("p", { class: "lf-readout" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const table = tableView({ label: "The losses in numbers", build: numbers });
  const page = h("tbody", {});
  const samples = h(
    "table",
    { class: "lf-table", style: "table-layout:fixed" },
    h("caption", {}, h("b", {}, "What the table writes"), ` at some steps: ${SHOWN_TEXT} characters, always with the same random numbers`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", style: "width:4.5rem" }, "step"), h("th", { scope: "col", style: "text-align:left;padding-left:.625rem" }, "text"))),
    page,
  );

  // --- the question: how does validation go on?
  const rowsOf = (s) => (s.run === HERE ? work?.rows ?? [] : runs[s.run].rows);
  const nearest = (rows, step) => rows.reduce((best, row, i) => (Math.abs(row[0] - step) < Math.abs(rows[best][0] - step) ? i : best), 0);
  const asked = props.exhibit ? runs[0].rows : [];
  const turn = props.exhibit ? asked.indexOf(bestOf(asked)) : 0;
  const rest = asked.slice(turn + 1);
  const later = [...new Set([1, 2, 3].map((i) => rest[Math.max(0, Math.ceil((i * rest.length) / 3) - 1)]))].filter(Boolean);
  const paper = matchMedia("print"); // on paper nobody is asked
  const locked = (s) => props.exhibit && s.run === "0" && !s.open && !paper.matches;
  const top = Math.ceil(Math.max(4, ...asked.slice(1).flatMap((row) => row.slice(1))));
  const places = Math.round(top / GRID);
  const level = props.exhibit ? Math.round(asked[turn][2] / GRID) : 0;
  let guesses = later.map(() => level);
  const inputs = later.map(([step], i) => some({ label: `At step ${count(step)}`, count: places + 1, say: (v) => `${(v * GRID).toFixed(2)} nats`, oninput: (v) => guess(i, v * GRID) }));
  function guess(i, loss) {
    guesses[i] = Math.min(Math.max(Math.round(loss / GRID), 0), places);
    draw();
  }
  function quiz() {
    const check = () => {
      const words = later.map(([step, , v], i) => `at step ${count(step)} you put ${(guesses[i] * GRID).toFixed(2)}, it was ${nats(v)}`).join("; ");
      const rises = guesses.at(-1) * GRID > asked[turn][2] + 2 * GRID;
      verdict.textContent = `${rises ? "It rises, as you drew." : "It rises."} Validation loss, nats: ${words}. The lowest was ${nats(asked[turn][2])} at step ${count(asked[turn][0])}.`;
      verdict.hidden = false;
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      update({ open: true, at: asked.length });
      range.focus();
      say(words ?? finding());
    };
    return h(
      "div",
      { class: "lf-quiz", role: "group", "aria-label": "Predict first" },
      h(
        "p",
        {},
        h("b", {}, "Predict first. "),
        `Training loss goes on falling to the end. Draw where validation loss will go after step ${count(asked[turn][0])}: move the sliders, or press in the picture.`,
      ),
      h("div", { class: "lf-controls" }, inputs.map((input) => input.node)),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal())),
    );
  }
  const panel = h("div", { style: "flex:1 1 100%" }, props.exhibit ? quiz() : null, verdict);

  // --- words
  const hidden = (s, row) => locked(s) && row[0] > asked[turn][0];
  const sayRow = (row, s = state()) => (row ? `step ${count(row[0])}, training ${nats(row[1])}, validation ${hidden(s, row) ? "hidden" : nats(row[2])}` : "");
  const rowAt = (s) => {
    const rows = rowsOf(s);
    return rows[s.at ? s.at - 1 : rows.indexOf(bestOf(rows))];
  };
  function finding(s = state()) {
    const rows = rowsOf(s);
    if (s.run !== HERE) {
      const best = bestOf(rows);
      return `${runs[s.run].name}, ${sayRow(rowAt(s), s)} nats. Validation loss ${locked(s) ? `up to step ${count(best[0])}` : ""} is lowest at step ${count(best[0])}, ${nats(best[2])}.`.replaceAll("  ", " ");
    }
    const now = rows.at(-1);
    const best = bestOf(rows);
    const turned = now[2] > best[2] + 0.05 ? ` It was lowest at step ${count(best[0])}, ${nats(best[2])}.` : "";
    const far = now[0] && now[2] > even ? ` That is more than ${nats(even)}, the loss of knowing nothing: the steps are too long.` : "";
    return `Step ${count(now[0])}: training ${nats(now[1])}, validation ${nats(now[2])} nats.${turned}${far}`;
  }

  function numbers() {
    const s = state();
    const rows = rowsOf(s);
    const every = Math.ceil(rows.length / 60);
    const kept = rows.filter((row, i) => i % every === 0 || row === rows.at(-1) || row === bestOf(rows));
    return {
      caption: `${s.run === HERE ? "The run of this browser" : runs[s.run].name}: losses in nats.`,
      columns: ["step", "training", "validation", "validation minus training"],
      rows: kept.map((row) => [count(row[0]), nats(row[1]), ...(hidden(s, row) ? ["hidden", "hidden"] : [nats(row[2]), nats(row[2] - row[1]).replace("-", "−")])]),
    };
  }

  function drawRun(s) {
    const { rows, least, texts, run } = work;
    const now = rows.at(-1);
    const best = bestOf(rows);
    const all = [...rows, ...before].flatMap((row) => row.slice(1)).filter(Number.isFinite);
    const high = Math.min(Math.max(even, ...all) * 1.04, 3 * even);
    chart.set({
      label: `Losses of the run of this browser. ${finding(s)}`,
      series: [
        ["before", before.map(([step, , v]) => [step, v])],
        ["train", rows.map(([step, v]) => [step, v])],
        ["val", rows.map(([step, , v]) => [step, v])],
      ],
      marks: now[0] ? [[now[0], now[2]]] : [],
      levels: [least],
      x: Math.min(steps, Math.max(100, round(Math.max(now[0], 1)))),
      y: [Math.floor(2 * Math.min(least, ...all)) / 2, high],
    });
    readout.replaceChildren(
      h("span", {}, finding(s)),
      h("span", {}, `Least possible on these ${count(run.n)} characters: `, h("b", {}, nats(least)), "; lowest validation so far: ", h("b", {}, nats(best[2])), ` at step ${count(best[0])}; size of the weights: ${weightSize(run.table).toFixed(2)}.`),
    );
    const shown = new Map(texts);
    if (!playing) shown.set(run.step, texts.get(run.step) ?? sampleText(run.table));
    page.replaceChildren(
      ...[...shown].sort(([a], [b]) => a - b).map(([step, made]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", style: "vertical-align:top" }, count(step)),
          h("td", { style: "white-space:pre-wrap;overflow-wrap:anywhere;text-align:left;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" }, made.map((id) => (chars[id] === "\n" ? glyph("\n") : chars[id]))),
        ),
      ),
    );
    table.refresh();
  }

  function drawRecord(s) {
    const rows = rowsOf(s);
    const row = rowAt(s);
    const best = bestOf(rows);
    const open = rows.filter((r) => !hidden(s, r));
    const guessed = s.run === "0" && (locked(s) || !verdict.hidden) ? [["guess", [[best[0], best[2]], ...later.map(([step], i) => [step, guesses[i] * GRID])]]] : [];
    const losses = rows.flatMap((r) => r.slice(1));
    const high = s.run === "0" && props.exhibit ? Math.max(top, ...losses) : Math.max(...losses);
    chart.set({
      label: `Training and validation loss of ${runs[s.run].name}. ${finding(s)}`,
      series: [["train", rows.map((r) => [r[0], r[1]])], ["val", open.map((r) => [r[0], r[2]])], ...guessed],
      marks: [[best[0], best[2]]],
      x: rows.at(-1)[0],
      y: [s.run === "0" && props.exhibit ? 0 : Math.floor(2 * Math.min(...losses)) / 2, high * 1.02],
      at: row[0],
    });
    range.max = rows.length - 1;
    at.set(rows.indexOf(row));
    const gap = hidden(s, row) ? "hidden" : nats(row[2] - row[1]).replace("-", "−");
    readout.replaceChildren(
      h("span", {}, `Step ${count(row[0])}: training `, h("b", {}, nats(row[1])), ", validation ", h("b", {}, hidden(s, row) ? "hidden" : nats(row[2])), ` nats; the gap is ${gap}`),
      h("span", {}, locked(s) ? "" : h("span", {}, "Lowest validation loss: ", h("b", {}, nats(best[2])), ` at step ${count(best[0])}`)),
    );
    table.refresh();
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const here = s.run === HERE;
    which.set(s.run);
    at.node.hidden = here;
    mine.hidden = !here;
    text.hidden = !here;
    panel.classList.toggle("lf-locked", Boolean(locked(s)));
    panel.hidden = here || s.run !== "0" || !props.exhibit;
    for (const [control, value] of [[lr, s.lr], [batch, s.batch], [data, s.share], [decay, s.decay]]) control.set(value); // prettier-ignore
    inputs.forEach((input, i) => input.set(guesses[i]));
    if (!here) return drawRecord(s);
    begin(s);
    player.textContent = playing ? "Pause" : "Play";
    drawRun(s);
    wake(s);
  }

  const text = h("div", {}, h("div", { class: "lf-text" }, samples));
  const picture = h("div", { class: "lf-picture", style: "grid-template-columns:minmax(0,1fr)" }, chart.node);
  unseen.observe(picture);
  const printing = () => draw();
  paper.addEventListener("change", printing);
  return {
    controls: [which.node, mine, panel],
    picture,
    readout,
    more: [at.node, text, table.region],
    actions: [table.button],
    notes: notes(props, even),
    draw,
    resize: chart.fit,
    reset() {
      verdict.hidden = true;
      guesses = later.map(() => level);
      playing = false;
      work = undefined;
      before = [];
    },
    kept: () => ({ open: state().open }),
    stop() {
      stopped = true;
      playing = false;
      cancelAnimationFrame(frame);
      unseen.disconnect();
      paper.removeEventListener("change", printing);
    },
  };
}

const notes = ({ seen, seed, steps }, even) => [
  h(
    "p",
    {},
    h("b", {}, "Try this. "),
    "Choose Train a bigram table here and press Play. Then one change at a time: learning rate 300; rate 30 with a batch of 8 and of 512; and rate 10, batch 64 with the shortest training text, without weight decay and with 0.0001.",
  ),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h(
      "p",
      {},
      `With rate 10 on all of the text the validation loss is ${nats(seen.base.end[2])} after ${count(steps)} steps. Rate 300 leaps over the valley: it ends above the ${nats(even)} of knowing nothing, and jumps so wildly that rounding in the sixteenth digit decides where. ` +
        `At rate 30 a batch of 8 ends at ${nats(seen.small_batch.end[2])} and one of 512 at ${nats(seen.large_batch.end[2])}: a small batch is a noisy gradient, and long steps turn the noise into loss. ` +
        `On the shortest text training falls to ${nats(seen.little.end[1])} while validation turns at step ${count(seen.little.low[0])}, from ${nats(seen.little.low[2])} up to ${nats(seen.little.end[2])}; with weight decay 0.0001 it ends at ${nats(seen.decay.end[2])}.`,
    ),
  ),
  h(
    "p",
    { class: "lf-note" },
    `The rates are far above those of a GPT: a step moves only the rows of the table that stand in its batch, and the mean over the batch makes each move small. Batches and samples follow from seed ${seed}, so a run can be repeated.`,
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
