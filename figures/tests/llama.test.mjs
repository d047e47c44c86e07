// The LLaMA with its cache: the numbers of torch, however the text is cut into reads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, sumsToOne, tapping } from "./harness.mjs";

const { llama, pieces } = await load("llama");
const { models, pieces: list, scores, encoded, decoded } = golden("llama");

for (const [name, { texts, multiplies, ...given }] of Object.entries(models)) {
  const model = llama(given);

  for (const { ids, taps } of texts) {
    const V = taps.head.shape[1];
    const row = (t) => taps.head.data.subarray(t * V, (t + 1) * V);

    test(`${name}, ${ids.length} ids at once`, () => {
      const tap = tapping();
      const { logits, weights } = model.read(model.empty(), ids, { tap });
      tap.near(taps, name);
      near(logits.data, taps.head.data, "logits");
      weights.forEach((w) => sumsToOne(w, "weights"));
      near(model.read(model.empty(), ids, { last: true }).logits.data, row(ids.length - 1), "the last alone");
    });

    test(`${name}, ${ids.length} ids one by one, and in two reads`, () => {
      const cache = model.empty();
      ids.forEach((id, t) => {
        assert.equal(cache.length, t);
        near(model.read(cache, [id]).logits.data, row(t), `token ${t}`);
      });
      const half = Math.ceil(ids.length / 2);
      const two = model.empty();
      model.read(two, ids.slice(0, half));
      if (half < ids.length) near(model.read(two, ids.slice(half)).logits.data, taps.head.data.subarray(half * V), "second half");
    });
  }

  test(`${name}: the future changes nothing, and a full cache reads no more`, () => {
    const { ids, taps } = texts.at(-1);
    const V = taps.head.shape[1];
    const other = [...ids.slice(0, -1), (ids.at(-1) + 1) % V];
    near(model.read(model.empty(), other).logits.data.subarray(0, (ids.length - 1) * V), taps.head.data.subarray(0, (ids.length - 1) * V), "past");
    const cache = model.empty();
    model.read(cache, ids);
    assert.throws(() => model.read(cache, [0]), /at most/);
  });

  test(`${name}: multiplications`, () => {
    for (const [past, T, n] of multiplies) assert.equal(model.multiplies(past, T), n, `${T} after ${past}`);
  });
}

test("llama2.c's tokenizer", () => {
  const { encode, text } = pieces(list, scores);
  for (const [words, ids] of encoded) assert.deepEqual(encode(words), ids, JSON.stringify(words));
  for (const [ids, words] of decoded) assert.equal(text(ids), words, `${ids}`);
});
