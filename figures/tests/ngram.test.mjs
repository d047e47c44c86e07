// Counted n-grams against NGram of the package, to 1e-6 on every token of every context.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load } from "./harness.mjs";

const golden = goldenOf("ngram");
const { ladder, shares, unpack } = await load("ngram");
const climb = ({ text, context, ...rest }) => ladder({ text: golden.texts[text].ids, V: golden.texts[text].V, ...rest }, context);

for (const method of ["mle", "add_k", "witten_bell", "kneser_ney"]) {
  const cases = golden.cases.filter((c) => c.method === method);
  test(`${method}: ${cases.length} contexts agree with Python`, () => {
    for (const { probs, ...c } of cases) {
      const p = climb(c).at(-1).p;
      const about = JSON.stringify(c);
      assert.equal(p.length, probs.length, about);
      probs.forEach((v, w) => assert.ok(Math.abs(p[w] - v) <= 1e-6, `${about}, token ${w}: ${p[w]}, Python ${v}`));
    }
  });
  test(`${method}: every rung gives out one, and the shares add up`, () => {
    for (const c of cases) {
      const rungs = climb(c);
      assert.equal(rungs.length, Math.min(c.order - 1, c.context.length) + 1);
      for (const { p, kept, handed } of rungs) {
        const total = p.reduce((a, b) => a + b, 0);
        assert.ok(Math.abs(total - 1) < 1e-9, `sums to ${total}`);
        assert.ok(kept > -1e-12 && Math.abs(kept + handed - 1) < 1e-12, `${kept} and ${handed}`);
      }
      const parts = shares(rungs, method);
      assert.ok(parts.every((s) => s >= -1e-12) && parts.reduce((a, b) => a + b, 0) <= 1 + 1e-9);
    }
  });
}

test("a longer context is seen at most as often", () => {
  for (const c of golden.cases) climb(c).reduce((last, { seen }) => (assert.ok(seen <= last), seen), Infinity);
});

test("ids packed by Python", () => {
  Object.values(golden.texts).forEach(({ ids }, i) => assert.deepEqual([...unpack(Int32Array.from(golden.packed[i]), ids.length)], ids));
});
