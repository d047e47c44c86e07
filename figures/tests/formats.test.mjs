// Number formats over every code, against torch; what becomes of gradients and updates in them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load } from "./harness.mjs";

const golden = goldenOf("formats");
const { accumulate, BINS, decode, fate, fates, FORMATS, middle, numbersIn, roundTo, unchanged } = await load("formats");
const floats = (base64) => new Float32Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
const same = (a, b, what) => assert.ok(Object.is(a, b), `${what}: ${a}, torch ${b}`); // NaN is NaN, and -0 is not 0

for (const [name, { numbers, x, y }] of Object.entries(golden.formats)) {
  test(`${name}: every code`, () => {
    floats(numbers).forEach((v, code) => same(decode(code, FORMATS[name]), v, `code ${code}`));
  });
  test(`${name}: every number, every midpoint and what is beside`, () => {
    const rounded = floats(y);
    floats(x).forEach((v, i) => same(roundTo(v, FORMATS[name]), rounded[i], `${v}`));
  });
}

test("fp32 as torch and as the engine have it", () => {
  golden.wide.data.forEach((v, i) => {
    same(roundTo(v, FORMATS.fp32), golden.narrow.data[i], `${v}`);
    same(roundTo(v, FORMATS.fp32), Math.fround(v), `${v}`);
  });
});

test("limits", () => {
  assert.deepEqual(Object.keys(FORMATS), Object.keys(golden.limits));
  for (const [name, limits] of Object.entries(golden.limits)) {
    for (const [limit, v] of Object.entries(limits)) same(FORMATS[name][limit], v, `${name} ${limit}`);
    const { smallest } = FORMATS[name];
    same(fate(smallest, FORMATS[name]), smallest < FORMATS[name].smallestNormal ? "coarse" : "kept", `${name} smallest`);
    same(fate(smallest / 2, FORMATS[name]), "zero", `${name}, half of the smallest`);
  }
});

test("the fates of gradients, from a histogram", () => {
  const { histogram, shares } = golden;
  const all = histogram.counts.reduce((a, b) => a + b, 0);
  for (const { format, scale, counts } of shares) {
    const told = fates(histogram, scale, FORMATS[format]);
    const what = `${format} times 2^${scale}`;
    assert.equal(told.zero + told.coarse + told.kept + told.overflow, all, what);
    // Limits that are no edge of a bin: within a thousandth; whether any overflows is exact.
    [told.zero, told.coarse, told.overflow].forEach((n, i) => assert.ok(Math.abs(n - counts[i]) <= all / 1000, `${what}: ${n}, torch ${counts[i]}`));
    assert.equal(told.overflow > 0, counts[2] > 0, what);
  }
});

test("the largest gradient decides whether any overflows", () => {
  const counts = new Array(BINS).fill(0);
  counts[BINS - 1] = 3; // [63488, 65536): up to 65520 it is rounded to a finite number
  const over = (top) => fates({ counts, low: 15, top }, 0, FORMATS.fp16);
  assert.deepEqual(over(65519), { zero: 0, coarse: 0, kept: 3, overflow: 0 });
  assert.deepEqual(over(65520), { zero: 0, coarse: 0, kept: 2, overflow: 1 });
});

test("bins follow each other and lie in their octave", () => {
  for (let i = 0; i < 5 * BINS; i++) {
    assert.ok(middle(i, -7) < middle(i + 1, -7));
    assert.equal(Math.floor(Math.log2(middle(i, -7))), -7 + Math.floor(i / BINS));
  }
});

test("sums of small updates, with and without a master in fp32", () => {
  for (const { format, update, master, seen } of golden.sums) {
    const mine = accumulate({ start: 1, update, n: seen.length, format: FORMATS[format], master });
    assert.equal(mine.length, seen.length + 1);
    seen.forEach((v, i) => same(mine[i + 1], v, `${format}, ${update}, ${master}, ${i}`));
  }
});

test("updates that leave a weight as it was", () => {
  const { weights, updates, still } = golden.pairs;
  for (const [name, share] of Object.entries(still)) {
    assert.ok(Math.abs(unchanged(weights, updates, FORMATS[name]) - share) < 1e-12, name);
  }
});

test("the numbers of a stretch of the line", () => {
  for (const [name, all] of Object.entries(golden.within)) assert.deepEqual(numbersIn(0.4, 3, FORMATS[name], 1000), all, name);
  assert.deepEqual(numbersIn(2 ** -30, 2 ** -20, FORMATS.fp16, 1000), golden.small);
  assert.equal(numbersIn(1, 2, FORMATS.fp32, 100), undefined);
  assert.equal(numbersIn(1, 2, FORMATS.fp16, 1025).length, 1025);
  assert.equal(numbersIn(1, 2, FORMATS.fp16, 1024), undefined);
});
