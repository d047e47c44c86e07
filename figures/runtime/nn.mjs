// The layers of the course's models, one example at a time (no batch). A tensor is { shape, data }: float32
// numbers, rows first; every sum is float64. Letters as in the chapters: T queries, S keys, C channels,
// H heads, D = C / H channels of one head. tap(name, tensor) is called with every intermediate; its name is
// the module's name in Python, so that a tap can be drawn and compared with PyTorch.
import { logSoftmax, rowOf, softmax } from "./ops.mjs";

export { rowOf };

const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);
const silent = () => {};

export const tensor = (shape, data = new Float32Array(sizeOf(shape))) => ({ shape, data });
export const map = (x, f) => tensor(x.shape, Float32Array.from(x.data, f));

export function add(x, y) {
  if (x.data.length !== y.data.length) throw new Error(`Cannot add (${y.shape}) to (${x.shape}).`);
  return map(x, (v, i) => v + y.data[i]);
}

/** One head's (T, S) table out of weights or scores (H, T, S), or one of any first index. */
export function slice(x, i) {
  const shape = x.shape.slice(1);
  return tensor(shape, rowOf(x.data, sizeOf(shape), i));
}

/**
 * The parameters of a model by module name: layers(tensors)("blocks.0.norm1") is { weight, bias }, bias
 * undefined where the module has none. .has(name) asks for a module or any of its parts.
 */
export function layers(tensors, prefix = "") {
  const get = (name) => {
    const weight = tensors[`${prefix}${name}.weight`];
    if (!weight) throw new Error(`There is no tensor ${prefix}${name}.weight.`);
    return { weight, bias: tensors[`${prefix}${name}.bias`] };
  };
  get.has = (name) => Object.keys(tensors).some((key) => key.startsWith(`${prefix}${name}.`));
  get.count = (name) => {
    let n = 0;
    while (get.has(`${name}.${n}`)) n++;
    return n;
  };
  return get;
}

// --- functions of one number ---------------------------------------------------------------------------

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));
export const relu = (x) => Math.max(x, 0);

/** The error function, to the last digit of float64: its power series, whose terms are all positive. */
export function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) total += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
}

/** GELU as defined, x P(a normal number is below x): torch's default. */
export const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));

/** GELU by the formula of GPT-2: torch's approximate="tanh". */
export const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

// --- layers on rows --------------------------------------------------------------------------------------

/** Rows of a table (V, C) for ids -> (T, C). */
export function embedding(ids, { weight }) {
  const [V, C] = weight.shape;
  const y = tensor([ids.length, C]);
  ids.forEach((id, t) => {
    if (!(id >= 0 && id < V)) throw new Error(`There is no row ${id} in a table of ${V}.`);
    y.data.set(rowOf(weight.data, C, id), t * C);
  });
  return y;
}

/** x (T, in), weight (out, in), bias (out) -> (T, out). */
export function linear(x, { weight, bias }) {
  const [T, n] = x.shape;
  const [m, wide] = weight.shape;
  if (n !== wide) throw new Error(`A linear layer for ${wide} channels was given ${n}.`);
  const y = tensor([T, m]);
  for (let t = 0; t < T; t++) {
    for (let o = 0; o < m; o++) {
      let total = bias ? bias.data[o] : 0;
      for (let i = 0; i < n; i++) total += x.data[t * n + i] * weight.data[o * n + i];
      y.data[t * m + o] = total;
    }
  }
  return y;
}

// Numbers with their mean taken out and divided by their standard deviation, in place.
function standardize(values, eps) {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
  const scale = 1 / Math.sqrt(variance + eps);
  for (let i = 0; i < n; i++) values[i] = (values[i] - mean) * scale;
}

/** x (T, C) -> (T, C): each row by itself. */
export function layerNorm(x, { weight, bias }, eps = 1e-5) {
  const C = x.shape.at(-1);
  const y = map(x, (v) => v);
  for (let t = 0; t < y.data.length / C; t++) standardize(rowOf(y.data, C, t), eps);
  return map(y, (v, i) => v * weight.data[i % C] + (bias ? bias.data[i % C] : 0));
}

/** x (C, h, w) -> the same: the channels in `groups` groups, each with its positions by itself. */
export function groupNorm(x, { weight, bias }, groups, eps = 1e-5) {
  const [C, ...size] = x.shape;
  if (C % groups) throw new Error(`${C} channels do not divide into ${groups} groups.`);
  const P = sizeOf(size);
  const y = map(x, (v) => v);
  for (let g = 0; g < groups; g++) standardize(rowOf(y.data, (C / groups) * P, g), eps);
  return map(y, (v, i) => v * weight.data[Math.floor(i / P)] + bias.data[Math.floor(i / P)]);
}

/** (T, n * C) -> n of (T, C), side by side. */
export function chunk(x, n) {
  const [T, wide] = x.shape;
  const C = wide / n;
  return Array.from({ length: n }, (_, j) => {
    const part = tensor([T, C]);
    for (let t = 0; t < T; t++) part.data.set(rowOf(x.data, C, t * n + j), t * C);
    return part;
  });
}

/** (a, b) -> (b, a), or (C, h, w) -> (P, C) and, given a shape, back. */
export function transpose(x, shape) {
  const a = x.shape[0];
  const b = x.data.length / a;
  const y = tensor(shape ?? [b, a]);
  for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) y.data[j * a + i] = x.data[i * b + j];
  return y;
}

/** C -> 4C, of which half gates, -> C. As attention.py's GEGLU. */
export function geglu(x, get, name) {
  const [value, gate] = chunk(linear(x, get(`${name}.fc`)), 2); // (T, 8C) -> two of (T, 4C)
  return linear(map(value, (v, i) => v * gelu(gate.data[i])), get(`${name}.proj`));
}

// --- layers on pictures -----------------------------------------------------------------------------------

/**
 * x (C, h, w), weight (out, C, k, k) -> (out, h', w'); zeros around it. Padding keeps the size by default
 * (k odd, stride 1).
 */
export function conv2d(x, { weight, bias }, { stride = 1, padding = (weight.shape[2] - 1) >> 1 } = {}) {
  const [C, h, w] = x.shape;
  const [m, wide, kh, kw] = weight.shape;
  if (C !== wide) throw new Error(`A convolution for ${wide} channels was given ${C}.`);
  const [high, long] = [h - kh, w - kw].map((free) => Math.floor((free + 2 * padding) / stride) + 1);
  const y = tensor([m, high, long]);
  for (let o = 0; o < m; o++) {
    for (let r = 0; r < high; r++) {
      for (let c = 0; c < long; c++) {
        let total = bias ? bias.data[o] : 0;
        for (let i = 0; i < kh; i++) {
          const row = r * stride + i - padding;
          if (row < 0 || row >= h) continue;
          for (let j = 0; j < kw; j++) {
            const column = c * stride + j - padding;
            if (column < 0 || column >= w) continue;
            for (let n = 0; n < C; n++) total += x.data[(n * h + row) * w + column] * weight.data[((o * C + n) * kh + i) * kw + j];
          }
        }
        y.data[(o * high + r) * long + c] = total;
      }
    }
  }
  return y;
}

// --- attention ------------------------------------------------------------------------------------------------

/**
 * Attention of H heads side by side. q (T, C), k (S, C), v (S, E) ->
 *   scores (H, T, S)  q . k * scale, before any mask
 *   weights (H, T, S) each row sums to 1, or is 0 where a query may look at nothing
 *   heads (H, T, E/H) the weighted means
 *   y (T, E)          the heads side by side again
 * causal hides key j from query i where j > i (the queries are the last T of the S positions).
 * mask: S or T * S numbers, 0 = may not look. scale: 1 / sqrt(D) unless told. off: heads that give zeros;
 * their weights stay, to be seen.
 */
export function attention({ q, k, v, H = 1, causal = false, mask, scale, off = [], tap = silent, name = "attention" }) {
  const [T, C] = q.shape;
  const [S, E] = v.shape;
  const [D, d] = [C / H, E / H];
  scale ??= 1 / Math.sqrt(D);
  if (mask && mask.length !== S && mask.length !== T * S) throw new Error(`A mask of ${mask.length} for ${T} queries and ${S} keys.`);
  const may = (t, s) => !(causal && s > t + S - T) && !(mask && !mask[mask.length === S ? s : t * S + s]);

  const scores = tensor([H, T, S]);
  const weights = tensor([H, T, S]);
  const heads = tensor([H, T, d]);
  const y = tensor([T, E]);
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      const row = rowOf(scores.data, S, h * T + t);
      for (let s = 0; s < S; s++) {
        let total = 0;
        for (let i = 0; i < D; i++) total += q.data[t * C + h * D + i] * k.data[s * C + h * D + i];
        row[s] = total * scale;
      }
      const seen = row.map((x, s) => (may(t, s) ? x : -Infinity));
      const p = rowOf(weights.data, S, h * T + t);
      if (seen.some((x) => x > -Infinity)) p.set(softmax(seen));
      if (off.includes(h)) continue;
      for (let i = 0; i < d; i++) {
        let total = 0;
        for (let s = 0; s < S; s++) total += p[s] * v.data[s * E + h * d + i];
        heads.data[(h * T + t) * d + i] = total;
        y.data[t * E + h * d + i] = total;
      }
    }
  }
  for (const [part, x] of Object.entries({ q, k, v, scores, weights, heads, y })) tap(`${name}.${part}`, x);
  return { scores, weights, heads, y };
}

/** MultiHeadAttention: x (T, C) -> { y (T, C), weights (H, T, T), ... }. options: those of attention(). */
export function selfAttention(x, get, name, options) {
  const [q, k, v] = chunk(linear(x, get(`${name}.qkv`)), 3); // (T, 3C) -> three of (T, C)
  const a = attention({ q, k, v, name, ...options });
  const y = linear(a.y, get(`${name}.proj`));
  options.tap?.(name, y);
  return { ...a, y };
}

/** CrossAttention: x (T, C) reads context (S, E) -> { y (T, C), weights (H, T, S), ... }. */
export function crossAttention(x, context, get, name, options) {
  const [k, v] = chunk(linear(context, get(`${name}.kv`)), 2); // (S, 2C) -> two of (S, C)
  const a = attention({ q: linear(x, get(`${name}.q`)), k, v, name, ...options });
  const y = linear(a.y, get(`${name}.proj`));
  options.tap?.(name, y);
  return { ...a, y };
}

// --- losses --------------------------------------------------------------------------------------------------------

/** logits (T, V), targets T ids -> the loss of each token, nats. A target below 0 has none: NaN. */
export const tokenLosses = (logits, targets) =>
  Float32Array.from(targets, (id, t) => (id < 0 ? NaN : -logSoftmax(rowOf(logits.data, logits.shape[1], t))[id]));
