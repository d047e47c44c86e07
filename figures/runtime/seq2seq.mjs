// The forward pass of seq2seq.py's Seq2Seq, from its state_dict: an encoder, a decoder that reads it by
// cross-attention, and greedy decoding. Ids 0 and 1 are PAD and START. Norms and MLPs that the state_dict lacks
// are left out.
import { add, crossAttention, embedding, gelu, layerNorm, layers, linear, map, rowOf, selfAttention, tensor } from "./nn.mjs";

const PAD = 0;
const START = 1;
const norm = (x, get, name) => (get.has(name) ? layerNorm(x, get(name)) : x);
// x and what the MLP makes of its norm: C -> 4C -> C.
const withMlp = (x, get, name, before) =>
  get.has(name) ? add(x, linear(map(linear(norm(x, get, before), get(`${name}.0`)), gelu), get(`${name}.2`))) : x;
const embed = (ids, get, side) => add(embedding(ids, get("token_embedding")), embedding([...ids.keys()], get(`${side}_position`)));

/** Which source positions are text: 1, or 0 for padding. Set more of them to 0 to hide them. */
export const seenOf = (source) => source.map((id) => Number(id !== PAD));

/** source ids (S) -> { memory (S, C), weights: one (H, S, S) a layer }. seen: S numbers, 0 = nobody reads it. */
export function encode({ tensors, config: { n_head: H }, source, seen = seenOf(source), tap = () => {} }) {
  const get = layers(tensors);
  let x = embed(source, get, "source");
  const weights = [];
  for (let i = 0; i < get.count("encoder"); i++) {
    const name = `encoder.${i}`;
    const a = selfAttention(norm(x, get, `${name}.norm1`), get, `${name}.attention`, { H, mask: seen, tap });
    weights.push(a.weights);
    x = add(x, a.y);
    x = withMlp(x, get, `${name}.mlp`, `${name}.norm2`);
    tap(name, x);
  }
  const memory = norm(x, get, "memory_norm");
  tap("memory_norm", memory);
  return { memory, weights };
}

/**
 * written ids (T), START first, memory (S, C) -> { logits (T, V), weights and cross: a layer's (H, T, T), (H, T, S) }.
 * seen: S numbers, 0 = the decoder may not read it. off: { cross: { layer: [head] } } switches heads off.
 */
export function decode({ tensors, config: { n_head: H }, written, memory, seen, scale, off = {}, tap = () => {} }) {
  const get = layers(tensors);
  let x = embed(written, get, "target");
  const weights = [];
  const cross = [];
  for (let i = 0; i < get.count("decoder"); i++) {
    const name = `decoder.${i}`;
    const own = selfAttention(norm(x, get, `${name}.norm1`), get, `${name}.attention`, { H, causal: true, tap });
    x = add(x, own.y);
    const options = { H, mask: seen, scale, off: off.cross?.[i], tap };
    const over = crossAttention(norm(x, get, `${name}.norm2`), memory, get, `${name}.cross_attention`, options);
    x = add(x, over.y);
    x = withMlp(x, get, `${name}.mlp`, `${name}.norm3`);
    tap(name, x);
    weights.push(own.weights);
    cross.push(over.weights);
  }
  const logits = linear(norm(x, get, "norm"), get("head"));
  tap("head", logits);
  return { logits, weights, cross };
}

/**
 * The likeliest ids, one after another: { ids (n), logits (n, V), cross: a layer's (H, n, S), memory }.
 * seen: what the decoder may read of the source; the encoder reads `encoderSeen`, by default all that is no padding.
 */
export function translate({ tensors, config, source, n = tensors["target_position.weight"].shape[0], seen = seenOf(source), encoderSeen, ...rest }) {
  const { memory } = encode({ tensors, config, source, seen: encoderSeen });
  const written = [START];
  let last = { logits: tensor([0, 0]), weights: [], cross: [] };
  for (let t = 0; t < n; t++) {
    last = decode({ tensors, config, written, memory, seen, ...rest });
    const row = rowOf(last.logits.data, last.logits.shape[1], t);
    written.push(row.indexOf(Math.max(...row)));
  }
  return { ...last, ids: written.slice(1), memory };
}
