// The counts of ledger.work, the roof, the batch at the ridge, and the product that measures a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load, near } from "./harness.mjs";

const golden = goldenOf("roofline");
const { attainable, intensity, leastSeconds, product, ridgeBatch, together, work } = await load("roofline");
const T4 = { peak: 8.1e12, bandwidth: 300e9 };

for (const { name, model, options, work: told, intensity: x, roof, seconds, ridges } of golden.cases) {
  test(`${name} ${JSON.stringify(options)}`, () => {
    const parts = work(model, options);
    assert.deepEqual(Object.keys(parts), Object.keys(told));
    for (const [part, [flops, bytes]] of Object.entries(told)) assert.deepEqual(parts[part], { flops, bytes }, part);
    near(Object.values(parts).map(intensity), x, "intensity");
    Object.values(parts).forEach((part, i) => assert.ok(Math.abs(attainable(intensity(part), T4) / roof[i] - 1) < 1e-9, "roof"));
    assert.ok(Math.abs(leastSeconds(parts, T4) / seconds - 1) < 1e-9, "seconds");
    const all = together(parts);
    assert.equal(all.flops, Object.values(told).reduce((a, [flops]) => a + flops, 0));
    assert.ok(intensity(all) <= Math.max(...x) * 1.000001 && intensity(all) >= Math.min(...x) * 0.999999);
    for (const { ridge, parts: names, batch } of ridges)
      assert.equal(ridgeBatch(model, ridge, { past: options.past, width: options.width, parts: names }), batch, `${ridge} ${names}`);
  });
}

test("the smallest batch is the smallest", () => {
  for (const { model } of golden.cases)
    for (const ridge of [2, 30, 150]) {
      const n = ridgeBatch(model, ridge, { width: 2 });
      if (n == null) continue;
      const at = (B) => intensity(together(work(model, { B, width: 2 }), ["attention", "mlp", "head"]));
      assert.ok(at(n) >= ridge && (n === 1 || at(n - 1) < ridge));
    }
});

test("decoding writes what prefill would, token by token", () => {
  for (const { model } of golden.cases) {
    const T = 9;
    const flops = (parts) => together(parts, ["attention", "mlp", "head"]).flops;
    const steps = Array.from({ length: T }, (_, past) => work(model, { B: 2, past }));
    assert.equal(steps.reduce((all, parts) => all + flops(parts), 0), flops(work(model, { B: 2, T })));
  }
});

test("the product of the benchmark is a product", () => {
  const [a, b] = [golden.a, golden.b].map(({ data }) => Float32Array.from(data));
  const out = new Float32Array(a.length).fill(7);
  near(product(a, b, out, 12), golden.ab.data, "a b");
});
