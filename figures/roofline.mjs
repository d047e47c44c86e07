// Chapter 11: the roofline. What a machine attains on each part of a forward pass, and this browser measured on it.
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count, percent } from "./kit/text.mjs";
import { attainable, intensity, leastSeconds, product, ridgeBatch, together, work } from "./runtime/roofline.mjs";

const PARTS = { attention: "attention", scores: "scores", mlp: "MLP", head: "head" };
const BATCHES = 13; // 1, 2, 4 ... 4,096
const SHORTEST = 4; // the shortest text has 2^4 tokens
const BROWSER = "This browser";

const longest = (model) => Math.max(SHORTEST, Math.floor(Math.log2(model.T)));
const whole = (v, low, high, otherwise) => (Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), low), high) : otherwise);
const named = (list, name, otherwise) => (list.some((item) => item.name === name) ? name : otherwise);

const defaults = ({ opens }) => ({ ...opens, open: false });
const clean = (s, { models, devices, opens }) => {
  const model = named(models, s.model, opens.model);
  const device = named([...devices, { name: BROWSER }], s.device, opens.device);
  const formats = Object.keys(devices.find((d) => d.name === device)?.peaks ?? { fp32: 0 });
  return {
    device,
    bits: formats.length > 1 && String(s.bits) === "16" ? 16 : 32,
    model,
    mode: s.mode === "prefill" ? "prefill" : "decode",
    batch: whole(s.batch, 0, BATCHES - 1, opens.batch),
    length: whole(s.length, SHORTEST, longest(models.find((m) => m.name === model)), opens.length),
    open: s.open === true || s.open === "true",
  };
};

const UNITS = ["", " k", " M", " G", " T", " P"];
/** 3 digits and a unit: 1.25 GFLOP/s. */
function rate(v, unit) {
  const step = Math.min(Math.max(Math.floor(Math.log10(v) / 3), 0), UNITS.length - 1);
  const x = v / 1000 ** step;
  return `${x >= 99.5 ? count(Math.round(x)) : x.toPrecision(x >= 9.95 ? 3 : 2)}\u00a0${UNITS[step].trim()}${unit}`;
}
const flops = (v) => rate(v, "FLOP/s");
const short = (v) => (v >= 99.5 ? count(Math.round(v)) : v >= 9.95 ? v.toFixed(0) : v.toFixed(v < 1 ? 2 : 1));
const time = (s) => (s >= 1 ? `${short(s)} s` : s >= 1e-3 ? `${short(1e3 * s)} ms` : `${short(1e6 * s)} µs`);
const texts = (n) => (n === 1 ? "1 text" : `${count(n)} texts`);
const reaches = (n) => (n == null ? "never" : `from ${texts(n)} on`);

function build({ props, state, update, say }) {
  const { models, devices, measured } = props;
  const modelOf = (s) => models.find((m) => m.name === s.model);
  let mine; // what the button measured: { peak, bandwidth }
  let stopped = false;
  const say_ = (patch) => (update(patch), say(finding()));

  /** Peak, bandwidth and number format of the chosen machine; undefined before the browser was measured. */
  function machine(s) {
    if (s.device === BROWSER) return mine && { ...mine, format: "fp32" };
    const { bandwidth, peaks } = devices.find((d) => d.name === s.device);
    const format = Object.keys(peaks)[s.bits === 16 ? 1 : 0];
    return { peak: peaks[format], bandwidth, format };
  }

  function counts(s) {
    const T = 2 ** s.length;
    const width = s.bits / 8;
    const past = s.mode === "decode" ? T - 1 : 0;
    const parts = work(modelOf(s), { B: 2 ** s.batch, T: s.mode === "decode" ? 1 : T, past, width });
    return { parts, all: together(parts), past, width, T, B: 2 ** s.batch };
  }

  // Controls
  const device = select({ label: "Machine", options: [...devices.map((d) => d.name), BROWSER].map((n) => [n, n]), onchange: (d) => say_({ device: d }) });
  const bits = choice({ label: "Number format", options: [["32", "fp32"], ["16", "16 bits"]], onchange: (b) => say_({ bits: b }) });
  const model = select({ label: "Model", options: models.map((m) => [m.name, m.name]), onchange: (m) => say_({ model: m }) });
  const mode = choice({ label: "Task", options: [["decode", "writes a token"], ["prefill", "reads a prompt"]], onchange: (m) => say_({ mode: m }) });
  const batch = slider({ label: "Batch", count: BATCHES, say: (i) => texts(2 ** i), oninput: (i) => say_({ batch: i }) });
  const length = slider({ label: "Length of each", count: 2, say: (i) => `${count(2 ** (i + SHORTEST))} tokens`, oninput: (i) => say_({ length: i + SHORTEST }) });
  const lengths = length.node.querySelector("input");
  const measure = button("Measure this browser", bench);

  // Picture
  const svg = h("svg:svg", { role: "img", style: "display:block;width:100%;overflow:visible;font-size:14px" });
  const caption = h("caption", {});
  const body = h("tbody", {});
  const head = ["", "FLOP/byte", "FLOP/s", "limit"].map((name) => h(name ? "th" : "td", { scope: name ? "col" : null }, name));
  const list = h("table", { class: "lf-table" }, caption, h("thead", {}, h("tr", {}, head)), body);
  const narrow = () => width < 310; // then the column of FLOP/s is in the table view alone
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "flex:1 1 100%" }, quiz(), verdict);
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({ label: "The numbers of the picture", build: numbers });
  let width = 320;

  function finding() {
    const s = state();
    const m = machine(s);
    if (!m) return "This browser has not been measured yet.";
    const { all } = counts(s);
    const x = intensity(all);
    const most = attainable(x, m);
    return `${what(s)}: ${short(x)} FLOP a byte, at most ${flops(most)}, ${percent(most / m.peak)} of the peak. ${x < m.peak / m.bandwidth ? "Memory" : "Computing"} is the limit.`;
  }
  const what = (s) => `${s.model}, ${s.mode === "decode" ? "one token for" : "prompts of"} ${texts(2 ** s.batch)}`;

  function numbers() {
    const s = state();
    const m = machine(s);
    const { parts, all } = counts(s);
    const dots = [...Object.entries(parts).map(([part, each]) => [PARTS[part], each]), ["all together", all]];
    const shown = dots.map(([name, each]) => [name, m ? flops(attainable(intensity(each), m)) : "", "", `${short(intensity(each))} FLOP/byte`]);
    const rows = everyone(s).map(({ name, peak, bandwidth, format }) => [`${name}, ${format}`, flops(peak), rate(bandwidth, "B/s"), `${short(peak / bandwidth)} FLOP/byte`]);
    return {
      caption: `The dots on ${s.device}: at most, and intensity. The machines: peak, bandwidth, ridge. What was measured: reached, and intensity.`,
      columns: ["dot or machine", "FLOP/s", "bandwidth", "intensity"],
      rows: [...shown, ...rows, ...measured.map(([name, x, f]) => [name, flops(f), "", `${short(x)} FLOP/byte`])],
    };
  }

  /** Every machine with the chosen number format, or with fp32 where it has only that. */
  function everyone(s) {
    const all = devices.map(({ name, bandwidth, peaks }) => {
      const formats = Object.keys(peaks);
      const format = formats[s.bits === 16 && formats.length > 1 ? 1 : 0];
      return { name, bandwidth, peak: peaks[format], format };
    });
    return mine ? [...all, { name: BROWSER, ...mine, format: "fp32" }] : all;
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    device.set(s.device);
    bits.set(String(s.bits));
    const only = !(Object.keys(devices.find((d) => d.name === s.device)?.peaks ?? {}).length > 1);
    const sixteen = bits.node.querySelector('[data-value="16"]');
    sixteen.disabled = only;
    sixteen.style.opacity = only ? 0.5 : "";
    model.set(s.model);
    mode.set(s.mode);
    batch.set(s.batch);
    lengths.max = longest(modelOf(s)) - SHORTEST;
    length.set(s.length - SHORTEST);
    panel.classList.toggle("lf-locked", !s.open);
    const m = machine(s);
    const { parts, all, past, width: bytes, B } = counts(s);
    plot(svg, width, { machines: everyone(s), chosen: s.device, parts, all, measured, m, alt: finding() });
    head[2].hidden = narrow();
    const where = s.device === BROWSER ? "this browser" : s.device;
    caption.replaceChildren(h("b", {}, "One dot for each part"), m ? `, at most: ${where}, ${m.format}` : "");
    body.replaceChildren(
      ...Object.entries(parts).map(([part, each]) => line(mark(part), PARTS[part], each, m)),
      line(mark("all"), "all together", all, m),
    );
    if (!m) readout.textContent = "Press Measure this browser: it multiplies two matrices and copies 32 MB, for about a second.";
    else {
      const ridge = m.peak / m.bandwidth;
      const seconds = leastSeconds(parts, m);
      const shape = modelOf(s);
      const weights = ridgeBatch(shape, ridge, { past, width: bytes });
      const every = ridgeBatch(shape, ridge, { past, width: bytes, parts: Object.keys(parts) });
      readout.replaceChildren(
        h("span", {}, finding()),
        h("span", {}, "One part after the other, it takes at least ", h("b", {}, time(seconds)), B > 1 || s.mode === "prefill" ? `, ${time(seconds / (s.mode === "decode" ? B : B * 2 ** s.length))} for each token` : ""),
        s.open && s.mode === "decode" ? h("span", {}, "Products with weights reach the ridge ", h("b", {}, reaches(weights)), "; all together, with the scores, ", h("b", {}, reaches(every))) : "",
      );
    }
    table.refresh();
  }

  function line(shape, name, part, m) {
    const x = intensity(part);
    const limit = m && (x < m.peak / m.bandwidth ? "memory" : "computing");
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("svg:svg", { width: 18, height: 14, viewBox: "-9 -7 18 14", "aria-hidden": "true", style: "vertical-align:-2px" }, shape), name),
      h("td", {}, short(x)),
      h("td", { hidden: narrow() }, m ? rate(attainable(x, m), "") : ""),
      h("td", {}, limit ?? ""),
    );
  }

  function quiz() {
    const options = [["", "choose"], ...["1 to 9", "10 to 99", "100 to 999", "1,000 or more"].map((text, i) => [`${i}`, text]), ["never", "never"]];
    const guesses = props.ask.map(([m, d]) => select({ label: `${m} on ${d}`, options, onchange() {} }));
    const truths = props.ask.map(([m, d]) => {
      const { peaks, bandwidth } = devices.find((each) => each.name === d);
      return ridgeBatch(models.find((each) => each.name === m), Object.values(peaks).at(-1) / bandwidth, { width: 2 });
    });
    const check = () => {
      const missing = guesses.find((g) => !g.input.value);
      if (missing) {
        say("Choose everywhere first.");
        return missing.input.focus();
      }
      const right = guesses.filter((g, i) => g.input.value === (truths[i] == null ? "never" : `${Math.min(3, Math.floor(Math.log10(truths[i])))}`)).length;
      verdict.textContent =
        `${right} of your ${guesses.length} guesses ${right === 1 ? "is" : "are"} right. ` +
        props.ask.map(([m, d], i) => `${m} on ${d}: ${truths[i] == null ? "never" : texts(truths[i])}`).join("; ") +
        ".";
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      verdict.hidden = !verdict.textContent;
      update({ open: true });
      device.input.focus();
      say(words);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), "A model writes one token for each of many texts, with 16 bits a number. From how many texts on do the products with its weights wait for the processor, and no longer for the memory?"),
      h("div", { class: "lf-quiz-row" }, guesses.map((g) => g.node)),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(finding()))),
    );
  }

  /** A product of two matrices and a copy, each for a few slices of some milliseconds; the best slice counts. */
  async function bench() {
    if (measure.getAttribute("aria-disabled") === "true") return;
    measure.setAttribute("aria-disabled", "true");
    measure.textContent = "Measuring…";
    const n = 128;
    const [a, b, out] = [1, 2, 3].map((seed) => Float32Array.from({ length: n * n }, (_, i) => ((i * seed) % 7) - 3));
    try {
      const from = new Float32Array(2 ** 23).fill(1); // 32 MiB
      const to = new Float32Array(from.length);
      const peak = await best(() => (product(a, b, out, n), 2 * n ** 3), 9);
      const bandwidth = await best(() => (to.set(from), 2 * from.byteLength), 7);
      if (stopped) return;
      mine = { peak, bandwidth };
    } catch (error) {
      measure.textContent = `Not measured: ${error.message}`;
      return;
    }
    measure.removeAttribute("aria-disabled");
    measure.textContent = "Measure again";
    update({ device: BROWSER });
    draw();
    say(`Measured: ${flops(mine.peak)}, ${rate(mine.bandwidth, "B/s")}. ${finding()}`);
  }

  async function best(once, slices) {
    let top = 0;
    for (let i = 0; i < slices && !stopped; i++) {
      await new Promise((go) => setTimeout(go)); // the page stays alive between slices
      const start = performance.now();
      let done = 0;
      let spent = 0;
      while (spent < 40) {
        done += once();
        spent = performance.now() - start;
      }
      if (i > 1) top = Math.max(top, (1000 * done) / spent); // the first two warm up
    }
    return top;
  }

  return {
    controls: [panel, device.node, bits.node, measure, model.node, mode.node, batch.node, length.node],
    picture: h("div", { class: "lf-picture", style: "grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))" }, h("div", {}, svg), h("div", {}, list, key())),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    resize: (all) => {
      width = all >= 640 ? (all - 16) / 2 : all;
      draw();
    },
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
    stop: () => (stopped = true),
  };
}

const key = () =>
  h(
    "p",
    { class: "lf-card", style: "padding-top:.5rem" },
    h("svg:svg", { width: 18, height: 14, viewBox: "-9 -7 18 14", "aria-hidden": "true", style: "vertical-align:-2px" }, mark("measured")),
    "measured: what was reached in this chapter and by the recorded runs; thin lines: the other machines",
  );

// A shape for each part, so that no color is needed to tell them apart.
function mark(part, x = 0, y = 0) {
  const at = { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  const blue = { ...at, style: "fill:var(--blue);stroke:var(--paper);stroke-width:1" };
  if (part === "attention") return h("svg:circle", { ...blue, r: 5.5 });
  if (part === "scores") return h("svg:rect", { ...blue, x: -5, y: -5, width: 10, height: 10 });
  if (part === "mlp") return h("svg:path", { ...blue, d: "M0-6.5L6.5 5H-6.5Z" });
  if (part === "head") return h("svg:path", { ...blue, d: "M0-7L7 0L0 7L-7 0Z" });
  if (part === "all") return h("svg:path", { ...at, style: "fill:none;stroke:var(--orange);stroke-width:3", d: "M-6-6L6 6M6-6L-6 6" });
  return h("svg:circle", { ...at, r: 4.5, style: "fill:var(--paper);stroke:var(--ink);stroke-width:1.5" });
}

const X = [-1, 4]; // decades of intensity
const Y = [8, 16]; // decades of FLOP/s
const NAMES = ["100 M", "1 G", "10 G", "100 G", "1 T", "10 T", "100 T", "1 P", "10 P"];

function plot(svg, width, { machines, chosen, parts, all, measured, m, alt }) {
  const [left, right, top, bottom] = [50, 10, 26, 42];
  const height = Math.max(320, Math.min(400, 0.8 * width));
  const x = (v) => left + ((Math.log10(v) - X[0]) / (X[1] - X[0])) * (width - left - right);
  const y = (v) => top + ((Y[1] - Math.log10(v)) / (Y[1] - Y[0])) * (height - top - bottom);
  const words = (text, attributes) => h("svg:text", { fill: "var(--soft)", ...attributes }, text);
  const grid = [];
  for (let i = X[0]; i <= X[1]; i++) {
    grid.push(h("svg:line", { x1: x(10 ** i), x2: x(10 ** i), y1: top, y2: height - bottom, style: "stroke:var(--line)" }));
    grid.push(words(i < 3 ? `${10 ** i}` : `${10 ** (i - 3)} k`, { x: x(10 ** i), y: height - bottom + 18, "text-anchor": i === X[1] ? "end" : "middle" }));
  }
  for (let i = Y[0]; i <= Y[1]; i++) {
    grid.push(h("svg:line", { x1: left, x2: width - right, y1: y(10 ** i), y2: y(10 ** i), style: "stroke:var(--line)" }));
    grid.push(words(NAMES[i - Y[0]], { x: left - 6, y: y(10 ** i) + 5, "text-anchor": "end" }));
  }
  grid.push(words("FLOP/s", { x: 0, y: 12 }), words("intensity, FLOP/byte", { x: width - right, y: height - 4, "text-anchor": "end" }));
  const roof = ({ name, peak, bandwidth }) => {
    const low = Math.max(10 ** X[0], 10 ** Y[0] / bandwidth);
    const style = name === chosen ? "stroke:var(--ink);stroke-width:2.5" : "stroke:var(--edge);stroke-width:1";
    const ends = [[low, low * bandwidth], [Math.max(low, peak / bandwidth), peak], [10 ** X[1], peak]];
    return h("svg:polyline", { points: ends.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "), style: `fill:none;${style}` });
  };
  // Names stand over the flat ends, pushed up where two roofs are close.
  let above = Infinity;
  const labels = machines
    .toSorted((a, b) => a.peak - b.peak)
    .map(({ name, peak }) => {
      const at = (above = Math.min(y(peak) - 5, above - 16));
      const style = name === chosen ? "fill:var(--ink);font-weight:600" : "";
      return words(name, { x: width - right, y: at, "text-anchor": "end", style });
    });
  const corner = m && [
    h("svg:line", { x1: x(m.peak / m.bandwidth), x2: x(m.peak / m.bandwidth), y1: y(m.peak), y2: height - bottom, style: "stroke:var(--soft);stroke-dasharray:3 3" }),
    words(`ridge ${short(m.peak / m.bandwidth)}`, { x: x(m.peak / m.bandwidth) + 5, y: height - bottom - 6 }),
  ];
  const dot = (part, each) => mark(part, x(intensity(each)), y(attainable(intensity(each), m)));
  const dots = m ? [...Object.entries(parts).map(([part, each]) => dot(part, each)), dot("all", all)] : [];
  const hollow = measured.map(([, a, b]) => mark("measured", x(a), y(b)));
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Roofline. ${alt}`);
  const order = machines.toSorted((a, b) => (a.name === chosen) - (b.name === chosen));
  svg.replaceChildren(...grid, ...order.map(roof), ...(corner ?? []), ...labels, ...hollow, ...dots);
}

const notes = ({ answer }) => [
  h("p", {}, h("b", {}, "Try this. "), "Find the batch with which the products with weights arrive at the ridge of the T4, then of the H200. Make the text longer: what happens to the scores, and to all together? Then let the model read a prompt. At last, measure your own browser."),
  h("details", {}, h("summary", {}, "What you should have seen"), h("p", {}, answer)),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
