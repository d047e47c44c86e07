// The GPT of gpt.mjs one token at a time: keys and values of what was read are kept, so that a new token costs
// one row of arithmetic. The numbers are those of the whole forward pass.
import { add, attention, chunk, embedding, geluTanh, layerNorm, layers, linear, map, tensor } from "./nn.mjs";

/**
 * reader({ tensors, config: { n_head, norm_eps } }) -> { block_size, empty(), copy(cache), read(cache, id) }.
 * read() gives the logits (V) after id and adds it to the cache; a full cache (block_size) reads no more.
 */
export function reader({ tensors, config: { n_head: H, norm_eps: eps = 1e-5 } }) {
  const get = layers(tensors);
  const [block_size, C] = get("position_embedding").weight.shape;
  const L = get.count("blocks");
  const room = () => new Float32Array(block_size * C);
  const norm = (name, x) => layerNorm(x, get(name), eps);
  return {
    block_size,
    empty: () => ({ length: 0, layers: Array.from({ length: L }, () => ({ k: room(), v: room() })) }),
    copy: ({ length, layers }) => ({ length, layers: layers.map(({ k, v }) => ({ k: k.slice(), v: v.slice() })) }),
    read(cache, id) {
      const t = cache.length;
      if (t >= block_size) throw new Error(`This model reads ${block_size} tokens at most.`);
      let x = add(embedding([id], get("token_embedding")), embedding([t], get("position_embedding"))); // (1, C)
      cache.layers.forEach((kept, i) => {
        const name = `blocks.${i}`;
        const [q, k, v] = chunk(linear(norm(`${name}.norm1`, x), get(`${name}.attention.qkv`)), 3);
        kept.k.set(k.data, t * C);
        kept.v.set(v.data, t * C);
        const past = (data) => tensor([t + 1, C], data.subarray(0, (t + 1) * C));
        const { y } = attention({ q, k: past(kept.k), v: past(kept.v), H });
        x = add(x, linear(y, get(`${name}.attention.proj`)));
        const wide = map(linear(norm(`${name}.norm2`, x), get(`${name}.mlp.fc`)), geluTanh); // (1, 4C)
        x = add(x, linear(wide, get(`${name}.mlp.proj`)));
      });
      cache.length++;
      return linear(norm("norm", x), get.has("head") ? get("head") : get("token_embedding")).data;
    },
  };
}
