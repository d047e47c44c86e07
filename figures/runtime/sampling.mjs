// What may be drawn next, as generate.filter_logits says it: the temperature on the full vocabulary first, then
// the k likeliest, then the fewest that hold the share p of what is left, then all again to a sum of 1.
import { ranked, sample } from "./ops.mjs";
import { rng } from "./rng.mjs";

const sum = (values) => values.reduce((a, b) => a + b, 0);

/** The entropy of a distribution, bits. */
export const entropy = (probs) => -sum(Array.from(probs, (p) => (p > 0 ? p * Math.log2(p) : 0)));

/**
 * logits (V) -> {
 *   order  ids from the likeliest on
 *   full   (V) probabilities of the whole vocabulary at this temperature
 *   byK    how many the cut by k keeps (the k-th one's equals too), byP how many both cuts keep
 *   probs  (V) what is drawn from: 0 where cut, the rest sums to 1
 *   mass   the share of `full` that was kept
 * }. temperature 0: all on the likeliest id. k null: no cut by k; p null or 1: no cut by p.
 */
export function filtered(logits, { temperature = 1, k = null, p = null }) {
  const V = logits.length;
  const order = ranked(logits);
  const one = (at) => Float64Array.from({ length: V }, (_, i) => Number(i === at));
  if (temperature === 0) return { order, full: one(order[0]), byK: 1, byP: 1, probs: one(order[0]), mass: 1 };
  const top = logits[order[0]];
  const weights = Float64Array.from(logits, (x) => Math.exp((x - top) / temperature));
  const total = sum(weights);
  const full = weights.map((w) => w / total);
  const least = k === null ? -Infinity : logits[order[Math.min(k, V) - 1]];
  const byK = order.filter((i) => logits[i] >= least).length;
  const left = sum(order.slice(0, byK).map((i) => full[i]));
  let byP = byK;
  if (p !== null && p < 1) {
    let before = 0; // the mass of all likelier ids, of what the cut by k left
    for (byP = 0; byP < byK && before < p; byP++) before += full[order[byP]] / left;
  }
  const kept = order.slice(0, byP);
  const mass = sum(kept.map((i) => full[i]));
  const probs = new Float64Array(V);
  for (const i of kept) probs[i] = full[i] / mass;
  return { order, full, byK, byP, probs, mass };
}

/** n ids after a context that was read: model is a reader() of gpt_cache.mjs, logits those after the context. */
export function continuation({ model, cache, logits, n, seed, ...settings }) {
  const random = rng(seed);
  const own = model.copy(cache);
  const made = [];
  while (made.length < n) {
    const id = sample(filtered(logits, settings).probs, random());
    made.push(id);
    if (made.length < n) logits = model.read(own, id);
  }
  return made;
}
