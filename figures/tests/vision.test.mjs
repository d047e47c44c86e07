// The image model with attention and with convolutions, and the block that reads a text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, nearTensor, sumsToOne, tapping } from "./harness.mjs";

const { imageModel, spatialTransformer } = await load("vision");
const { layers, map, tensor } = await load("nn");
const { models, transformer } = golden("vision");

for (const [name, { runs, n_block, ...model }] of Object.entries(models)) {
  for (const { image, off, taps } of runs) {
    test(`${name}: off ${JSON.stringify(off)}`, () => {
      const tap = tapping();
      const { logits, weights, size } = imageModel({ ...model, image, off, tap });
      tap.near(taps, name);
      nearTensor(logits, taps.head, "logits");
      assert.equal(weights.length, n_block);
      for (const w of weights.filter(Boolean)) {
        sumsToOne(w, "weights");
        assert.deepEqual(w.shape, [1, size[0] * size[1], size[0] * size[1]]);
      }
    });
  }
}

test("a block that is off passes the picture on", () => {
  const { runs, ...model } = models["attention, 1"];
  const image = runs[0].image;
  const tensors = { ...model.tensors };
  for (const part of ["weight", "bias"]) tensors[`mixers.0.proj.${part}`] = tensor(tensors[`mixers.0.proj.${part}`].shape);
  assert.deepEqual(imageModel({ ...model, image, off: [0] }).logits, imageModel({ ...model, tensors, image }).logits);
});

test("attention reaches across the picture, a convolution does not", () => {
  const moved = (name) => {
    const { runs, ...model } = models[name];
    const picture = (image) => {
      const tap = tapping();
      imageModel({ ...model, image, tap });
      return tap.seen["mixers.0"].data; // (C, 8, 8)
    };
    const { image } = runs[0];
    const [a, b] = [picture(image), picture(map(image, (v, i) => (i === 0 ? v + 3 : v)))];
    return a[63] !== b[63]; // the far corner of the first channel
  };
  assert.ok(moved("attention, 1") && !moved("convolution, 2"));
});

test("a block that reads a text", () => {
  const { x, context, y, weights, cross, tensors, H, groups, mask } = transformer;
  const made = spatialTransformer(x, context, layers(tensors), "", { H, groups, mask });
  nearTensor(made.y, y, "y");
  nearTensor(made.weights, weights, "weights");
  nearTensor(made.cross, cross, "cross");
  sumsToOne(made.cross, "cross");
});
