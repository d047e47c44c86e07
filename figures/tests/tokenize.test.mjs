// Ids are those of Python: BPETokenizer with any number of merges, SentencePiece's unigram models.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden as goldenOf, load } from "./harness.mjs";

const golden = goldenOf("tokenize");
const { bytePairs, unpackUnigram, utf8, words } = await load("tokenize");
const bpe = bytePairs(golden.merges.flat());
const models = golden.unigrams.map((u) =>
  unpackUnigram(Object.fromEntries(Object.entries(u).map(([name, v]) => [name, Int32Array.from(v)]))),
);

test("the bytes of every piece", () => assert.deepEqual(bpe.pieces, golden.pieces));

for (const [n, all] of Object.entries(golden.bpe))
  test(`byte pairs with ${n} merges: ${all.length} texts have Python's ids`, () => {
    all.forEach((ids, i) => assert.deepEqual(bpe.encode(golden.texts[i], Number(n)), ids, JSON.stringify(golden.texts[i])));
  });

models.forEach((model, m) => {
  test(`unigram of ${model.size}: the pieces and every text's ids are Python's`, () => {
    golden.names[m].forEach((name, i) => assert.equal(model.piece(259 + i), name));
    golden.unigram[m].forEach((ids, i) => assert.deepEqual(model.encode(golden.texts[i]), ids, JSON.stringify(golden.texts[i])));
  });

  test(`unigram of ${model.size}: no other way is more probable`, () => {
    const ways = (arcs, at) => (at === 0 ? [0] : arcs.filter((a) => a.to === at).flatMap((a) => ways(arcs, a.from).map((s) => s + a.score)));
    for (const word of [" nothing", " Zoe", " zoë", "aaaa", " wheel"]) {
      const chars = model.blanks(word);
      const arcs = model.lattice(chars);
      const { path, total } = model.best(chars, arcs);
      assert.equal(path.map((a) => a.text).join(""), chars.join(""));
      assert.ok(Math.abs(total - Math.max(...ways(arcs, chars.length))) < 1e-3);
      const known = golden.paths[`${m} ${chars.join("")}`];
      if (known && path.every((a) => a.id !== null)) assert.ok(Math.abs(total - known) < 1e-3);
    }
  });
});

test("texts fall into words as in Python", () => {
  golden.texts.forEach((text, i) => assert.deepEqual([...words(text)], golden.words[i], JSON.stringify(text)));
});

test("words joined are the text, and its bytes come back", () => {
  for (const text of golden.texts) {
    assert.equal(words(text).join(""), text);
    for (const n of [0, 100, 768]) assert.deepEqual(bpe.encode(text, n).flatMap((id) => bpe.pieces[id]), utf8(text));
  }
});

test("a step of the replay is one merge, and its neighbors are found", () => {
  for (const text of golden.texts.slice(0, 60)) {
    for (const n of [0, 50, 768]) {
      const { next, last } = bpe.around(text, n);
      const now = bpe.encode(text, n);
      if (next) {
        assert.deepEqual(bpe.encode(text, next - 1), now);
        assert.ok(bpe.encode(text, next).length < now.length);
      }
      if (last !== null) {
        assert.deepEqual(bpe.encode(text, last + 1), now);
        assert.ok(bpe.encode(text, last).length > now.length);
      }
    }
    for (const word of words(text)) {
      const { ids, steps } = bpe.replay(word, 768);
      const ranks = steps.map(([r]) => r);
      assert.deepEqual(ranks, [...new Set(ranks)].sort((a, b) => a - b));
      if (steps.length) assert.deepEqual(steps.at(-1)[1], ids);
    }
  }
});
