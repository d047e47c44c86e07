// Chapter 12: the pieces of a matrix by their size (SVD), cut to a rank, and weights with a correction added.
import { tensor } from "./nn.mjs";

// The two tensors of an adapter.
const PARTS = ["A", "B"];

/**
 * W (m, n) -> { u: k rows of m, s: k numbers from large to small, v: k rows of n }, k = min(m, n), in float64:
 * W = sum of s u v'. One-sided Jacobi: rows are turned in pairs until all stand at right angles.
 */
export function svd({ shape: [m, n], data }) {
  const flip = m > n; // work on the shorter side: k rows of `long` numbers
  const [k, long] = flip ? [n, m] : [m, n];
  const at = (i, j) => (flip ? data[j * n + i] : data[i * n + j]);
  const rows = Array.from({ length: k }, (_, i) => Float64Array.from({ length: long }, (_, j) => at(i, j)));
  const turns = Array.from({ length: k }, (_, i) => Float64Array.from({ length: k }, (_, j) => Number(i === j)));
  const dot = (a, b) => a.reduce((total, x, i) => total + x * b[i], 0);
  const turn = (a, b, c, s) => a.forEach((x, i) => ([a[i], b[i]] = [c * x - s * b[i], s * x + c * b[i]]));
  for (let sweep = 0, most = 1; sweep < 30 && most > 1e-12; sweep++) {
    most = 0;
    for (let p = 0; p < k; p++) {
      for (let q = p + 1; q < k; q++) {
        const [a, b, c] = [dot(rows[p], rows[p]), dot(rows[q], rows[q]), dot(rows[p], rows[q])];
        const slant = Math.abs(c) / Math.sqrt(a * b || 1);
        if (slant < 1e-14) continue;
        most = Math.max(most, slant);
        const z = (b - a) / (2 * c);
        const t = (z < 0 ? -1 : 1) / (Math.abs(z) + Math.sqrt(1 + z * z));
        const cos = 1 / Math.sqrt(1 + t * t);
        turn(rows[p], rows[q], cos, cos * t);
        turn(turns[p], turns[q], cos, cos * t);
      }
    }
  }
  const sizes = rows.map((row) => Math.sqrt(dot(row, row)));
  const order = [...sizes.keys()].sort((i, j) => sizes[j] - sizes[i]);
  const s = order.map((i) => sizes[i]);
  const wide = order.map((i) => rows[i].map((x) => (sizes[i] ? x / sizes[i] : 0)));
  const narrow = order.map((i) => turns[i]);
  return flip ? { u: wide, s, v: narrow } : { u: narrow, s, v: wide };
}

/** The nearest matrix of rank r, (m, n), from what svd() gave. */
export function cut({ u, s, v }, r) {
  const [m, n] = [u[0].length, v[0].length];
  const W = new Float64Array(m * n);
  for (let k = 0; k < Math.min(r, s.length); k++) {
    for (let i = 0; i < m; i++) {
      const left = s[k] * u[k][i];
      for (let j = 0; j < n; j++) W[i * n + j] += left * v[k][j];
    }
  }
  return tensor([m, n], Float32Array.from(W));
}

/** The share of the squares of all numbers that a cut to rank r keeps. */
export function energy({ s }, r) {
  const sum = (values) => values.reduce((total, x) => total + x * x, 0);
  return sum(s.slice(0, r)) / sum(s);
}

/** W + scale * D, of one shape. */
export const plus = (W, D, scale = 1) => tensor(W.shape, Float32Array.from(W.data, (x, i) => x + scale * D.data[i]));

/** B A (out, in) of one adapter: tensors[`${name}.A`] (r, in) and .B (out, r). */
export function product(tensors, name) {
  const [A, B] = PARTS.map((part) => tensors[`${name}.${part}`]);
  const [r, n] = A.shape;
  const [m] = B.shape;
  const W = new Float64Array(m * n);
  for (let i = 0; i < m; i++) for (let k = 0; k < r; k++) for (let j = 0; j < n; j++) W[i * n + j] += B.data[i * r + k] * A.data[k * n + j];
  return tensor([m, n], Float32Array.from(W));
}
