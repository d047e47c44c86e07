// Where a number of a GPT's forward pass comes from: the last step that made it, term by term. `taps` are what
// gpt() said of every intermediate: { name: tensor }. Names are gpt.mjs's, and "blocks.0.mlp.hidden", which is
// not tapped and computed here.
import { geluTanh, layers, linear, map, rowOf } from "./nn.mjs";

const dot = (a, b) => Array.from(a, (v, i) => [v, b[i]]);

/** The 4C numbers of a block's MLP, after the bend: (T, 4C). */
export function hidden({ tensors, taps, block }) {
  const get = layers(tensors);
  return map(linear(taps[`blocks.${block}.norm2`], get(`blocks.${block}.mlp.fc`)), geluTanh);
}

/**
 * The tensor called `name` at row t, column c (of head h where there are heads), as
 *   { kind, terms, bias, scale, sum, value }
 * kind "sum":     terms [text, number], value is their sum
 * kind "norm":    x, mean, size, weight, bias: value = (x - mean) / size * weight + bias
 * kind "dot":     terms [a, b], value = (sum of a b) * scale + bias
 * kind "gelu":    as "dot", value = gelu(sum + bias)
 * kind "softmax": terms [exp(score)], one a key that may be read; value = terms[c] / sum
 * off: { attentions, mlps } as for gpt().
 */
export function origin({ tensors, config, ids, taps, off = {}, name, t, c, h = 0 }) {
  const get = layers(tensors);
  const { n_head: H, norm_eps: eps = 1e-5 } = config;
  const [, block, part] = name.match(/^blocks\.(\d+)(?:\.(.+))?$/) ?? [];
  const i = Number(block);
  const at = (key) => taps[key].data[t * taps[key].shape.at(-1) + c];
  const row = (key, r = t) => rowOf(taps[key].data, taps[key].shape.at(-1), r);
  const before = i ? `blocks.${i - 1}` : "embed"; // the stream that a block reads
  const total = (terms) => terms.reduce((all, [a, b]) => all + a * b, 0);

  const added = (terms) => ({ kind: "sum", terms, value: terms.reduce((all, [, v]) => all + v, 0) });
  const product = (input, layer, o = c, kind = "dot") => {
    const terms = dot(input, rowOf(layer.weight.data, input.length, o));
    const bias = layer.bias ? layer.bias.data[o] : 0;
    const sum = total(terms);
    return { kind, terms, bias, scale: 1, sum, value: kind === "gelu" ? geluTanh(sum + bias) : sum + bias };
  };
  const normed = (input, layer) => {
    const mean = input.reduce((a, b) => a + b, 0) / input.length;
    const size = Math.sqrt(input.reduce((a, b) => a + (b - mean) ** 2, 0) / input.length + eps);
    const [weight, bias] = [layer.weight.data[c], layer.bias ? layer.bias.data[c] : 0];
    return { kind: "norm", terms: [], x: input[c], mean, size, weight, bias, value: ((input[c] - mean) / size) * weight + bias };
  };

  if (name === "embed") {
    const of = (table, r) => rowOf(get(table).weight.data, get(table).weight.shape[1], r)[c];
    return added([["token", of("token_embedding", ids[t])], ["place", of("position_embedding", t)]]);
  }
  if (name === "norm") return normed(row(`blocks.${get.count("blocks") - 1}`), get("norm"));
  if (name === "head") return product(row("norm"), get.has("head") ? get("head") : get("token_embedding"));
  const here = `blocks.${i}`;
  const attention = `${here}.attention`;
  const C = taps[before].shape[1];
  const D = C / H;
  const headOf = (key, r) => row(`${attention}.${key}`, r).subarray(h * D, (h + 1) * D);
  const weights = () => rowOf(taps[`${attention}.weights`].data, ids.length, h * ids.length + t).subarray(0, t + 1);
  switch (part) {
    case "norm1":
      return normed(row(before), get(`${here}.norm1`));
    case "attention.q":
    case "attention.k":
    case "attention.v":
      return product(row(`${here}.norm1`), get(`${attention}.qkv`), "qkv".indexOf(part.at(-1)) * C + c);
    case "attention.scores": {
      const terms = dot(headOf("q", t), headOf("k", c));
      const sum = total(terms);
      return { kind: "dot", terms, bias: 0, scale: 1 / Math.sqrt(D), sum, value: sum / Math.sqrt(D) };
    }
    case "attention.weights": {
      const scores = rowOf(taps[`${attention}.scores`].data, ids.length, h * ids.length + t).subarray(0, t + 1);
      const terms = Array.from(scores, (s) => [Math.exp(s)]);
      const sum = terms.reduce((all, [e]) => all + e, 0);
      return { kind: "softmax", terms, sum, value: c > t ? 0 : terms[c][0] / sum };
    }
    case "attention.heads": {
      const values = Array.from(weights(), (_, s) => headOf("v", s)[c]);
      const terms = dot(weights(), values);
      return { kind: "dot", terms, bias: 0, scale: 1, sum: total(terms), value: total(terms) };
    }
    case "attention":
      return product(row(`${attention}.y`), get(`${attention}.proj`));
    case "middle":
      return added([["stream", at(before)], ["attention", off.attentions?.includes(i) ? 0 : at(attention)]]);
    case "norm2":
      return normed(row(`${here}.middle`), get(`${here}.norm2`));
    case "mlp.hidden":
      return product(row(`${here}.norm2`), get(`${here}.mlp.fc`), c, "gelu");
    case "mlp":
      return product(rowOf(hidden({ tensors, taps, block: i }).data, get(`${here}.mlp.proj`).weight.shape[1], t), get(`${here}.mlp.proj`));
    case undefined:
      return added([["stream", at(`${here}.middle`)], ["MLP", off.mlps?.includes(i) ? 0 : at(`${here}.mlp`)]]);
    default:
      throw new Error(`There is no part ${name}.`);
  }
}
