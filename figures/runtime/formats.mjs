// Chapter 14: number formats as precision.py has them, what becomes of gradients in one, and weights that stand still.
// Floating-point numbers of sign, E bits of exponent and M of mantissa; the arithmetic is float64, which holds them all.

const format = (E, M, infinite = true) => {
  const bias = 2 ** (E - 1) - 1;
  const eps = 2 ** -M; // the gap between 1 and the next number
  const smallestNormal = 2 ** (1 - bias);
  const largest = (2 - eps * (infinite ? 1 : 2)) * 2 ** (2 ** E - (infinite ? 2 : 1) - bias);
  return { E, M, infinite, bias, eps, smallestNormal, smallest: smallestNormal * eps, largest };
};

/** Without infinity, as in e4m3, the highest exponent holds numbers too, and only the code of all ones is a NaN. */
export const FORMATS = {
  fp32: format(8, 23),
  bf16: format(8, 7),
  fp16: format(5, 10),
  fp8_e4m3: format(4, 3, false),
  fp8_e5m2: format(5, 2),
};

/** The number that a bit pattern stands for. */
export function decode(code, { E, M, bias, infinite }) {
  const sign = Math.floor(code / 2 ** (E + M)) ? -1 : 1;
  const exponent = Math.floor(code / 2 ** M) % 2 ** E;
  const mantissa = code % 2 ** M;
  if (exponent === 2 ** E - 1) {
    if (infinite) return mantissa ? NaN : sign * Infinity;
    if (mantissa === 2 ** M - 1) return NaN;
  }
  // Exponent 0 has no leading 1, which fills the gap around 0 (subnormals).
  return exponent ? sign * (1 + mantissa / 2 ** M) * 2 ** (exponent - bias) : sign * mantissa * 2 ** (1 - bias - M);
}

const words = new Uint32Array(2);
const wide = new Float64Array(words.buffer);
/** e with 2^e <= |x| < 2^(e + 1), for a finite x that is no subnormal of float64. */
function exponentOf(x) {
  wide[0] = x;
  return ((words[1] >>> 20) & 0x7ff) - 1023;
}
const MAGIC = 1.5 * 2 ** 52; // added and taken away, it leaves a whole number, ties to even

/** The nearest number of a format, ties to even. Beyond the largest it is infinity, or NaN where there is none. */
export function roundTo(x, { M, bias, infinite, largest }) {
  if (!Number.isFinite(x) || x === 0) return infinite || x === 0 ? x : NaN;
  const gap = 2 ** (Math.max(exponentOf(x), 1 - bias) - M); // below the smallest normal number it stays the same
  const y = (Math.abs(x) / gap + MAGIC - MAGIC) * gap;
  if (y > largest) return infinite ? Math.sign(x) * Infinity : NaN;
  return x < 0 ? -y : y;
}

/** What a format makes of x > 0: "zero", "coarse" (a subnormal: some bits are lost), "kept" or "overflow". */
export function fate(x, format) {
  const y = roundTo(x, format);
  if (y === 0) return "zero";
  if (!Number.isFinite(y)) return "overflow";
  return y < format.smallestNormal ? "coarse" : "kept";
}

export const BINS = 16; // of a histogram, in each octave

/** The middle of bin i of a histogram whose first bin begins at 2^low. */
export const middle = (i, low) => 2 ** (low + Math.floor(i / BINS)) * (1 + ((i % BINS) + 0.5) / BINS);

/** How many of a histogram's gradients, times 2^scale, meet each fate. `top` is the largest of them. */
export function fates({ counts, low, top }, scale, format) {
  const total = { zero: 0, coarse: 0, kept: 0, overflow: 0 };
  counts.forEach((n, i) => n && (total[fate(middle(i, low) * 2 ** scale, format)] += n));
  // A bin may lie on both sides of the limit; the largest gradient is known exactly.
  if (!total.overflow && fate(top * 2 ** scale, format) === "overflow") {
    total.overflow = 1;
    total.kept -= 1;
  }
  return total;
}

/** The positive numbers of a format in [from, to], ascending; undefined if they are more than `most`. */
export function numbersIn(from, to, format, most) {
  const found = [];
  const { M, bias, largest, smallest } = format;
  let x = Math.max(roundTo(from, format), smallest);
  while (x <= Math.min(to, largest)) {
    if (found.length === most) return undefined;
    if (x >= from) found.push(x);
    x += 2 ** (Math.max(exponentOf(x), 1 - bias) - M);
  }
  return found;
}

/** A weight to which `update` is added n times: (n + 1) values. With `master` the sum is kept in fp32, and rounded for use. */
export function accumulate({ start, update, n, format, master }) {
  const held = master ? FORMATS.fp32 : format;
  let weight = roundTo(start, held);
  return Array.from({ length: n + 1 }, (_, i) => {
    if (i) weight = roundTo(weight + roundTo(update, held), held);
    return roundTo(weight, format);
  });
}

/** Of updates that are not 0, the share that leaves a weight of this format as it was. Both are bit patterns of fp32. */
export function unchanged(weights, updates, format) {
  const [w, u] = [weights, updates].map((bits) => new Float32Array(Int32Array.from(bits).buffer));
  let [still, all] = [0, 0];
  u.forEach((step, i) => {
    if (step === 0) return;
    const weight = roundTo(w[i], format);
    all += 1;
    still += roundTo(weight + step, format) === weight;
  });
  return all ? still / all : 0;
}
