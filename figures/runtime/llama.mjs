// The LLaMA of llama.py with its cache of keys and values, and llama2.c's tokenizer. Letters: T new tokens, S all
// that were read, C channels, H heads, G heads of keys and values, D = C / H, L layers.
import { add, embedding, layers, linear, map, rowOf, sigmoid, tensor } from "./nn.mjs";
import { softmax } from "./ops.mjs";
import { rotate, rotaryTable } from "./rotary.mjs";

/** x (T, C) -> (T, C): each row divided by its root mean square. */
export function rmsNorm(x, { weight }, eps = 1e-5) {
  const C = x.shape.at(-1);
  const y = tensor(x.shape);
  for (let t = 0; t < x.data.length / C; t++) {
    const row = rowOf(x.data, C, t);
    const scale = 1 / Math.sqrt(row.reduce((a, v) => a + v * v, 0) / C + eps);
    row.forEach((v, i) => (y.data[t * C + i] = v * scale * weight.data[i]));
  }
  return y;
}

/** w2(silu(w1 x) * w3 x): x (T, C) -> (T, C). */
export function swiglu(x, get, name) {
  const gate = linear(x, get(`${name}.w1`)); // (T, hidden)
  const value = linear(x, get(`${name}.w3`)); // (T, hidden)
  return linear(map(value, (v, i) => v * gate.data[i] * sigmoid(gate.data[i])), get(`${name}.w2`));
}

/**
 * Causal attention of H heads in G groups: head h reads keys and values number floor(h / (H / G)).
 * q (T, H * D); k, v (S, G * D) as arrays of at least S rows; the queries are the last T of the S positions.
 * -> { y (T, H * D), weights (H, T, S) }
 */
export function grouped({ q, k, v, S, H, G }) {
  const [T, C] = q.shape;
  const D = C / H;
  const wide = G * D;
  const y = tensor([T, C]);
  const weights = tensor([H, T, S]);
  const scale = 1 / Math.sqrt(D);
  for (let h = 0; h < H; h++) {
    const g = Math.floor(h / (H / G)) * D;
    for (let t = 0; t < T; t++) {
      const seen = S - T + t + 1;
      const scores = new Float64Array(seen);
      for (let s = 0; s < seen; s++) {
        let total = 0;
        for (let i = 0; i < D; i++) total += q.data[t * C + h * D + i] * k[s * wide + g + i];
        scores[s] = total * scale;
      }
      const p = softmax(scores);
      rowOf(weights.data, S, h * T + t).set(p);
      for (let i = 0; i < D; i++) {
        let total = 0;
        for (let s = 0; s < seen; s++) total += p[s] * v[s * wide + g + i];
        y.data[t * C + h * D + i] = total;
      }
    }
  }
  return { y, weights };
}

/**
 * llama({ tensors, config: { n_heads, n_kv_heads, max_seq_len, rope_theta, norm_eps } }) ->
 *   { L, G, D, most, empty(), read(cache, ids, tap), multiplies(past, T) }.
 * read() takes T new ids, adds them to the cache and gives { logits (T, V), weights: one (H, T, S) a layer }.
 * last: logits of the last new id alone. multiplies: what such a read multiplies, the masked half left out.
 */
export function llama({ tensors, config }) {
  const { n_heads: H, n_kv_heads: G, max_seq_len: most, rope_theta: theta = 10000, norm_eps: eps = 1e-5 } = config;
  const get = layers(tensors);
  const [V, C] = get("token_embedding").weight.shape;
  const D = C / H;
  const L = get.count("blocks");
  const hidden = get("blocks.0.mlp.w1").weight.shape[0];
  const table = rotaryTable(D, most, theta);
  const head = get.has("head") ? get("head") : get("token_embedding");
  const room = () => new Float32Array(most * G * D);
  return {
    L,
    G,
    D,
    V,
    most,
    empty: () => ({ length: 0, layers: Array.from({ length: L }, () => ({ k: room(), v: room() })) }),
    read(cache, ids, { last = false, tap = () => {} } = {}) {
      const start = cache.length;
      const S = start + ids.length;
      if (S > most) throw new Error(`This model reads ${most} tokens at most.`);
      const note = (name, x) => (tap(name, x), x);
      let x = note("token_embedding", embedding(ids, get("token_embedding"))); // (T, C)
      const weights = cache.layers.map((kept, i) => {
        const name = `blocks.${i}`;
        const z = note(`${name}.norm1`, rmsNorm(x, get(`${name}.norm1`), eps));
        const [q, k, v] = ["wq", "wk", "wv"].map((w) => linear(z, get(`${name}.attention.${w}`)));
        kept.k.set(rotate(k, G, table, start).data, start * G * D); // kept as they were turned at their own place
        kept.v.set(v.data, start * G * D);
        const a = grouped({ q: rotate(q, H, table, start), k: kept.k, v: kept.v, S, H, G });
        note(`${name}.attention.weights`, a.weights);
        x = add(x, note(`${name}.attention`, linear(a.y, get(`${name}.attention.wo`))));
        const wide = note(`${name}.norm2`, rmsNorm(x, get(`${name}.norm2`), eps));
        x = note(name, add(x, note(`${name}.mlp`, swiglu(wide, get, `${name}.mlp`))));
        return a.weights;
      });
      cache.length = S;
      if (last) x = tensor([1, C], rowOf(x.data, C, ids.length - 1));
      return { logits: note("head", linear(note("norm", rmsNorm(x, get("norm"), eps)), head)), weights };
    },
    multiplies(past, T) {
      const row = 2 * C * C + 2 * C * G * D + 3 * C * hidden; // wq and wo, wk and wv, the MLP
      const pairs = T * past + (T * (T + 1)) / 2; // queries with the keys they may see
      return L * (T * row + 2 * C * pairs) + C * V; // a read that wants the last logits only
    },
  };
}

const BYTE = /^<0x([0-9A-F]{2})>$/;
const FIRST = 3; // the id of byte 0: ids 0, 1, 2 are marks
const NEVER = -1e10; // a pair is merged only into a piece with a better score

/** llama2.c's tokenizer: encode(text) -> ids after the mark of the beginning; text(ids) -> what they say. */
export function pieces(list, scores) {
  const ids = new Map();
  list.forEach((piece, i) => ids.has(piece) || ids.set(piece, i));
  const BOS = 1;
  return {
    BOS,
    encode(text) {
      let out = [];
      for (const char of text ? ` ${text}` : "") {
        if (ids.has(char)) out.push(ids.get(char));
        else for (const b of new TextEncoder().encode(char)) out.push(b + FIRST);
      }
      for (;;) {
        let best = [NEVER, -1, -1];
        for (let i = 0; i + 1 < out.length; i++) {
          const id = ids.get(list[out[i]] + list[out[i + 1]]);
          if (id !== undefined && scores[id] > best[0]) best = [scores[id], i, id];
        }
        if (best[1] < 0) return [BOS, ...out];
        out.splice(best[1], 2, best[2]);
      }
    },
    text(some) {
      const bytes = [];
      some.forEach((id, i) => {
        if (id === BOS) return;
        const piece = i > 0 && some[i - 1] === BOS ? list[id].replace(/^ /, "") : list[id];
        const byte = BYTE.exec(piece);
        if (byte) bytes.push(parseInt(byte[1], 16));
        else bytes.push(...new TextEncoder().encode(piece));
      });
      return new TextDecoder().decode(Uint8Array.from(bytes));
    },
  };
}
