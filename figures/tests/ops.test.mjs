// Tables, random numbers and the file format against Python.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load, near } from "./harness.mjs";

const golden = goldenOf("ops");
const ops = await load("ops");
const { rng } = await load("rng");
const { fromF16 } = await load("f16");
const { readSafetensors } = await load("safetensors");

const flat = (table) => Float32Array.from(table.flat());

for (const [name, g] of Object.entries(golden.tables)) {
  const width = g.logits[0].length;
  const logits = flat(g.logits);
  const counts = flat(g.counts);
  const logq = ops.logSoftmaxRows(logits, width);
  const p = ops.normalizeRows(counts, width);
  const q = ops.softmaxRows(logits, width);
  const perRow = (f) => g.counts.map((_, i) => f(ops.rowOf(p, width, i), ops.rowOf(logq, width, i)));

  test(`${name}: probabilities`, () => {
    near(q, g.softmax.flat(), "softmax");
    near(logq, g.log_softmax.flat(), "log softmax");
    near(p, g.counted.flat(), "counted");
  });
  test(`${name}: cross-entropy and KL`, () => {
    near(perRow(ops.crossEntropy), g.cross_entropy, "cross-entropy");
    near(perRow(ops.kl), g.kl, "KL");
    near([ops.meanKl(counts, logq, width)], [g.mean_kl], "mean KL");
  });
  test(`${name}: properties`, () => {
    for (let i = 0; i < g.logits.length; i++) {
      for (const table of [p, q]) {
        const total = ops.rowOf(table, width, i).reduce((a, b) => a + b, 0);
        assert.ok(Math.abs(total - 1) < 1e-5, `row ${i} sums to ${total}`);
      }
      const own = ops.rowOf(q, width, i);
      assert.ok(Math.abs(ops.kl(own, ops.rowOf(logq, width, i))) < 1e-5, "KL(q, q) is 0");
    }
    for (const v of perRow(ops.kl)) assert.ok(v > -1e-6, `KL is ${v}`);
  });
}

test("bits", () => near([ops.bits(Math.LN2), ops.bits(3)], [1, 3 / Math.LN2], "bits"));

test("ranked keeps the order of equals", () => assert.deepEqual(ops.ranked([0.1, 0.4, 0.1, 0.4]), [1, 3, 0, 2]));

test("sampling follows the running sum and never gives what has no probability", () => {
  const p = Float32Array.of(0, 0.25, 0, 0.75, 0);
  assert.deepEqual([0, 0.2499, 0.25, 0.999, 1 - 2 ** -32].map((u) => ops.sample(p, u)), [1, 1, 3, 3, 3]);
  const random = rng(7);
  const n = 20_000;
  let ones = 0;
  for (let i = 0; i < n; i++) ones += ops.sample(p, random()) === 1;
  assert.ok(Math.abs(ones / n - 0.25) < 0.015, `${ones} of ${n}`);
});

test("random numbers are the same in Python", () => {
  for (const [seed, values] of Object.entries(golden.rng)) {
    const random = rng(Number(seed));
    for (const v of values) assert.equal(random(), v);
  }
});

test("every half-precision code", () => {
  golden.f16.forEach((v, code) => assert.ok(Object.is(fromF16(code), v === null ? NaN : Number(v)), `code ${code}`));
});

test("a safetensors file that Python wrote", () => {
  const file = readSafetensors(Uint8Array.from(Buffer.from(golden.file.base64, "base64")));
  assert.deepEqual(Object.keys(file), Object.keys(golden.file.tensors));
  for (const [name, { shape, values }] of Object.entries(golden.file.tensors)) {
    assert.deepEqual(file[name].shape, shape);
    assert.deepEqual([...file[name].data], values);
  }
});

test("a damaged file is refused", () => {
  const bytes = Uint8Array.from(Buffer.from(golden.file.base64, "base64"));
  assert.throws(() => readSafetensors(bytes.subarray(0, bytes.length - 1)), /ends after/);
});
