// Chapter 04: scores of random queries and keys, with and without the square root, and a lookup in two dimensions.
import { bars } from "./kit/bars.mjs";
import { button, choice, select, slider } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { meter } from "./kit/meter.mjs";
import { tableView } from "./kit/table.mjs";
import { histogram, entropyBits, meters, variance } from "./runtime/lookup.mjs";
import { rowOf, softmax } from "./runtime/ops.mjs";

const TEMPERATURES = [0.25, 0.5, 1, 2, 4, 8, 16, 32];
const ANSWERS = [0.2, 1, 2, 3]; // bits
const LIMIT = 48; // of the histogram
const BINS = 48;
const REACH = 2.5; // of the plane
const SIDE = 280;
const STEP = 0.25;

const nearest = (list, v) => list.reduce((a, b) => (Math.abs(b - v) < Math.abs(a - v) ? b : a));
const two = (v) => v.toFixed(2).replace("-", "−");
const place = (v) => Math.min(Math.max(Math.round((Number(v) || 0) / STEP) * STEP, -REACH), REACH);

const defaults = ({ sizes }) => ({ d: sizes.at(-1), root: true, t: 1, draw: 0, x: 1.5, y: 0, open: false });
const clean = (s, { sizes }) => ({
  d: nearest(sizes, Number(s.d)),
  root: String(s.root) !== "false",
  t: nearest(TEMPERATURES, Number(s.t)),
  draw: Math.min(Math.max(Math.round(Number(s.draw) || 0), 0), 199),
  x: place(s.x),
  y: place(s.y),
  open: String(s.open) === "true",
});

function build({ props, tensors, state, update, say }) {
  const { sizes, keys, memory } = props;
  const count = tensors.scores.data.length / sizes.length; // scores for each D
  const raw = (d) => rowOf(tensors.scores.data, count, sizes.indexOf(d));
  const by = (s) => (s.root ? Math.sqrt(s.d) : 1) * s.t;
  const most = Math.log2(keys);

  const size = slider({ label: "D, numbers in a query", count: sizes.length, say: (i) => `${sizes[i]}`, oninput: (i) => change({ d: sizes[i] }) });
  const root = choice({ label: "Divide by √D", options: [["true", "On"], ["false", "Off"]], onchange: (on) => change({ root: on === "true" }) }); // prettier-ignore
  const heat = slider({ label: "Temperature", count: TEMPERATURES.length, say: (i) => `${TEMPERATURES[i]}`, oninput: (i) => change({ t: TEMPERATURES[i] }) });
  const change = (patch) => (update(patch), say(finding()));

  const plot = h("svg:svg", { width: "100%", height: 120, role: "img" });
  const columns = Array.from({ length: BINS }, (_, i) =>
    plot.appendChild(h("svg:rect", { x: `${(100 * i) / BINS}%`, width: `${92 / BINS}%`, style: "fill:var(--blue)" })),
  );
  const ends = [`−${LIMIT}`, "0", `${LIMIT}`];
  const axis = h("div", { style: "display:flex;justify-content:space-between;border-top:1px solid var(--edge);font-size:14px", "aria-hidden": "true" }, ends.map((text) => h("span", {}, text)));
  const spread = h("p", { style: "font-size:14px" });
  const entropy = meter({ label: "Entropy of the weights", max: most, marks: [[`${keys} keys alike: ${most} bits`, most]] });
  const slope = meter({ label: "Gradient of the softmax", max: 0.5 });
  const ladder = bars({ label: "key", filled: "weight", marked: "even" });
  const next = button("Another query", () => {
    update({ draw: (state().draw + 1) % 200 });
    say(`Query ${state().draw + 1}: the largest weight is ${two(Math.max(...now().weights[state().draw]))}`);
  });

  // The plane
  const to = (v) => SIDE / 2 + (v / (REACH + 0.3)) * (SIDE / 2);
  const at = ([x, y]) => [to(x), to(-y)];
  const plane = h("svg:svg", { width: SIDE, height: SIDE, viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", style: "touch-action:none;cursor:crosshair;max-width:100%" });
  const line = (x1, y1, x2, y2) => h("svg:line", { x1, y1, x2, y2, style: "stroke:var(--line)" });
  plane.append(line(0, SIDE / 2, SIDE, SIDE / 2), line(SIDE / 2, 0, SIDE / 2, SIDE));
  const KEY = "var(--orange)";
  const VALUE = "var(--value)";
  const rays = memory.map(({ value }) => plane.appendChild(h("svg:line", { x1: SIDE / 2, y1: SIDE / 2, x2: at(value)[0], y2: at(value)[1], style: `stroke:${VALUE}` })));
  memory.forEach(({ word, key, value }) => {
    const [x, y] = at(key);
    const [u, v] = at(value);
    plane.append(
      h("svg:rect", { x: x - 6, y: y - 6, width: 12, height: 12, style: `fill:${KEY}` }),
      h("svg:text", { x: Math.min(x + 9, SIDE - 34), y: y - 9, style: "fill:var(--ink);font-size:14px" }, word),
      h("svg:circle", { cx: u, cy: v, r: 5, style: `fill:${VALUE}` }),
    );
  });
  const mixed = plane.appendChild(h("svg:circle", { r: 9, style: `fill:none;stroke:${VALUE};stroke-width:4` }));
  const query = plane.appendChild(h("svg:path", { d: "M0 -10 9 7 -9 7Z", style: "fill:var(--blue)" }));
  const drag = (event) => {
    if (!event.buttons) return;
    const box = plane.getBoundingClientRect();
    const back = (v, side) => ((v / side - 0.5) * 2) * (REACH + 0.3); // prettier-ignore
    update({ x: back(event.clientX - box.left, box.width), y: -back(event.clientY - box.top, box.height) });
    say(looked());
  };
  plane.addEventListener("pointerdown", drag);
  plane.addEventListener("pointermove", drag);
  const stops = Math.round((2 * REACH) / STEP) + 1;
  const along = (name, axis) => slider({ label: name, count: stops, say: (i) => two(i * STEP - REACH), oninput: (i) => (update({ [axis]: i * STEP - REACH }), say(looked())) });
  const across = along("Query, first number", "x");
  const upward = along("Query, second number", "y");
  const steps = h("tbody", {});
  const lookup = h("table", { class: "lf-table" }, h("thead", {}, h("tr", {}, ["q · k", "÷ √2", "weight", "● v"].reduce((row, text) => [...row, h("th", { scope: "col" }, text)], [h("th", { scope: "col" }, "word")]))), steps);
  const gives = h("p", { style: "font-size:14px" });

  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "display:grid;gap:.875rem" });
  panel.append(quiz(), verdict, entropy.node, slope.node, ladder.node, h("div", { class: "lf-actions" }, next));
  const readout = h("p", { class: "lf-readout", tabindex: -1 });
  const table = tableView({ label: "Every D in numbers", build: numbers });

  let made = {};
  function now(s = state()) {
    const key = [s.d, s.root, s.t].join();
    if (made.key !== key) made = { key, ...meters(raw(s.d), keys, by(s)) };
    return made;
  }

  function quiz() {
    const guess = select({ label: "Your guess", options: [["", "choose"], ...ANSWERS.map((v) => [String(v), `${v} bit${v === 1 ? "" : "s"}`])], onchange() {} });
    const reveal = () => {
      update({ open: true, root: false, d: sizes.at(-1), t: 1 });
      readout.focus(); // the button that was pressed is gone
    };
    const check = () => {
      if (!guess.input.value) return say("Choose a number first."), guess.input.focus();
      reveal();
      const { entropy } = now();
      const right = Number(guess.input.value) === nearest(ANSWERS, entropy);
      verdict.textContent = `${right ? "Right" : `You chose ${guess.input.value}`}: ${two(entropy)} bits are left. The weights have all but chosen one key, by chance.`;
      verdict.hidden = false;
      say(verdict.textContent);
    };
    const show = () => (reveal(), say(finding()));
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), `D is ${sizes.at(-1)}, and ${keys} keys have an entropy of up to ${most} bits. Take the root away: how many bits are left?`),
      h("div", { class: "lf-quiz-row" }, guess.node, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", show)),
    );
  }

  function finding(s = state()) {
    const { entropy, slope, frozen } = now(s);
    return `D ${s.d}, ${s.root ? "divided" : "not divided"}${s.t === 1 ? "" : `, temperature ${s.t}`}: entropy ${two(entropy)} bits, gradient ${two(slope)}, ${Math.round(100 * frozen)} percent of the queries give one key more than 0.9.`;
  }

  function weigh(s) {
    const dots = memory.map(({ key }) => s.x * key[0] + s.y * key[1]);
    const p = softmax(dots.map((v) => v / Math.SQRT2));
    return { dots, p, y: [0, 1].map((i) => memory.reduce((total, { value }, j) => total + p[j] * value[i], 0)) };
  }

  function looked(s = state()) {
    const { p, y } = weigh(s);
    const best = p.indexOf(Math.max(...p));
    return `The query (${two(s.x)}, ${two(s.y)}) reads ${memory[best].word} with ${two(p[best])} and gets (${two(y[0])}, ${two(y[1])}); entropy ${two(entropyBits(p))} bits.`;
  }

  function numbers() {
    const { t } = state();
    return {
      caption: `At temperature ${t}. Entropy in bits; gradient: size of diag(p) − p pᵀ.`,
      columns: ["D", "variance of q·k", "entropy, divided", "not divided", "gradient, divided", "not divided"],
      rows: sizes.map((d) => {
        const [a, b] = [true, false].map((root) => meters(raw(d), keys, by({ d, root, t })));
        return [String(d), variance(raw(d)).toFixed(1), two(a.entropy), two(b.entropy), two(a.slope), two(b.slope)];
      }),
    };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    plane.style.setProperty("--value", theme === "dark" ? "#b9f2d0" : "#00473a");
    size.set(sizes.indexOf(s.d));
    root.set(String(s.root));
    heat.set(TEMPERATURES.indexOf(s.t));
    across.set(Math.round((s.x + REACH) / STEP));
    upward.set(Math.round((s.y + REACH) / STEP));
    panel.classList.toggle("lf-locked", !s.open);
    next.hidden = !s.open;

    const scores = raw(s.d).map((v) => v / by(s));
    const shares = histogram(scores, -LIMIT, LIMIT, BINS).map((n) => n / scores.length);
    const top = Math.max(...shares);
    columns.forEach((bar, i) => {
      const tall = 116 * (shares[i] / top);
      bar.setAttribute("y", 120 - tall);
      bar.setAttribute("height", tall);
    });
    const wide = Math.sqrt(variance(scores));
    spread.textContent = `${scores.length.toLocaleString("en-US")} scores of 200 queries: variance of q · k ${variance(raw(s.d)).toFixed(1)}; as the softmax gets them, typical size ${two(wide)}`;
    plot.setAttribute("aria-label", `Histogram of the scores from minus ${LIMIT} to ${LIMIT}: typical size ${two(wide)}`);

    const { weights, entropy: e, slope: g, frozen } = now(s);
    entropy.set(e, `${two(e)} bits`);
    slope.set(g, two(g));
    const p = weights[s.draw];
    ladder.set(h("span", {}, h("b", {}, `Query ${s.draw + 1} of 200`), ", a full bar is all the weight"), [...p].map((w, i) => [`key ${i + 1}`, w, 1 / keys]), 1);
    readout.replaceChildren(
      h("span", {}, `D = ${s.d}, scores ${s.root ? "divided by √D" : "not divided"}${s.t === 1 ? "" : `, temperature ${s.t}`}: entropy `, h("b", {}, `${two(e)} bits`), ", gradient ", h("b", {}, two(g))),
      h("span", {}, h("b", {}, `${Math.round(100 * frozen)} %`), " of the queries give one key more than 0.9"),
    );

    const { dots, p: w, y } = weigh(s);
    const [qx, qy] = at([s.x, s.y]);
    query.setAttribute("transform", `translate(${qx} ${qy})`);
    const [mx, my] = at(y);
    mixed.setAttribute("cx", mx);
    mixed.setAttribute("cy", my);
    rays.forEach((ray, i) => (ray.style.strokeWidth = 0.5 + 9 * w[i]));
    plane.setAttribute("aria-label", looked(s));
    steps.replaceChildren(
      ...memory.map(({ word, value }, i) =>
        h("tr", {}, h("th", { scope: "row" }, word), [two(dots[i]), two(dots[i] / Math.SQRT2), two(w[i]), `(${value.map((v) => String(v).replace("-", "−")).join(", ")})`].map((text) => h("td", {}, text))),
      ),
    );
    gives.textContent = looked(s);
    table.refresh();
  }

  const scoresPart = h("div", { style: "display:grid;gap:.5rem;min-width:0" }, h("p", {}, h("b", {}, "Scores"), " q [D] · k [D], 200 queries × 8 keys"), plot, axis, spread);
  const lookupPart = h(
    "div",
    { style: "display:grid;gap:.75rem" },
    h("p", {}, h("b", {}, "A lookup in two dimensions"), ": ▲ query q [2], ■ keys k [4, 2], ● values v [4, 2], ring: what it gets, y [2]"),
    h("div", { style: "display:flex;flex-wrap:wrap;gap:1rem 1.5rem;align-items:center" }, plane, h("div", { style: "flex:1 1 16rem;min-width:0;display:grid;gap:.5rem" }, across.node, upward.node, lookup, gives)),
  );
  return {
    controls: [size.node, root.node, heat.node],
    picture: h("div", { style: "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem 1.5rem;align-items:start" }, scoresPart, panel),
    readout,
    more: [lookupPart, table.region],
    actions: [table.button],
    notes: notes(),
    draw,
    kept: () => ({ open: state().open }),
  };
}

const notes = () => [
  h("p", {}, h("b", {}, "Try this. "), "Set D to 256 and Divide to Off. Which temperature brings the entropy back to what the root gives? Then set D to 64 and ask again. In the lookup, find a query that gives all four words nearly the same weight."),
  h(
    "details",
    {},
    h("summary", {}, "What you should have seen"),
    h("p", {}, "A temperature of 16 at D = 256 and of 8 at D = 64: the root of D. The variance of a score is D, so the typical score grows with the root of D, and dividing by it keeps the softmax where it can still be moved. In the lookup a query near the middle, (0, 0), has no preference: all scores are zero."),
  ),
];

export default { render: (host) => live(host, { defaults, clean, build }) };
