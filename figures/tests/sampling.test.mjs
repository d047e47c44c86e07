// The cuts of generate.filter_logits, row by row, and the texts that come of them, letter by letter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load, near } from "./harness.mjs";

const golden = goldenOf("sampling");
const { continuation, entropy, filtered } = await load("sampling");
const { reader } = await load("gpt_cache");

for (const [name, { data: logits }] of Object.entries(golden.rows)) {
  const cases = golden.cuts.filter((c) => c.row === name);
  test(`${name}: ${cases.length} settings agree with the package`, () => {
    for (const c of cases) {
      const what = `temperature ${c.temperature}, k ${c.k}, p ${c.p}`;
      const made = filtered(Float32Array.from(logits), c);
      near(made.full, c.full.data, `${what}: full`);
      near(made.probs, c.probs.data, `${what}: probs`);
      assert.deepEqual([made.byK, made.byP], [c.byK, c.byP], what);
      near([made.mass, entropy(made.probs)], [c.mass, c.entropy], `${what}: mass, entropy`);
    }
  });
  test(`${name}: properties`, () => {
    for (const c of cases) {
      const { order, full, byK, byP, probs, mass } = filtered(logits, c);
      assert.ok(1 <= byP && byP <= byK && byK <= logits.length);
      for (const row of [full, probs]) assert.ok(Math.abs(row.reduce((a, b) => a + b, 0) - 1) < 1e-12);
      order.forEach((id, rank) => assert.equal(probs[id] === 0, rank >= byP || full[id] === 0, "cut from the end"));
      assert.ok(mass > 0 && mass <= 1 + 1e-12);
    }
    const all = filtered(logits, {});
    assert.deepEqual(filtered(logits, { k: logits.length, p: 1 }), all, "cuts that cut nothing");
  });
}

test("texts are those of Python", () => {
  const model = reader(golden);
  for (const { context, made, seed, temperature, k, p } of golden.texts) {
    const cache = model.empty();
    let logits;
    for (const id of context) logits = model.read(cache, id);
    const settings = { model, cache, logits, n: made.length, seed, temperature, k, p };
    assert.deepEqual(continuation(settings), made, JSON.stringify({ temperature, k, p }));
    assert.deepEqual(continuation(settings), made, "again: the cache was not touched");
    assert.deepEqual(continuation({ ...settings, n: 5 }), made.slice(0, 5), "shorter");
  }
});
