// Chapter 11: FLOPs and bytes of a forward pass, the roofline, and the product that measures a browser.

/** FLOPs and bytes by part, as ledger.work. shape: { llama, V, L, C, KV, hidden }; `past` tokens are in the cache. */
export function work({ llama, V, L, C, KV, hidden }, { B = 1, T = 1, past = 0, width = 4 } = {}) {
  const n = B * T;
  const S = past + T;
  const gate = llama ? 1 : 0; // q, k and v are then three products too
  const parts = {
    attention: [2 * n * L * C * (2 * C + 2 * KV), L * (C * (2 * C + 2 * KV) + n * (4 * C + 2 * KV + 2 * gate * C))],
    scores: [2 * n * L * 2 * S * C, L * (2 * n * C + 2 * B * S * KV)],
    mlp: [2 * n * L * (2 + gate) * C * hidden, L * ((2 + gate) * C * hidden + n * (2 + gate) * (C + hidden))],
    head: [2 * n * C * V, C * V + n * (C + V)],
  };
  return Object.fromEntries(Object.entries(parts).map(([part, [flops, numbers]]) => [part, { flops, bytes: width * numbers }]));
}

/** The parts together. */
export function together(parts, names = Object.keys(parts)) {
  const sum = (key) => names.reduce((all, name) => all + parts[name][key], 0);
  return { flops: sum("flops"), bytes: sum("bytes") };
}

export const intensity = ({ flops, bytes }) => flops / bytes;

/** The most FLOP/s at an intensity. */
export const attainable = (x, { peak, bandwidth }) => Math.min(peak, x * bandwidth);

/** The least seconds for the parts one after the other, each at its place on the roof. */
export const leastSeconds = (parts, device) =>
  Object.values(parts).reduce((all, part) => all + part.flops / attainable(intensity(part), device), 0);

export const WEIGHTED = ["attention", "mlp", "head"];

/** The smallest batch at which decoding reaches the intensity `ridge`, or null if none does. */
export function ridgeBatch(shape, ridge, { past = 0, width = 4, parts = WEIGHTED } = {}) {
  const [one, two] = [1, 2].map((B) => together(work(shape, { B, T: 1, past, width }), parts));
  const each = two.bytes - one.bytes; // bytes that every further text adds
  if (one.flops <= ridge * each) return null;
  return Math.max(1, Math.ceil((ridge * (one.bytes - each)) / (one.flops - ridge * each)));
}

/** out = a b for n x n matrices, n a multiple of 4: plain JavaScript, as fast as it easily gets. */
export function product(a, b, out, n) {
  for (let i = 0; i < n; i++) {
    const row = out.subarray(i * n, (i + 1) * n);
    row.fill(0);
    for (let k = 0; k < n; k += 4) {
      const [a0, a1, a2, a3] = [a[i * n + k], a[i * n + k + 1], a[i * n + k + 2], a[i * n + k + 3]];
      const [b0, b1, b2, b3] = [k * n, (k + 1) * n, (k + 2) * n, (k + 3) * n];
      for (let j = 0; j < n; j++) row[j] += a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
    }
  }
  return out;
}
