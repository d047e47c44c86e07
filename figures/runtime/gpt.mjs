// The forward pass of gpt.py's GPT, from its state_dict. A part that the state_dict lacks is left out: models
// of attention alone (no mlp), without norms or without positions are served too. No head: the token table.
import { add, embedding, geluTanh, layerNorm, layers, linear, map, selfAttention } from "./nn.mjs";

/**
 * ids (T) -> { logits (T, V), weights: one (H, T, T) a layer, x (T, C) the stream before the last norm }.
 *
 * config: { n_head, norm_eps = 1e-5, causal = true }. prefix: what stands before each tensor's name.
 * off: what to switch off, { heads: { layer: [head] }, attentions: [layer], mlps: [layer], blocks: [layer] }.
 * scale: in place of 1 / sqrt(D). tap(name, tensor): "embed", "blocks.0.norm1", "blocks.0.attention.weights"
 * (and .q .k .v .scores .heads .y), "blocks.0.attention", "blocks.0.middle" (the stream between), "blocks.0.norm2",
 * "blocks.0.mlp", "blocks.0" (the stream after the block), "norm", "head" (the logits).
 */
export function gpt({ tensors, prefix = "", config, ids, off = {}, scale, mask, tap = () => {} }) {
  const get = layers(tensors, prefix);
  const { n_head: H, norm_eps: eps = 1e-5, causal = true } = config;
  const { heads = {}, attentions = [], mlps = [], blocks = [] } = off;
  const note = (name, x) => (tap(name, x), x);
  const norm = (name, x) => note(name, get.has(name) ? layerNorm(x, get(name), eps) : x);

  let x = embedding(ids, get("token_embedding")); // (T, C)
  if (get.has("position_embedding")) x = add(x, embedding([...ids.keys()], get("position_embedding")));
  note("embed", x);
  const weights = [];
  for (let i = 0; i < get.count("blocks"); i++) {
    const name = `blocks.${i}`;
    const options = { H, causal, mask, scale, off: heads[i], tap };
    const { y, weights: a } = selfAttention(norm(`${name}.norm1`, x), get, `${name}.attention`, options);
    weights.push(a);
    if (!blocks.includes(i) && !attentions.includes(i)) x = add(x, y);
    note(`${name}.middle`, x);
    if (get.has(`${name}.mlp`)) {
      const z = norm(`${name}.norm2`, x);
      const wide = map(linear(z, get(`${name}.mlp.fc`)), geluTanh); // (T, C) -> (T, 4C)
      const more = note(`${name}.mlp`, linear(wide, get(`${name}.mlp.proj`))); // (T, 4C) -> (T, C)
      if (!blocks.includes(i) && !mlps.includes(i)) x = add(x, more);
    }
    note(name, x);
  }
  const logits = linear(norm("norm", x), get.has("head") ? get("head") : get("token_embedding")); // (T, V)
  return { logits: note("head", logits), weights, x };
}
