// Layers one by one, and attention with its interventions.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, near, nearTensor, sumsToOne, tapping } from "./harness.mjs";

const nn = await load("nn");
const g = golden("nn");

test("functions of one number", () => {
  const { x, ...all } = g.functions;
  for (const [name, y] of Object.entries(all)) near([...x.data].map(nn[name]), y.data, name);
  const fine = [...x.data].map((v, i) => Math.abs(nn.erf(v) - g.functions.erf.data[i]));
  assert.ok(Math.max(...fine) < 1e-12, "erf is exact");
  const apart = (f) => Math.max(...[...x.data].map((v, i) => Math.abs(f(v) - g.functions.geluTanh.data[i])));
  assert.ok(apart(nn.geluTanh) < 1e-7 && apart(nn.gelu) > 1e-4, "the two GELUs differ");
});

test("linear", () => nearTensor(nn.linear(g.linear.x, g.linear), g.linear.y, "linear"));
test("layer norm", () => nearTensor(nn.layerNorm(g.layer_norm.x, g.layer_norm), g.layer_norm.y, "layer norm"));
test("group norm", () => nearTensor(nn.groupNorm(g.group_norm.x, g.group_norm, g.group_norm.groups, 1e-6), g.group_norm.y, "group norm"));

for (const c of g.conv2d) {
  test(`convolution ${c.weight.shape}, stride ${c.stride}`, () => nearTensor(nn.conv2d(c.x, c, { stride: c.stride }), c.y, "conv2d"));
}

test("GEGLU", () => {
  const tensors = Object.fromEntries(Object.entries(g.modules.geglu.tensors).map(([k, v]) => [`mlp.${k}`, v]));
  nearTensor(nn.geglu(g.modules.geglu.x, nn.layers(tensors), "mlp"), g.modules.geglu.y, "GEGLU");
});

test("embedding: rows, and no row that is not there", () => {
  const weight = nn.tensor([3, 2], Float32Array.of(1, 2, 3, 4, 5, 6));
  assert.deepEqual([...nn.embedding([2, 0], { weight }).data], [5, 6, 1, 2]);
  assert.throws(() => nn.embedding([3], { weight }), /no row 3/);
});

test("token losses", () => near(nn.tokenLosses(g.losses.logits, g.losses.targets), [...g.losses.y.data], "losses"));

g.attention.forEach((c, i) => {
  test(`attention ${i}: ${c.q.shape} reads ${c.k.shape}`, () => {
    const tap = tapping();
    const a = nn.attention({ ...c, tap, name: "a" });
    for (const [part, x] of Object.entries(c.out)) nearTensor(a[part], x, part);
    for (const part of ["q", "k", "v", "scores", "weights", "heads", "y"]) assert.ok(tap.seen[`a.${part}`], part);
    sumsToOne(a.weights, "weights");
  });
  test(`attention ${i}: heads switched off`, () => {
    const all = nn.attention(c);
    const none = nn.attention({ ...c, off: [] });
    assert.deepEqual(none.y, all.y, "ablating nothing changes nothing");
    const one = nn.attention({ ...c, off: [1] });
    const d = one.y.shape[1] / c.H;
    one.y.data.forEach((v, j) => assert.equal(v, Math.floor((j % (d * c.H)) / d) === 1 ? 0 : all.y.data[j]));
    const every = nn.attention({ ...c, off: [0, 1, 2] });
    assert.ok(every.y.data.every((v) => v === 0), "every head off is zero");
    assert.deepEqual(every.weights, all.weights, "the weights stay to be seen");
  });
});

// Modules whose names in the golden file have no prefix.
const under = (tensors) => nn.layers(Object.fromEntries(Object.entries(tensors).map(([k, v]) => [`a.${k}`, v])));

test("self-attention and cross-attention", () => {
  const { own, cross, same } = g.modules;
  let tap = tapping();
  const off = (heads) => nn.selfAttention(own.x, under(own.tensors), "a", { H: 3, causal: true, off: heads, tap });
  off([]);
  tap.near(own.taps, "self-attention");
  nearTensor(off(own.off.heads).y, own.off.y.proj, "heads off");
  for (const { x, context, tensors, taps } of [cross, same]) {
    tap = tapping();
    nn.crossAttention(x, context, under(tensors), "a", { H: 4, tap });
    tap.near(taps, "cross-attention");
  }
});

test("every head off is a projection of zeros: its bias", () => {
  const { x, tensors } = g.modules.own;
  const { y } = nn.selfAttention(x, under(tensors), "a", { H: 3, causal: true, off: [0, 1, 2] });
  y.data.forEach((v, i) => assert.equal(v, tensors["proj.bias"].data[i % y.shape[1]]));
});

test("what is missing or does not fit is named", () => {
  assert.throws(() => nn.layers({})("blocks.0.norm1"), /blocks\.0\.norm1\.weight/);
  assert.throws(() => nn.linear(nn.tensor([2, 3]), { weight: nn.tensor([2, 4]) }), /for 4 channels was given 3/);
  assert.throws(() => nn.add(nn.tensor([2, 3]), nn.tensor([2, 4])), /Cannot add/);
});

test("slice, chunk and transpose", () => {
  const x = nn.tensor([2, 2, 3], Float32Array.from({ length: 12 }, (_, i) => i));
  assert.deepEqual([nn.slice(x, 1).shape, [...nn.slice(x, 1).data]], [[2, 3], [6, 7, 8, 9, 10, 11]]);
  const rows = nn.tensor([2, 4], Float32Array.from({ length: 8 }, (_, i) => i));
  assert.deepEqual(nn.chunk(rows, 2).map((c) => [...c.data]), [[0, 1, 4, 5], [2, 3, 6, 7]]);
  assert.deepEqual([...nn.transpose(rows).data], [0, 4, 1, 5, 2, 6, 3, 7]);
  assert.deepEqual(nn.transpose(nn.transpose(x), x.shape), x);
});
