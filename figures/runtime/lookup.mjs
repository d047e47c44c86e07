// Chapter 04: what the square root does to a softmax, and the model with a window and one attention layer.
import { add, embedding, layerNorm, layers, linear, selfAttention, tensor } from "./nn.mjs";
import { rowOf, softmax } from "./ops.mjs";

const sum = (values, f) => values.reduce((total, v, i) => total + f(v, i), 0);

/** Entropy of weights, bits: 0 for one key alone, log2(n) for n alike. */
export const entropyBits = (p) => sum(p, (v) => (v > 0 ? -v * Math.log2(v) : 0));

/** The size of a softmax's gradient: the Frobenius norm of diag(p) - p p^T, whose entries are p_i (delta_ij - p_j). */
export function slope(p) {
  let total = 0;
  for (let i = 0; i < p.length; i++) {
    for (let j = 0; j < p.length; j++) total += (p[i] * ((i === j) - p[j])) ** 2;
  }
  return Math.sqrt(total);
}

/** scores: rows of `keys` numbers, each divided by `by` -> the means over the rows, and each row's weights. */
export function meters(scores, keys, by) {
  const n = scores.length / keys;
  const weights = Array.from({ length: n }, (_, i) => softmax(rowOf(scores, keys, i).map((s) => s / by)));
  const mean = (f) => sum(weights, f) / n;
  const frozen = mean((p) => Math.max(...p) > 0.9);
  return { weights, entropy: mean(entropyBits), slope: mean(slope), frozen };
}

/** How many of the values lie in each of n bins of equal width from low to high; what lies outside goes to the ends. */
export function histogram(values, low, high, n) {
  const counts = new Array(n).fill(0);
  for (const v of values) counts[Math.min(Math.max(Math.floor(((v - low) / (high - low)) * n), 0), n - 1)]++;
  return counts;
}

/** Variance of numbers about their mean, divided by their number less one, as torch does. */
export function variance(values) {
  const mean = sum(values, (v) => v) / values.length;
  return sum(values, (v) => (v - mean) ** 2) / (values.length - 1);
}

/**
 * A window of three tokens, and one attention layer: ids (T) -> { logits (T, V), weights (T, T) }.
 * scale: in place of 1 / sqrt(C). tap(name, tensor): embed, window, norm1, attention.*, attention, norm2, head.
 */
export function reader({ tensors, ids, scale, tap = () => {} }) {
  const get = layers(tensors);
  const note = (name, x) => (tap(name, x), x);
  const e = note("token_embedding", embedding(ids, get("token_embedding"))); // (T, C)
  const [T, C] = e.shape;
  const last3 = tensor([T, 3 * C]);
  for (let t = 0; t < T; t++) {
    for (let n = 0; n <= Math.min(t, 2); n++) last3.data.set(rowOf(e.data, C, t - n), (3 * t + n) * C);
  }
  let x = note("window", linear(last3, get("window"))); // (T, 3C) -> (T, C)
  const read = selfAttention(note("norm1", layerNorm(x, get("norm1"))), get, "attention", { H: 1, causal: true, scale, tap });
  x = note("norm2", layerNorm(add(x, read.y), get("norm2")));
  const logits = note("head", linear(x, get("head"))); // (T, C) -> (T, V)
  return { logits, weights: tensor([T, T], read.weights.data) };
}
