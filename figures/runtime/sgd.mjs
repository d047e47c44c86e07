// Gradient descent on the softmax bigram: one table (V, V) of logits, row = the id before. The gradient has a
// closed form: for each pair of a batch, p - onehot in the row of the id before. Numbers and sums are float64.
import { rng } from "./rng.mjs";

const softmax = (row) => {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = row.map((x) => Math.exp(x - max));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / total);
};
const rowOf = (table, V, i) => table.subarray(i * V, (i + 1) * V);

/** How often each id follows each among the first n ids: (V, V). */
export function pairCounts(ids, n, V) {
  const counts = new Float64Array(V * V);
  for (let i = 0; i + 1 < n; i++) counts[ids[i] * V + ids[i + 1]]++;
  return counts;
}

/** A run that has not moved yet: it learns from the first n ids, and its batches follow from the seed. */
export const start = ({ ids, n, V, seed }) => ({ ids, n, V, table: new Float64Array(V * V), step: 0, random: rng(seed) });

/** One step in place, on `batch` pairs drawn with replacement: table -= lr * (gradient + decay * table). */
export function sgdStep(run, { lr, batch, decay = 0 }) {
  const { ids, n, V, table, random } = run;
  const pairs = new Map(); // id before -> how often each id came next in this batch
  for (let b = 0; b < batch; b++) {
    const at = Math.floor(random() * (n - 1));
    if (!pairs.has(ids[at])) pairs.set(ids[at], new Float64Array(V));
    pairs.get(ids[at])[ids[at + 1]]++;
  }
  const gradients = [...pairs].map(([id, seen]) => {
    const times = seen.reduce((a, b) => a + b, 0);
    return [id, softmax(rowOf(table, V, id)).map((p, w) => (times * p - seen[w]) / batch)];
  });
  if (decay) for (let i = 0; i < table.length; i++) table[i] -= lr * decay * table[i];
  for (const [id, gradient] of gradients) {
    const row = rowOf(table, V, id);
    for (let w = 0; w < V; w++) row[w] -= lr * gradient[w];
  }
  run.step++;
}

/** Mean of -log p(next | before) over counted pairs, nats. */
export function meanLoss(table, counts, V) {
  let total = 0;
  let n = 0;
  for (let i = 0; i < V; i++) {
    const row = rowOf(table, V, i);
    const seen = rowOf(counts, V, i);
    const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const shift = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
    for (let w = 0; w < V; w++) {
      if (!seen[w]) continue;
      total += seen[w] * (shift - row[w]);
      n += seen[w];
    }
  }
  return total / n;
}

/** The least loss that any table can have on counted pairs, nats: that of the counts themselves. */
export function leastLoss(counts, V) {
  let total = 0;
  let n = 0;
  for (let i = 0; i < V; i++) {
    const seen = rowOf(counts, V, i);
    const times = seen.reduce((a, b) => a + b, 0);
    for (const c of seen) if (c) total -= c * Math.log(c / times);
    n += times;
  }
  return total / n;
}

/** The size of the weights: the square root of their mean square. */
export const weightSize = (table) => Math.sqrt(table.reduce((sum, x) => sum + x * x, 0) / table.length);

/** n ids that the table writes after `first`. */
export function write(table, V, first, n, random) {
  const made = [];
  for (let last = first; made.length < n; last = made.at(-1)) {
    const p = softmax(rowOf(table, V, last));
    let left = random();
    const at = p.findIndex((x) => (left -= x) < 0);
    made.push(at < 0 ? p.findLastIndex((x) => x > 0) : at);
  }
  return made;
}
