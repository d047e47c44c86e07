// The forward pass of vision.py's ImageModel, from its state_dict, and attention.py's blocks for pictures.
// A picture is (C, h, w); its positions in one row are P = h * w, row by row.
import { add, attention, chunk, conv2d, crossAttention, geglu, gelu, groupNorm, layerNorm, layers, linear, map, rowOf, selfAttention, tensor, transpose } from "./nn.mjs"; // prettier-ignore

/** SpatialAttention: x (C, h, w) -> { y the same with what was read added, weights (1, P, P), ... }. */
export function spatialAttention(x, get, name, { groups, off = false, ...options }) {
  const normed = groupNorm(x, get(`${name}.norm`), groups, 1e-6);
  const [q, k, v] = chunk(transpose(conv2d(normed, get(`${name}.qkv`))), 3); // (3C, h, w) -> (P, 3C) -> three of (P, C)
  const a = attention({ q, k, v, H: 1, name, ...options });
  const read = conv2d(transpose(a.y, x.shape), get(`${name}.proj`)); // (P, C) -> (C, h, w)
  const y = off ? x : add(x, read);
  options.tap?.(name, y);
  return { ...a, read, y };
}

/** SpatialTransformer: x (C, h, w), context (S, E) -> { y, weights (H, P, P), cross (H, P, S) }. */
export function spatialTransformer(x, context, get, name, { H, groups, mask, tap }) {
  const p = name ? `${name}.` : "";
  let y = transpose(conv2d(groupNorm(x, get(`${p}norm`), groups, 1e-6), get(`${p}proj_in`))); // (C, h, w) -> (P, C)
  const own = selfAttention(layerNorm(y, get(`${p}norm1`)), get, `${p}self_attention`, { H, tap });
  y = add(y, own.y);
  const over = crossAttention(layerNorm(y, get(`${p}norm2`)), context, get, `${p}cross_attention`, { H, mask, tap });
  y = add(y, over.y);
  y = add(y, geglu(layerNorm(y, get(`${p}norm3`)), get, `${p}mlp`));
  y = add(x, conv2d(transpose(y, x.shape), get(`${p}proj_out`))); // (P, C) -> (C, h, w)
  tap?.(name, y);
  return { y, weights: own.weights, cross: over.weights };
}

/**
 * image (1, h, w) -> { logits (n_class), weights: a block's (1, P, P), or none of a block that is a convolution, size: [h', w'] }.
 * config: { n_groups = 4 }. off: blocks whose attention or convolution adds nothing. mask, scale: those of attention().
 * tap names: "stem" (the picture the positions see), "mixers.0.weights" (.q .k .v .scores), "mixers.0", "mlps.0", "head".
 */
export function imageModel({ tensors, config = {}, image, off = [], mask, scale, tap = () => {} }) {
  const get = layers(tensors);
  const note = (name, x) => (tap(name, x), x);
  let x = map(conv2d(image, get("stem.0")), gelu); // (1, 16, 16) -> (C, 16, 16)
  if (get.has("stem.2")) x = map(conv2d(x, get("stem.2"), { stride: 2 }), gelu); // -> (C, 8, 8)
  note("stem", x);
  if (tensors.positions) x = add(x, tensors.positions);
  const size = x.shape.slice(1);
  const weights = [];
  for (let i = 0; i < get.count("mixers"); i++) {
    const name = `mixers.${i}`;
    if (get.has(`${name}.conv`)) {
      if (!off.includes(i)) x = add(x, conv2d(map(x, gelu), get(`${name}.conv`)));
      weights.push(undefined);
      note(name, x);
    } else {
      const a = spatialAttention(x, get, name, { groups: config.n_groups ?? 4, off: off.includes(i), mask, scale, tap });
      weights.push(a.weights);
      x = a.y;
    }
    const more = conv2d(map(conv2d(x, get(`mlps.${i}.0`)), gelu), get(`mlps.${i}.2`)); // C -> 2C -> C at each position
    x = add(x, note(`mlps.${i}`, more));
  }
  const [C, h, w] = x.shape;
  const means = tensor([1, C]).data.map((_, c) => rowOf(x.data, h * w, c).reduce((a, b) => a + b, 0) / (h * w));
  const { data } = linear(tensor([1, C], means), get("head")); // (C) -> (2)
  return { logits: note("head", tensor([data.length], data)), weights, size };
}
