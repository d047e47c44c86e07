// Gradient descent on the bigram table against autograd and torch.optim.SGD, step by step.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load, near } from "./harness.mjs";

const { leastLoss, meanLoss, pairCounts, sgdStep, start, weightSize, write } = await load("sgd");
const { rng } = await load("rng");

for (const g of goldenOf("sgd").cases) {
  const { ids, val, V, n, seed } = g;
  const counts = pairCounts(ids, n, V);
  const valCounts = pairCounts(val, val.length, V);
  const name = `${g.text}, rate ${g.lr}, batch ${g.batch}, decay ${g.decay}, ${n} ids`;

  test(`${name}: losses of every step, and the table`, () => {
    const run = start({ ids, n, V, seed });
    g.losses.forEach(([train, held], step) => {
      assert.equal(run.step, step);
      near([meanLoss(run.table, counts, V), meanLoss(run.table, valCounts, V)], [train, held], `step ${step}`);
      if (step < g.steps) sgdStep(run, g);
    });
    near(run.table, g.table.data, "table");
    near([weightSize(run.table)], [g.rms], "size of the weights");
    assert.deepEqual(write(run.table, V, 0, 40, rng(seed)), g.written);
  });

  test(`${name}: properties`, () => {
    const run = start({ ids, n, V, seed });
    near([meanLoss(run.table, counts, V)], [Math.log(V)], "a table of zeros knows nothing");
    sgdStep(run, { ...g, decay: 0 });
    for (let i = 0; i < V; i++) {
      const moved = run.table.subarray(i * V, (i + 1) * V).reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(moved) < 1e-9 * Math.max(1, g.lr), "p - onehot sums to 0 in every row");
    }
    assert.ok(meanLoss(run.table, counts, V) >= leastLoss(counts, V) - 1e-12, "nothing is below the least loss");
    assert.throws(() => assert.deepEqual([...run.table], [...start({ ids, n, V, seed }).table]), "a step moves the table");
  });

  test(`${name}: the least loss`, () => near([leastLoss(pairCounts(ids, ids.length, V), V)], [g.least], "least"));
}
