// Rotary positions: the angles, turning by them, and what makes them relative.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, nearTensor } from "./harness.mjs";

const { rate, rotaryTable, rotate } = await load("rotary");
const { tensor } = await load("nn");
const { tables, runs } = golden("rotary");

for (const { D, theta, cos, sin } of tables) {
  const length = cos.shape[0];
  test(`the table of ${D} channels, ${length} positions, theta ${theta}`, () => {
    const mine = rotaryTable(D, length, theta);
    near(mine.cos, cos.data, "cos");
    near(mine.sin, sin.data, "sin");
    assert.ok(Math.abs(Math.cos((length - 1) * rate(D, D / 2 - 1, theta)) - mine.cos.at(-1)) < 1e-6, "rate");
  });
}

for (const { H, D, start, theta, x, y } of runs) {
  test(`${H} heads of ${D} channels at position ${start}`, () => {
    const table = rotaryTable(D, start + x.shape[0] + 3, theta);
    const before = Float64Array.from(x.data);
    nearTensor(rotate(x, H, table, start), y, "turned");
    assert.deepEqual(x.data, before, "what was given is left alone");
    assert.throws(() => rotate(x, H, table, start + 4), /not all in a table/);
  });
}

const dot = (a, b) => a.data.reduce((sum, v, i) => sum + v * b.data[i], 0);
const draw = (n, seed) => tensor([1, n], Float32Array.from({ length: n }, (_, i) => Math.sin(12.9898 * (i + 1) + seed)));

test("lengths stay, and q.k depends on the distance alone", () => {
  const table = rotaryTable(8, 60);
  const [q, k] = [draw(8, 1), draw(8, 2)];
  const score = (m, n) => dot(rotate(q, 1, table, m), rotate(k, 1, table, n));
  for (const m of [0, 3, 40]) assert.ok(Math.abs(dot(rotate(q, 1, table, m), rotate(q, 1, table, m)) - dot(q, q)) < 1e-5);
  for (const m of [0, 11, 50]) assert.ok(Math.abs(score(m + 4, m) - score(4, 0)) < 1e-5, `shifted by ${m}`);
  assert.ok(Math.abs(score(5, 0) - score(4, 0)) > 1e-3, "another distance, another score");
  assert.deepEqual(rotate(q, 1, table, 0), q, "position 0 turns nothing");
});

test("no pairs, no turning", () => {
  assert.throws(() => rotaryTable(3, 4), /no pairs/);
  assert.throws(() => rotate(tensor([1, 9]), 3, rotaryTable(2, 4)), /whole pairs/);
});
