// Chapter 02: the ladder of an n-gram, one rung for each length of the context.
import { bars } from "./kit/bars.mjs";
import { button, select, slider, textInput } from "./kit/controls.mjs";
import { h } from "./kit/dom.mjs";
import { live } from "./kit/host.mjs";
import { tableView } from "./kit/table.mjs";
import { count, glyph, nameOf, nats, percent, spoken } from "./kit/text.mjs";
import { ladder, shares, unpack } from "./runtime/ngram.mjs";
import { ranked } from "./runtime/ops.mjs";

const METHODS = [
  ["mle", "Plain counts"],
  ["add_k", "Add-k"],
  ["witten_bell", "Witten-Bell"],
  ["kneser_ney", "Kneser-Ney"],
];
const LOWER = { mle: "plain counts", add_k: "add-k", witten_bell: "Witten-Bell", kneser_ney: "Kneser-Ney" };
const SHOWN = 8; // bars, before "others"
const MOST = 40; // characters of the context

const defaults = ({ context, max_order, k, d }) => ({ context, order: max_order, method: "kneser_ney", k, d, open: false });

const whole = (v, low, high, otherwise) => (Number.isFinite(Number(v)) ? Math.min(Math.max(Math.round(Number(v)), low), high) : otherwise);
const clean = (s, { chars, max_order, ks, discounts, k, d }) => ({
  context: [...String(s.context)].filter((c) => chars.includes(c)).slice(-MOST).join(""),
  order: whole(s.order, 1, max_order, max_order),
  method: s.method in LOWER ? s.method : "kneser_ney",
  k: whole(s.k, 0, ks.length - 1, k),
  d: whole(s.d, 0, discounts.length - 1, d),
  open: s.open === true || s.open === "true",
});

const characters = (n) => (n === 0 ? "no character" : n === 1 ? "1 character" : `${n} characters`);
const loss = (v) => (v == null ? "infinite" : `${nats(v)} nats`);

function build({ props, tensors, state, update, say }) {
  const { chars, max_order, ks, discounts, losses } = props;
  const V = chars.length;
  const text = unpack(tensors.text.data, props.n);
  const names = chars.map(nameOf);
  const say_ = (patch) => (update(patch), say(sayAnswer()));

  // Controls
  const order = slider({
    label: "Order",
    count: max_order,
    say: (i) => `${i + 1}: reads ${i ? characters(i) : "nothing"}`,
    oninput: (i) => say_({ order: i + 1 }),
  });
  const curves = plot(losses, max_order);
  const line = textInput({ label: "Context", most: MOST, allowed: (c) => chars.includes(c), oninput: (context) => say_({ context }) });
  const method = select({ label: "Method", options: METHODS, onchange: (m) => say_({ method: m }) });
  const k = slider({ label: "k, added to every count", count: ks.length, say: (i) => `${ks[i]}`, oninput: (i) => say_({ k: i }) });
  const d = slider({ label: "D, the discount", count: discounts.length, say: (i) => `${discounts[i]}`, oninput: (i) => say_({ d: i }) });

  // Picture
  const caption = h("caption", {});
  const body = h("tbody", {});
  const head = ["after", "n", "t", "kept", ""].map((name, i) =>
    i === 4 ? h("td", { style: "width:34%" }) : h("th", { scope: "col", style: i ? "width:3.6rem" : "" }, name),
  );
  const rungs = h("table", { class: "lf-table", style: "table-layout:fixed" }, caption, h("thead", {}, h("tr", {}, head)), body);
  const answer = bars({ label: "next", filled: "answer", marked: "counted" });
  const verdict = h("p", { class: "lf-verdict", hidden: true });
  const panel = h("div", { style: "flex:1 1 100%" }, quiz(), verdict);
  const readout = h("p", { class: "lf-readout" });
  const table = tableView({ label: "The ladder in numbers", build: numbers });

  let last = {};
  function climb(s = state()) {
    const key = JSON.stringify([s.context, s.order, s.method, s.k, s.d]);
    if (key === last.key) return last;
    const ids = [...s.context].map((c) => chars.indexOf(c));
    const options = { text, V, order: s.order, k: ks[s.k], discount: discounts[s.d] };
    const steps = ladder({ ...options, method: s.method }, ids);
    const counted = ladder({ ...options, method: "mle" }, ids).at(-1);
    return (last = { key, steps, parts: shares(steps, s.method), p: steps.at(-1).p, counted, seen: counted.n > 0, ids });
  }

  const setting = (s) => ({ add_k: `, k = ${ks[s.k]}`, kneser_ney: `, D = ${discounts[s.d]}` })[s.method] ?? "";
  const at = (s) => losses[s.method][{ add_k: s.k, kneser_ney: s.d }[s.method] ?? 0];

  function sayAnswer() {
    const s = state();
    const { p, steps } = climb(s);
    const best = ranked(p).slice(0, 3).map((i) => `${spoken(chars[i])} ${percent(p[i])}`);
    const rung = steps.findLast((step) => step.seen > 0);
    return `Order ${s.order}, ${LOWER[s.method]}${setting(s)}: ${best.join(", ")}. The longest rung with counts has ${characters(rung?.length ?? 0)}.`;
  }

  const ending = (context, length) => [...context].slice([...context].length - length);

  function numbers() {
    const s = state();
    const { steps, parts } = climb(s);
    return {
      caption: `Order ${s.order}, ${LOWER[s.method]}${setting(s)}. n: total of the counts that the rung uses; t: how many different next characters.`,
      columns: ["after", "seen", "n", "t", "kept", "handed down", "share of the answer"],
      rows: steps
        .map((r, i) => [ending(s.context, r.length).map(nameOf).join(" ") || "(nothing)", count(r.seen), count(r.n), count(r.t), percent(r.kept), percent(r.handed), percent(parts[i])])
        .reverse()
        .concat([["(all alike)", "", "", "", "", "", percent(Math.max(0, 1 - parts.reduce((a, b) => a + b, 0)))]]),
    };
  }

  function draw(s = state(), theme = draw.theme) {
    draw.theme = theme;
    const { steps, parts, p, counted, seen } = climb(s);
    order.set(s.order - 1);
    line.set(s.context);
    method.set(s.method);
    k.set(s.k);
    d.set(s.d);
    k.node.hidden = s.method !== "add_k";
    d.node.hidden = s.method !== "kneser_ney";
    panel.classList.toggle("lf-locked", !s.open);
    curves.set(at(s), s.order, s.open);

    const alone = s.method === "mle" || s.method === "add_k";
    const below = { kneser_ney: "; below the top, n counts different characters before" }[s.method] ?? "";
    const rule = alone ? "only the top rung answers; what it does not keep goes to all alike" : "what a rung does not keep (empty) is handed down";
    caption.replaceChildren(h("b", {}, "The ladder"), `: ${rule}. n counts, t kinds of character${below}`);
    body.replaceChildren(
      ...steps.toReversed().map((r, i) => {
        const shown = ending(s.context, r.length).map((c) => glyph(c));
        const own = h("i", { class: "lf-fill", style: `width:${(100 * r.kept).toFixed(1)}%` });
        return h(
          "tr",
          { style: alone && i ? "opacity:.75" : "" },
          h("th", { scope: "row", style: "font-family:ui-monospace,monospace" }, shown.length ? shown : h("span", { style: "font-family:system-ui" }, "nothing")),
          h("td", {}, count(r.n)),
          h("td", {}, count(r.t)),
          h("td", {}, percent(r.kept)),
          h("td", { class: "lf-bar", "aria-hidden": "true" }, h("div", { style: "box-shadow:inset 0 0 0 1px var(--edge);border-radius:2px" }, own)),
        );
      }),
      h("tr", {}, h("th", { scope: "row" }, "all alike"), h("td", {}), h("td", {}), h("td", {}, `1/${V}`), h("td", {})),
    );

    const by = ranked(p);
    const rest = by.slice(SHOWN);
    const add = (row) => rest.reduce((total, i) => total + row[i], 0);
    const plain = counted.seen > 0 ? counted.p : new Float64Array(V);
    const rows = by.slice(0, SHOWN).map((i) => [names[i], p[i], plain[i]]);
    rows.push([`${rest.length} others`, add(p), add(plain)]);
    const top = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1].find((v) => v >= Math.max(...rows.map((r) => Math.max(r[1], r[2]))) - 1e-9) ?? 1;
    const note = seen ? `, a full bar is ${Math.round(100 * top)} %` : ": this context was never counted";
    answer.set(h("span", {}, h("b", {}, "What comes next"), note), rows, top);

    const deepest = steps.findLastIndex((r) => r.seen > 0);
    const main = parts.indexOf(Math.max(...parts));
    const measured = at(s);
    const flat = p[by[0]] - p[by.at(-1)] < 1e-12;
    readout.replaceChildren(
      h("span", {}, `Order ${s.order}, ${LOWER[s.method]}${setting(s)}: ${flat ? "no character is likelier than another, " : "most likely "}`, h("b", {}, flat ? "all alike" : names[by[0]]), `, ${flat ? `1/${V}` : percent(p[by[0]])}`),
      h(
        "span",
        {},
        parts[main] > 0
          ? `The largest part of the answer, ${percent(parts[main])}, comes from the rung of ${characters(steps[main].length)}`
          : "No count had a part in the answer: all characters are alike",
        deepest < steps.length - 1 ? `; the top rung was never seen` : "",
      ),
      s.open ? h("span", {}, "Loss on held-out text ", h("b", {}, loss(measured.held[s.order - 1])), `, on training text ${loss(measured.train[s.order - 1])}`) : "",
    );
    table.refresh();
  }

  function quiz() {
    const first = select({ label: "Plain counts become infinite at order", options: [["", "choose"], ...Array.from({ length: max_order }, (_, i) => [`${i + 1}`, `${i + 1}`]), ["never", "never"]], onchange() {} });
    const best = select({ label: `Lowest loss at order ${max_order}`, options: [["", "choose"], ...METHODS], onchange() {} });
    const check = () => {
      const missing = [first, best].find((g) => !g.input.value);
      if (missing) {
        say("Choose twice first.");
        return missing.input.focus();
      }
      const lost = losses.mle[0].held.indexOf(null);
      const truth = lost < 0 ? "never" : `${lost + 1}`;
      const lowest = Object.entries(losses).map(([name, rows]) => [name, Math.min(...rows.map((r) => r.held.at(-1) ?? Infinity))]);
      const [winner, value] = lowest.reduce((a, b) => (b[1] < a[1] ? b : a));
      const hits = (first.input.value === truth) + (best.input.value === winner);
      verdict.textContent =
        `${["Neither", "One", "Both"][hits]} of your two guesses ${hits === 2 ? "hold" : "holds"}. Plain counts become infinite ` +
        `${truth === "never" ? "at no order" : `at order ${truth}`}; at order ${max_order} ${LOWER[winner]} is lowest, with ${loss(value)}.`;
      reveal(verdict.textContent);
    };
    const reveal = (words) => {
      verdict.hidden = !verdict.textContent;
      update({ open: true });
      line.input.focus();
      say(words);
    };
    return h(
      "div",
      { class: "lf-quiz" },
      h("p", {}, h("b", {}, "Predict first. "), "Which loss will each order have on text that was not counted?"),
      h("div", { class: "lf-quiz-row" }, first.node, best.node),
      h("div", { class: "lf-quiz-row" }, button("Check", check, { class: "lf-button lf-button-main" }), button("Just show me", () => reveal(sayAnswer()))),
    );
  }

  return {
    controls: [panel, h("div", { class: "lf-track" }, curves.node, order.node), line.node, method.node, k.node, d.node],
    picture: h("div", { class: "lf-picture", style: "grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr))" }, h("div", {}, rungs), h("div", {}, answer.node)),
    readout,
    more: [table.region],
    actions: [table.button],
    notes: notes(props),
    draw,
    reset: () => (verdict.hidden = true),
    kept: () => ({ open: state().open }),
  };
}

// Loss against order: training text solid, held-out text dashed; an infinite loss is a mark at the top.
function plot(losses, n) {
  const every = Object.values(losses).flatMap((rows) => rows.flatMap((r) => [...r.train, ...r.held])).filter((v) => v != null);
  const [low, high] = [Math.min(...every), Math.max(...every)];
  const x = (i) => `${(100 * i) / Math.max(n - 1, 1)}%`;
  const y = (v) => (v == null ? 10 : 26 + 84 * (1 - (v - low) / (high - low || 1)));
  const svg = h("svg:svg", { height: 120, role: "img" });
  const area = h("div", { class: "lf-curve-plot" }, svg);
  const keys = h("div", { class: "lf-curve-names", style: "height:120px" });
  const look = { train: "stroke:var(--ink)", held: "stroke:var(--orange);stroke-dasharray:6 4" };
  const strip = (values, style) => values.slice(1).map((v, i) => (v == null || values[i] == null ? null : h("svg:line", { style, x1: x(i), y1: y(values[i]), x2: x(i + 1), y2: y(v) })));
  const word = (values) => values.map((v, i) => `${i + 1}: ${v == null ? "infinite" : nats(v)}`).join(", ");
  return {
    node: h("div", { class: "lf-curve" }, area, keys),
    set({ train, held }, order, open) {
      area.hidden = keys.hidden = !open;
      const i = order - 1;
      svg.setAttribute("aria-label", `Loss in nats by order. Held-out text: ${word(held)}. Training text: ${word(train)}.`);
      const marks = held.map((v, j) =>
        v == null
          ? h("svg:text", { x: x(j), y: y(v) + 6, "text-anchor": "middle", "font-size": 20, fill: "var(--orange)" }, "∞")
          : h("svg:circle", { cx: x(j), cy: y(v), r: 4, style: `stroke:var(--orange);${j === i ? "fill:var(--orange)" : ""}` }),
      );
      const now = h("svg:circle", { cx: x(i), cy: y(train[i]), r: 4, style: "stroke:var(--ink);fill:var(--ink)" });
      svg.replaceChildren(...strip(train, look.train), ...strip(held, look.held), ...marks, now);
      const labels = [
        ["held-out", held[i], y(held[i])],
        ["training", train[i], y(train[i])],
      ];
      if (Math.abs(labels[0][2] - labels[1][2]) < 20) labels[1][2] = labels[0][2] + 20;
      const push = Math.max(0, labels[1][2] - 110);
      keys.replaceChildren(...labels.map(([name, v, top], j) => h("span", { style: `top:${top - push}px;color:var(--${j ? "ink" : "orange"})` }, `${name} ${v == null ? "∞" : nats(v)}`)));
    },
  };
}

const notes = ({ losses, max_order, ks, discounts, k, d }) => {
  const best = (name) => losses[name].map((r) => r.held.at(-1) ?? Infinity);
  const add = best("add_k");
  const kn = best("kneser_ney");
  return [
    h(
      "p",
      {},
      h("b", {}, "Try this. "),
      "Type an end that no story has, such as zq, and find the rung that answers. Then guess above, so that the losses show; choose Add-k, make its loss as low as you can, and switch to Kneser-Ney.",
    ),
    h(
      "details",
      {},
      h("summary", {}, "What you should have seen"),
      h(
        "p",
        {},
        "A rung that was never seen keeps nothing and hands everything down, so the answer comes from the longest end of the context that was counted; with add-k nothing is handed down and all characters come out alike. " +
          `At order ${max_order} the best of these k is ${ks[add.indexOf(Math.min(...add))]}, with ${nats(Math.min(...add))} nats; ` +
          `Kneser-Ney has ${nats(kn[d])} with D = ${discounts[d]}, and ${nats(Math.max(...kn))} with the worst of these D.`,
      ),
    ),
  ];
};

export default { render: (host) => live(host, { defaults, clean, build }) };
