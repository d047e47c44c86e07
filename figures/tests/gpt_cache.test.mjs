// The GPT one token at a time: the same numbers as torch, and as the whole forward pass of gpt.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near } from "./harness.mjs";

const { reader } = await load("gpt_cache");
const { gpt } = await load("gpt");

for (const [name, { texts, logits, ...model }] of Object.entries(golden("gpt_cache").models)) {
  const { block_size, empty, copy, read } = reader(model);
  texts.forEach((ids, i) => {
    const V = logits[i].shape[1];
    const rowAt = (data, t) => data.subarray(t * V, (t + 1) * V);

    test(`${name}, text ${i}: every token agrees`, () => {
      const cache = empty();
      ids.forEach((id, t) => {
        assert.equal(cache.length, t);
        const row = read(cache, id);
        near(row, rowAt(logits[i].data, t), `token ${t}`);
        near(row, rowAt(gpt({ ...model, ids: ids.slice(0, t + 1) }).logits.data, t), `token ${t}, without a cache`);
      });
      assert.equal(cache.length, block_size);
      assert.throws(() => read(cache, 0), /at most/);
    });

    test(`${name}, text ${i}: a copy goes its own way`, () => {
      const cache = empty();
      const half = Math.ceil(ids.length / 2);
      for (const id of ids.slice(0, half)) read(cache, id);
      const other = copy(cache);
      for (const [t, id] of ids.entries()) {
        if (t < half) continue;
        near(read(cache, id), rowAt(logits[i].data, t), `token ${t}`);
        read(other, (id + 1) % V);
      }
    });
  });
}
