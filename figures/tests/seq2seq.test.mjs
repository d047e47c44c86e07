// Encoder, decoder with its weights over the source, greedy decoding, hidden source positions.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load, nearTensor, sumsToOne, tapping } from "./harness.mjs";

const { decode, encode, seenOf, translate } = await load("seq2seq");
const { runs, hidden, off, bare, many, ...model } = golden("seq2seq");
const longest = runs.at(-1);

for (const { source, written, encoder, decoder, ids } of runs) {
  test(`S = ${source.length}, T = ${written.length}`, () => {
    const tap = tapping();
    const { memory, weights } = encode({ ...model, source, tap });
    tap.near(encoder, "encoder");
    const out = decode({ ...model, written, memory, seen: seenOf(source), tap });
    tap.near(decoder, "decoder");
    [...weights, ...out.weights, ...out.cross].forEach((w) => sumsToOne(w, "weights"));
    assert.deepEqual(out.cross[0].shape, [3, written.length, source.length]);
    const made = translate({ ...model, source });
    assert.deepEqual(made.ids, ids);
    assert.deepEqual(made.cross[1].shape, [3, ids.length, source.length]);
  });
}

test("a model of attention alone, without norms and MLPs", () => {
  const { tensors, source, written } = bare;
  const { memory } = encode({ ...model, tensors, source });
  const tap = tapping();
  decode({ ...model, tensors, written, memory, seen: seenOf(source), tap });
  tap.near(bare.taps, "attention only");
  assert.deepEqual(translate({ ...model, tensors, source }).ids, bare.ids);
});

test("a trained model writes what PyTorch writes, for many dates, with words hidden and without", () => {
  for (const { source, seen, ids, logits, cross } of many.runs) {
    const made = translate({ tensors: many.tensors, config: many.config, source, seen });
    assert.deepEqual(made.ids, ids);
    nearTensor(made.logits, logits, "logits");
    nearTensor(made.cross[0], cross, "cross");
  }
  assert.equal(many.runs.length, 60);
});

test("a hidden source position is read by nobody in the decoder", () => {
  const { source, written } = longest;
  const { memory } = encode({ ...model, source });
  const seen = seenOf(source).map((v, s) => (s === hidden.position ? 0 : v));
  const tap = tapping();
  const { cross } = decode({ ...model, written, memory, seen, tap });
  tap.near(hidden.taps, "hidden");
  for (const { data, shape } of cross) data.forEach((v, i) => i % shape[2] === hidden.position && assert.equal(v, 0));
  assert.deepEqual(translate({ ...model, source, seen }).cross[0].data.filter((v, i) => i % source.length === hidden.position && v), new Float32Array());
});

test("a head of the cross-attention switched off", () => {
  const { source, written } = longest;
  const { memory } = encode({ ...model, source });
  const tap = tapping();
  decode({ ...model, written, memory, seen: seenOf(source), off: { cross: off.cross }, tap });
  tap.near(off.taps, "off");
});

test("the decoder does not look ahead; padding changes nothing", () => {
  const { source, written } = longest;
  const { memory } = encode({ ...model, source });
  const run = (options) => decode({ ...model, written, memory, seen: seenOf(source), ...options }).logits.data;
  const V = run().length / written.length;
  const other = run({ written: written.map((id, t) => (t === 4 ? (id === 7 ? 8 : 7) : id)) });
  assert.deepEqual(other.subarray(0, 4 * V), run().subarray(0, 4 * V));
  assert.notDeepEqual(other.subarray(4 * V), run().subarray(4 * V));
  const short = runs[1].source.filter(Boolean);
  assert.deepEqual(translate({ ...model, source: short }).ids, translate({ ...model, source: runs[1].source }).ids);
});
