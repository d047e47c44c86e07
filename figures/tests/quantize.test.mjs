// Codes, values and bytes of rounded weights, and the logits of a rounded model.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load, near, nearTensor } from "./harness.mjs";

const golden = goldenOf("quantize");
const { nearestEven, rounded, roundedModel, withOutlier } = await load("quantize");
const { gpt } = await load("gpt");

test("a half goes to the even number", () => {
  assert.deepEqual([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, -0.6].map((x) => nearestEven(x) + 0), [-2, -2, 0, 0, 2, 2, 2, -1]);
});

for (const { way, values, codes, bytes } of golden.cases)
  test(`${way}`, () => {
    const [bits, scheme, group, symmetric] = way;
    const mine = rounded(golden.W, { bits, scheme, group, symmetric });
    assert.deepEqual([...mine.codes], codes.flat(), "codes");
    nearTensor(mine, values, "values");
    assert.equal(mine.bytes, bytes, "bytes");
    for (const { at, n, scale } of mine.lines)
      for (let i = at; i < at + n; i++) assert.ok(Math.abs(mine.data[i] - golden.W.data[i]) <= scale * 1.0001, "within a scale");
  });

golden.models.forEach(({ tensors, tied, embeddings, ids, logits, bytes }, i) =>
  test(`model ${i}: tied ${tied}, embeddings ${embeddings}`, () => {
    const sent = { ...tensors };
    if (tied) delete sent["head.weight"];
    const mine = roundedModel(sent, { bits: 3, scheme: "group", group: 4, symmetric: false, embeddings });
    assert.equal(mine.bytes, bytes, "bytes");
    near(gpt({ tensors: mine.tensors, config: { n_head: 2 }, ids: ids }).logits.data, logits.data, "logits");
  }),
);

test("an outlier is one weight, and more bits are nearer", () => {
  const { tensors } = golden.models[0];
  const planted = withOutlier(tensors, { layer: "blocks.0.mlp", unit: 3, column: 2, factor: 50 });
  const [before, after] = [tensors, planted].map((t) => t["blocks.0.mlp.fc.weight"].data);
  const changed = [...before.keys()].filter((i) => before[i] !== after[i]);
  assert.deepEqual(changed, [3 * 10 + 2]);
  assert.ok(Math.abs(after[32] / before.reduce((a, b) => Math.max(a, Math.abs(b)), 0) - 50) < 1e-4);
  const off = (bits) => Math.hypot(...rounded(golden.W, { bits, scheme: "per_channel" }).data.map((v, i) => v - golden.W.data[i]));
  for (let bits = 3; bits <= 8; bits++) assert.ok(off(bits) < off(bits - 1));
});
