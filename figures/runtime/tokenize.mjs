// Byte-pair encoding and the unigram model, id for id as bpe.py and SentencePiece make them.

export const utf8 = (text) => [...new TextEncoder().encode(text)];

// Python's \w, \d and \s, which JavaScript's differ from: letters and numbers, decimal digits, white space.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const PIECE = new RegExp(
  ` ?[\\p{L}\\p{Nl}\\p{No}]+| ?\\p{Nd}+| ?[^\\p{L}\\p{N}${SPACE}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);

/** The words, numbers, signs and white space that merges stay inside; joined they are the text. */
export const words = (text) => text.match(PIECE) ?? [];

/** A tokenizer from pairs of ids, flat: pair i becomes id 256 + i. `n` = how many of them are in use. */
export function bytePairs(pairs) {
  const rank = new Map();
  const pieces = Array.from({ length: 256 }, (_, b) => [b]);
  for (let i = 0; i < pairs.length / 2; i++) {
    const [a, b] = [pairs[2 * i], pairs[2 * i + 1]];
    rank.set(a * 65536 + b, i);
    pieces.push([...pieces[a], ...pieces[b]]);
  }
  const rankOf = (a, b) => rank.get(a * 65536 + b) ?? Infinity;

  // The earliest merge first, of equals the leftmost. Each merge that acted: [its rank, the ids after it].
  function replay(word, n) {
    let ids = utf8(word);
    const steps = [];
    for (;;) {
      let best = n;
      for (let i = 0; i + 1 < ids.length; i++) best = Math.min(best, rankOf(ids[i], ids[i + 1]));
      if (best >= n) return { ids, steps };
      const out = [];
      for (let i = 0; i < ids.length; i++) {
        const hit = i + 1 < ids.length && rankOf(ids[i], ids[i + 1]) === best;
        out.push(hit ? 256 + best : ids[i]);
        if (hit) i++;
      }
      ids = out;
      steps.push([best, ids]);
    }
  }

  return {
    pieces,
    replay,
    encode: (text, n) => words(text).flatMap((word) => replay(word, n).ids),
    /** The next merge that changes this text, and the last one that did: how many merges to use for each. */
    around(text, n) {
      const all = words(text).map((word) => replay(word, n));
      const next = Math.min(...all.flatMap(({ ids }) => ids.slice(1).map((b, i) => rankOf(ids[i], b))));
      const last = Math.max(...all.flatMap(({ steps }) => steps.map(([r]) => r)));
      return { next: Number.isFinite(next) ? next + 1 : null, last: last >= 0 ? last : null };
    },
  };
}

const BYTES = 3; // the id of byte 0: ids 0, 1, 2 are marks
const FIRST = BYTES + 256; // the id of the first piece that is text
const BLANK = "\u2581"; // how SentencePiece writes a space
const UNKNOWN = 10; // nats below the least probable piece

/** A SentencePiece unigram model: its pieces from id 259 on, and their log-probabilities (float32). */
export function unigram(texts, scores) {
  const ids = new Map(texts.map((text, i) => [text, FIRST + i]));
  const longest = Math.max(...texts.map((text) => [...text].length));
  const unknown = Math.fround(scores.reduce((a, b) => Math.min(a, b)) - UNKNOWN);

  /** Every piece that fits somewhere: { from, to, text, id, score }; id is null for a character that has no piece. */
  function lattice(chars) {
    const arcs = [];
    for (let from = 0; from < chars.length; from++) {
      let single = false;
      for (let to = from + 1; to <= Math.min(chars.length, from + longest); to++) {
        const text = chars.slice(from, to).join("");
        const id = ids.get(text);
        if (id === undefined) continue;
        single ||= to === from + 1;
        arcs.push({ from, to, text, id, score: scores[id - FIRST] });
      }
      if (!single) arcs.push({ from, to: from + 1, text: chars[from], id: null, score: unknown });
    }
    return arcs;
  }

  /** The arcs of the most probable way, by Viterbi. Sums are float32, as in the library, so that ties fall alike. */
  function best(chars, arcs = lattice(chars)) {
    const sum = new Float32Array(chars.length + 1).fill(-Infinity);
    const last = [];
    sum[0] = 0;
    for (const arc of arcs) {
      const total = Math.fround(sum[arc.from] + arc.score);
      if (last[arc.to] && total <= sum[arc.to]) continue;
      sum[arc.to] = total;
      last[arc.to] = arc;
    }
    const path = [];
    for (let at = chars.length; at > 0; at = path[0].from) path.unshift(last[at]);
    return { path, total: sum[chars.length] };
  }

  const blanks = (text) => [...text.replaceAll(" ", BLANK)];
  const bytesOf = (text) => utf8(text).map((b) => BYTES + b);
  const arcIds = ({ id, text }) => (id === null ? bytesOf(text) : [id]);

  return {
    size: FIRST + texts.length,
    blanks,
    lattice,
    best,
    piece: (id) => (id < FIRST ? null : texts[id - FIRST]),
    /** A sign that looks like SentencePiece's own space is written in bytes, so that it comes back. */
    encode: (text) =>
      text.split(BLANK).flatMap((part, i) => [...(i ? bytesOf(BLANK) : []), ...best(blanks(part)).path.flatMap(arcIds)]),
  };
}

/** The pieces of a unigram model from what Python sends: code points, lengths, and float32 numbers as int32. */
export function unpackUnigram({ codes, lengths, scores }) {
  let at = 0;
  const texts = Array.from(lengths, (n) => String.fromCodePoint(...codes.subarray(at, (at += n))));
  return unigram(texts, new Float32Array(scores.buffer, scores.byteOffset, scores.length));
}
