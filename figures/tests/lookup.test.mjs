// The square root's meters, and the reader of chapter 04.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, nearTensor, sumsToOne, tapping } from "./harness.mjs";

const { entropyBits, histogram, meters, reader, slope, variance } = await load("lookup");
const g = golden("lookup");
const scores = Float32Array.from(g.scores.data);

for (const { by, ...theirs } of g.meters) {
  test(`meters, divided by ${by}`, () => {
    const mine = meters(scores, 8, by);
    for (const [name, value] of Object.entries(theirs)) near([mine[name]], [value], name);
    for (const p of mine.weights) assert.ok(Math.abs(p.reduce((a, b) => a + b, 0) - 1) < 1e-6);
  });
}

test("meters at their ends", () => {
  const even = new Array(8).fill(1 / 8);
  near([entropyBits(even), entropyBits([1, 0, 0]), slope([1, 0, 0])], [3, 0, 0], "ends");
  near([slope(even)], [Math.sqrt(7) / 8], "slope of even weights");
});

test("variance", () => near([variance(scores)], [g.variance], "variance"));

test("histogram: every value is counted once, the far ones at the ends", () => {
  assert.deepEqual(histogram([-9, -1, -0.1, 0, 0.9, 1, 9], -1, 1, 4), [2, 1, 1, 3]);
});

for (const { ids, taps } of g.runs) {
  test(`reader, ${ids.length} tokens`, () => {
    const tap = tapping();
    const { logits, weights } = reader({ tensors: g.tensors, ids, tap });
    tap.near(taps, `T = ${ids.length}`);
    nearTensor(logits, taps.head, "logits");
    sumsToOne(weights, "weights");
  });
}

test("reader without the root", () => {
  const tap = tapping();
  reader({ tensors: g.tensors, ids: g.unscaled.ids, scale: 1, tap });
  tap.near(g.unscaled.taps, "scale 1");
});

test("reader: no token moves an earlier one", () => {
  const { ids } = g.runs.at(-1);
  const changed = ids.map((id, t) => (t === 11 ? (id + 1) % 17 : id));
  const [a, b] = [ids, changed].map((x) => reader({ tensors: g.tensors, ids: x }).logits.data);
  assert.deepEqual(a.slice(0, 11 * 17), b.slice(0, 11 * 17));
  assert.notDeepEqual(a.slice(11 * 17), b.slice(11 * 17));
});
