// quantize.py in the browser: weights rounded to codes of a few bits, and the bytes that a file of them takes.
// Scales and codes are float64, so that they are those of PyTorch in float64, ties and all.
import { tensor } from "./nn.mjs";

/** To the nearest whole number; a half goes to the even one, as torch rounds. */
export function nearestEven(x) {
  const low = Math.floor(x);
  const rest = x - low;
  return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low % 2 === 0 ? low : low + 1;
}

/** The scale and the zero code of some weights: data[at] to data[at + n - 1]. */
export function scaleAndZero(data, at, n, { bits, symmetric = true }) {
  let [low, high] = [0, 0];
  for (let i = at; i < at + n; i++) {
    low = Math.min(low, data[i]);
    high = Math.max(high, data[i]);
  }
  if (symmetric) {
    const top = 2 ** (bits - 1) - 1;
    return { scale: Math.max(-low, high) / top || 1, zero: top + 1 };
  }
  const scale = (high - low) / (2 ** bits - 1) || 1;
  return { scale, zero: nearestEven(-low / scale) };
}

/**
 * A weight (out, in) rounded: { shape, data: the values, codes, lines: [{ at, n, scale, zero }], bytes }.
 * scheme: per_tensor, per_channel or group (of `group` columns of a row); a line is what shares one scale.
 */
export function rounded({ shape, data }, { bits, scheme, group = 32, symmetric = true }) {
  const [rows, columns] = shape;
  const wide = scheme === "per_tensor" ? rows * columns : scheme === "group" ? Math.min(group, columns) : columns;
  const lines = [];
  for (let start = 0; start < rows * columns; start += scheme === "per_tensor" ? wide : columns)
    for (let at = start; at < start + (scheme === "per_tensor" ? wide : columns); at += wide) {
      const n = scheme === "per_tensor" ? wide : Math.min(wide, start + columns - at);
      lines.push({ at, n, ...scaleAndZero(data, at, n, { bits, symmetric }) });
    }
  const most = 2 ** bits - 1;
  const codes = new Uint8Array(data.length);
  const values = tensor(shape);
  for (const { at, n, scale, zero } of lines)
    for (let i = at; i < at + n; i++) {
      codes[i] = Math.min(Math.max(nearestEven(data[i] / scale) + zero, 0), most);
      values.data[i] = scale * (codes[i] - zero);
    }
  const bytes = rows * bits * Math.ceil(columns / 8) + lines.length * (symmetric ? 4 : 5);
  return { ...values, codes, lines, bytes };
}

const LINEAR = /(^|\.)(qkv|proj|fc|head)\.weight$/;
const TABLE = /embedding\.weight$/;

/**
 * All tensors of a gpt.py GPT with its linear layers rounded, and its embeddings if `embeddings`: those symmetric,
 * as quantize_embeddings does. -> { tensors, bytes, parts: name -> what `rounded` gave }.
 */
export function roundedModel(tensors, { embeddings = false, ...options }) {
  const out = { tensors: {}, bytes: 0, parts: {} };
  for (const [name, x] of Object.entries(tensors)) {
    const table = TABLE.test(name);
    if ((table && embeddings) || LINEAR.test(name)) {
      const part = rounded(x, table ? { ...options, symmetric: true } : options);
      out.parts[name] = out.tensors[name] = part;
      out.bytes += part.bytes;
    } else {
      out.tensors[name] = x;
      out.bytes += 4 * x.data.length;
    }
  }
  return out;
}

/** The tensors with one incoming weight of a hidden unit `factor` times as large as the largest of its layer. */
export function withOutlier(tensors, { layer, unit, column, factor }) {
  const name = `${layer}.fc.weight`;
  const { shape, data } = tensors[name];
  const planted = data.slice();
  planted[unit * shape[1] + column] = factor * data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return { ...tensors, [name]: tensor(shape, planted) };
}
