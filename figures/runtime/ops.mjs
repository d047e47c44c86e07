// The arithmetic of the figures. Storage is float32 and every sum is float64, so that results agree
// with PyTorch in float64 to about seven digits. A table is a flat array of rows of `width` numbers.

export const bits = (nats) => nats / Math.LN2;

export const rowOf = (table, width, i) => table.subarray(i * width, (i + 1) * width);

const eachRow = (table, width, f) => {
  const out = new Float32Array(table.length);
  for (let i = 0; i < table.length / width; i++) out.set(f(rowOf(table, width, i)), i * width);
  return out;
};

const sum = (values, f = (v) => v) => {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += f(values[i], i);
  return total;
};

/** log(exp(x) / sum exp(x)) of one row, nats. The maximum is taken out first, so that exp cannot overflow. */
export function logSoftmax(logits) {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const shift = max + Math.log(sum(logits, (x) => Math.exp(x - max)));
  return Float32Array.from(logits, (x) => x - shift);
}

export const softmax = (logits) => Float32Array.from(logSoftmax(logits), Math.exp);
export const softmaxRows = (logits, width) => eachRow(logits, width, softmax);
export const logSoftmaxRows = (logits, width) => eachRow(logits, width, logSoftmax);

/** Each row of counts as a distribution; a row never seen is uniform. */
export function normalizeRows(counts, width) {
  return eachRow(counts, width, (row) => {
    const total = sum(row);
    return Float32Array.from(row, (n) => (total ? n / total : 1 / width));
  });
}

/** -sum p log q, nats. What p never shows costs nothing, whatever q says of it. */
export const crossEntropy = (p, logq) => -sum(p, (v, i) => (v ? v * logq[i] : 0));

/** KL(p || q), nats: what it costs to believe q when the truth is p. Never negative but for rounding. */
export const kl = (p, logq) => sum(p, (v, i) => (v ? v * (Math.log(v) - logq[i]) : 0));

/** Mean over rows of KL(counts || model), each row weighed by how often it was seen. */
export function meanKl(counts, logq, width) {
  const p = normalizeRows(counts, width);
  const at = (i) => sum(rowOf(counts, width, i)) * kl(rowOf(p, width, i), rowOf(logq, width, i));
  let total = 0;
  for (let i = 0; i < counts.length / width; i++) total += at(i);
  return total / sum(counts);
}

/** The index where the running sum of the probabilities passes u, 0 <= u < 1. */
export function sample(probs, u) {
  let left = u * sum(probs);
  for (let i = 0; i < probs.length; i++) if ((left -= probs[i]) < 0) return i;
  return probs.findLastIndex((p) => p > 0);
}

/** The indices of a row from the largest value to the smallest; equal values keep their order. */
export const ranked = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]);
