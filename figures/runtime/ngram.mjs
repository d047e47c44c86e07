// Counted n-grams, straight from a text of ids: one pass finds every place where the end of the context stands,
// so nothing has to be stored and nothing is left out. Equal to babygpt_course.ngram.NGram in float64.

/** n ids of one byte each, packed four to an int32. */
export const unpack = (packed, n) => new Uint8Array(packed.buffer, packed.byteOffset, n);

const sum = (values) => values.reduce((a, b) => a + b, 0);

/**
 * The rungs of p(next | context), the shortest context first. text, context: ids below V.
 * method: "mle", "add_k" (with k), "witten_bell" or "kneser_ney" (with discount).
 *
 * Each rung: length of its context; counts (V) it uses, their total n, and t, how many are not zero; seen, how often
 * its context came; kept, the share that its own counts give out; handed, the rest; p (V), its answer.
 * With "mle" and "add_k" the rest is for all tokens alike, with the others for the rung below.
 */
export function ladder({ text, V, order, method, k = 1, discount = 0.75 }, context) {
  const top = Math.min(order - 1, context.length);
  const came = Array.from({ length: top + 1 }, () => new Float64Array(V));
  const before = Array.from({ length: top + 1 }, () => new Uint8Array(V * V)); // [v, w]: v came before the context and w
  for (let i = 0; i < text.length; i++) {
    for (let j = 0; j <= Math.min(top, i); j++) {
      if (j > 0 && text[i - j] !== context[context.length - j]) break;
      came[j][text[i]]++;
      if (i > j) before[j][text[i - j - 1] * V + text[i]] = 1;
    }
  }
  const even = new Float64Array(V).fill(1 / V);
  let p = even;
  return came.map((times, length) => {
    // Below the full order Kneser-Ney asks after how many different tokens.
    const places = method === "kneser_ney" && length < order - 1;
    const counts = places ? times.map((_, w) => countBefore(before[length], w, V)) : times;
    const n = sum(counts);
    const t = sum(counts.map((c) => Number(c > 0)));
    const alike = method === "mle" || method === "add_k";
    const shorter = alike ? even : p;
    let total = n; // the denominator
    let handed = 0; // the numerator of what the counts do not give out
    if (method === "add_k") total = n + (handed = k * V);
    if (method === "witten_bell") total = n + (handed = t);
    if (method === "kneser_ney") handed = discount * t;
    const less = method === "kneser_ney" ? discount : 0;
    p = total > 0 ? counts.map((c, w) => (Math.max(c - less, 0) + handed * shorter[w]) / total) : shorter;
    const rest = total > 0 ? handed / total : 1;
    return { length, counts, n, t, seen: sum(times), kept: 1 - rest, handed: rest, p };
  });
}

const countBefore = (before, w, V) => {
  let n = 0;
  for (let v = 0; v < V; v++) n += before[v * V + w];
  return n;
};

/** The share of the last rung's answer that each rung's own counts gave; what is left over came from no count. */
export function shares(rungs, method) {
  let left = 1;
  return rungs
    .map((_, i) => rungs.length - 1 - i)
    .map((i) => {
      const own = left * rungs[i].kept;
      left = method === "mle" || method === "add_k" ? 0 : left * rungs[i].handed;
      return own;
    })
    .reverse();
}
