// Pieces of a matrix, cuts and corrections: the same numbers as torch.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, nearTensor } from "./harness.mjs";

const { svd, cut, energy, plus, product } = await load("svd");
const { matrices, lora } = golden("svd");

for (const [name, { tensors, s, cuts, energies }] of Object.entries(matrices)) {
  const found = svd(tensors.W);
  test(`${name}: singular values`, () => {
    near(Float32Array.from(found.s), s.data, "values");
    energies.forEach((share, r) => assert.ok(Math.abs(energy(found, r) - share) < 1e-6, `energy at rank ${r}`));
  });
  test(`${name}: directions at right angles, of length one`, () => {
    for (const side of [found.u, found.v]) {
      side.forEach((a, i) =>
        side.slice(i).forEach((b, j) => {
          const dot = a.reduce((total, x, n) => total + x * b[n], 0);
          if (found.s[i] > 1e-9 && found.s[i + j] > 1e-9) assert.ok(Math.abs(dot - Number(j === 0)) < 1e-9);
        }),
      );
    }
  });
  for (const { r, W } of cuts) test(`${name}: cut to rank ${r}`, () => nearTensor(cut(found, r), W, "cut"));
}

test("B A, and a share of it added", () => {
  const D = product(lora.tensors, "x");
  nearTensor(D, lora.product, "product");
  nearTensor(plus(lora.tensors.W, D, 0.5), lora.half, "half");
  nearTensor(plus(lora.tensors.W, D, 0), lora.tensors.W, "none of it");
});
