// A GPT that may know its positions in different ways: a table that is added (learned or sinusoids, read from
// place `start` on), queries and keys that are turned, or nothing. Names as in gpt.py; LayerNorm and GELU.
import { add, attention, chunk, embedding, geluTanh, layerNorm, layers, linear, map } from "./nn.mjs";
import { rotate, rotaryTable } from "./rotary.mjs";

/**
 * ids (T) -> { logits (T, V), scores and weights: one (H, T, T) a layer }. The scores are those before the mask.
 * config: { n_head, norm_eps = 1e-5 }. rotary: turn queries and keys, with the base theta. The first id stands at
 * the position start. tap(name, tensor) hears what gpt.mjs's tap hears of attention.
 */
export function positioned({ tensors, prefix = "", config, ids, rotary = false, start = 0, theta = 10000, tap = () => {} }) {
  const get = layers(tensors, prefix);
  const { n_head: H, norm_eps: eps = 1e-5 } = config;
  const T = ids.length;
  let x = embedding(ids, get("token_embedding")); // (T, C)
  if (get.has("position_embedding")) x = add(x, embedding(ids.map((_, t) => start + t), get("position_embedding")));
  const table = rotary && rotaryTable(x.shape[1] / H, start + T, theta);
  const scores = [];
  const weights = [];
  for (let i = 0; i < get.count("blocks"); i++) {
    const name = `blocks.${i}`;
    const read = layerNorm(x, get(`${name}.norm1`), eps);
    let [q, k, v] = chunk(linear(read, get(`${name}.attention.qkv`)), 3); // (T, 3C) -> three of (T, C)
    if (rotary) [q, k] = [q, k].map((part) => rotate(part, H, table, start));
    const a = attention({ q, k, v, H, causal: true, tap, name: `${name}.attention` });
    scores.push(a.scores);
    weights.push(a.weights);
    x = add(x, linear(a.y, get(`${name}.attention.proj`)));
    const wide = map(linear(layerNorm(x, get(`${name}.norm2`), eps), get(`${name}.mlp.fc`)), geluTanh); // (T, 4C)
    x = add(x, linear(wide, get(`${name}.mlp.proj`)));
    tap(name, x);
  }
  const logits = linear(layerNorm(x, get("norm"), eps), get.has("head") ? get("head") : get("token_embedding"));
  return { logits, scores, weights };
}
