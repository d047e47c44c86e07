// Every number of a forward pass from its terms: equal to PyTorch's, and to what the figure shows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, tapping } from "./harness.mjs";

const { gpt } = await load("gpt");
const { hidden, origin } = await load("gpt_terms");

const sumOf = ({ kind, terms }) => terms.reduce((all, [a, b]) => all + (kind === "sum" ? b : kind === "softmax" ? a : a * b), 0);

for (const [name, { config, tensors, ids, taps: right }] of Object.entries(golden("gpt_terms").models)) {
  const forward = (off) => {
    const tap = tapping();
    gpt({ tensors, config, ids, off, tap });
    return tap.seen;
  };
  const seen = forward({});

  for (const [part, { shape, data }] of Object.entries(right)) {
    test(`${name}: ${part}`, () => {
      const [T, width] = shape.slice(-2);
      const bound = 1e-4 * Math.max(1, ...Array.from(data, Math.abs));
      for (let h = 0; h < (shape.length === 3 ? shape[0] : 1); h++)
        for (let t = 0; t < T; t++)
          for (let c = 0; c < width; c++) {
            const one = origin({ tensors, config, ids, taps: seen, name: part, t, c, h });
            const torch = data[(h * T + t) * width + c];
            assert.ok(Math.abs(one.value - torch) <= bound, `${part}[${h}, ${t}, ${c}]: ${one.value}, torch ${torch}`);
            if (one.kind === "dot") assert.ok(Math.abs(sumOf(one) * one.scale + one.bias - torch) <= bound, "the terms");
            if (one.kind === "softmax") assert.ok(Math.abs(sumOf(one) - one.sum) <= 1e-9 * one.sum, "the sum");
          }
    });
  }

  test(`${name}: the stream is a sum, and a part that is off gives nothing`, () => {
    for (const off of [{}, { attentions: [0] }, { mlps: [1] }, { attentions: [1], mlps: [0] }]) {
      const taps = forward(off);
      for (const part of ["embed", "blocks.0.middle", "blocks.0", "blocks.1.middle", "blocks.1"]) {
        const x = taps[part];
        for (const [t, c] of [[0, 0], [3, 2], [6, 9]]) { // prettier-ignore
          const one = origin({ tensors, config, ids, taps, off, name: part, t, c });
          assert.equal(one.kind, "sum");
          assert.ok(Math.abs(one.value - x.data[t * x.shape[1] + c]) < 1e-5, `${part} ${JSON.stringify(off)}`);
        }
      }
    }
  });

  test(`${name}: the hidden numbers have the torch values, and a part that is not there is an error`, () => {
    const wide = hidden({ tensors, taps: seen, block: 1 });
    const torch = right["blocks.1.mlp.hidden"];
    assert.deepEqual(wide.shape, torch.shape);
    wide.data.forEach((v, i) => assert.ok(Math.abs(v - torch.data[i]) < 1e-4 * Math.max(1, Math.abs(torch.data[i])), i));
    assert.throws(() => origin({ tensors, config, ids, taps: seen, name: "blocks.0.nothing", t: 0, c: 0 }));
  });
}
