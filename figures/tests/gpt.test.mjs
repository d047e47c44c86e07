// The GPT, tied and untied, what can be switched off, and models of attention alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, sumsToOne, tapping } from "./harness.mjs";

const { gpt } = await load("gpt");
const { layers, linear, tensor } = await load("nn");

for (const [name, { runs, n_layer, ...model }] of Object.entries(golden("gpt").models)) {
  for (const { ids, off, taps } of runs) {
    test(`${name}: T = ${ids.length}, off ${JSON.stringify(off)}`, () => {
      const tap = tapping();
      const { logits, weights } = gpt({ ...model, ids, off, tap });
      tap.near(taps, name);
      near(logits.data, taps.head.data, "logits");
      assert.equal(weights.length, n_layer);
      weights.forEach((w) => sumsToOne(w, "weights"));
    });
  }

  const { ids } = runs.find((r) => r.ids.length >= 7);
  const T = ids.length;
  const V = model.tensors["token_embedding.weight"].shape[0];
  const run = (options) => gpt({ ...model, ids, ...options }).logits.data;

  test(`${name}: no position sees what comes after it`, () => {
    for (const t of [1, T - 1]) {
      const other = run({ ids: ids.map((id, i) => (i === t ? (id + 1) % V : id)) });
      assert.deepEqual(other.subarray(0, t * V), run().subarray(0, t * V), `before ${t}`);
      assert.notDeepEqual(other.subarray(t * V), run().subarray(t * V), `from ${t} on`);
    }
  });

  test(`${name}: switching off`, () => {
    const heads = Array.from({ length: model.config.n_head }, (_, h) => h);
    assert.deepEqual(run({ off: { heads: { 0: [] }, attentions: [], mlps: [], blocks: [] } }), run(), "nothing off");
    // All heads of a layer off: its output projection gets zeros.
    const tensors = { ...model.tensors };
    const zeros = (key) => tensors[key] && (tensors[key] = tensor(tensors[key].shape));
    zeros("blocks.0.attention.proj.weight");
    assert.deepEqual(run({ off: { heads: { 0: heads } } }), run({ tensors }), "every head off");
    zeros("blocks.0.attention.proj.bias");
    assert.deepEqual(run({ off: { attentions: [0] } }), run({ tensors }), "attention off");
    zeros("blocks.0.mlp.proj.weight");
    zeros("blocks.0.mlp.proj.bias");
    assert.deepEqual(run({ off: { blocks: [0] } }), run({ tensors }), "block off");
    assert.notDeepEqual(run({ off: { heads: { 0: [0] } } }), run(), "one head off");
  });

  test(`${name}: another scale, a prefix`, () => {
    const D = model.tensors["token_embedding.weight"].shape[1] / model.config.n_head;
    assert.deepEqual(run({ scale: 1 / Math.sqrt(D) }), run());
    assert.notDeepEqual(run({ scale: 1 }), run());
    const tensors = Object.fromEntries(Object.entries(model.tensors).map(([k, v]) => [`m.${k}`, v]));
    assert.deepEqual(run({ tensors, prefix: "m." }), run());
  });
}

test("tied weights may be left out of the file", () => {
  const { runs, ...model } = golden("gpt").models["tied, GPT-2's options"];
  const { "head.weight": _, ...tensors } = model.tensors;
  assert.deepEqual(gpt({ ...model, tensors, ids: runs[1].ids }).logits, gpt({ ...model, ids: runs[1].ids }).logits);
});

test("the head reads the stream that is returned", () => {
  const { runs, ...model } = golden("gpt").models["attention only"];
  const { x, logits } = gpt({ ...model, ids: runs[1].ids });
  assert.deepEqual(linear(x, layers(model.tensors)("head")), logits);
});
