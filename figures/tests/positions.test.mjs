// A GPT with positions of different kinds: equal to torch; what a shift changes and what it does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, nearTensor, sumsToOne, tapping } from "./harness.mjs";

const { positioned } = await load("positions");

for (const [scheme, { runs, ...model }] of Object.entries(golden("positions").models)) {
  for (const { ids, start, theta, logits, scores, taps } of runs) {
    test(`${scheme}: T = ${ids.length} from ${start}, theta ${theta}`, () => {
      const tap = tapping();
      const mine = positioned({ ...model, ids, start, theta, tap });
      nearTensor(mine.logits, logits, "logits");
      scores.forEach((golden, i) => nearTensor(mine.scores[i], golden, `scores of layer ${i}`));
      mine.weights.forEach((w) => sumsToOne(w, "weights"));
      tap.near(taps, scheme);
    });
  }
  test(`${scheme}: a shift of all positions`, () => {
    const { ids } = runs[1];
    const at = (start) => positioned({ ...model, ids, start }).scores.map((s) => s.data);
    const [here, there] = [at(0), at(9)];
    const moved = Math.max(...here.flatMap((row, i) => Array.from(row, (v, j) => Math.abs(v - there[i][j]))));
    if (scheme === "table") assert.ok(moved > 0.1, `moved by ${moved}`);
    else assert.ok(moved < 1e-4, `moved by ${moved}`);
  });
  test(`${scheme}: no position sees what comes after it`, () => {
    const { ids } = runs[2];
    const V = model.tensors["token_embedding.weight"].shape[0];
    const other = ids.map((id, t) => (t === 9 ? (id + 1) % V : id));
    const [a, b] = [ids, other].map((these) => positioned({ ...model, ids: these }).logits.data);
    assert.deepEqual(a.subarray(0, 9 * V), b.subarray(0, 9 * V));
    assert.notDeepEqual(a.subarray(9 * V), b.subarray(9 * V));
  });
}
