// Rotary positions, as rotary_table and apply_rotary of llama.py: each pair of neighboring channels of a head is
// turned by an angle that grows with the position. Pair i of D / 2 turns by theta^(-2i / D) radians a position.
import { tensor } from "./nn.mjs";

/** The radians that pair i of a head of D channels turns a position. */
export const rate = (D, i, theta = 10000) => theta ** ((-2 * i) / D);

/** Cosine and sine of every angle, row by row: { cos, sin }, each length * D / 2 numbers. */
export function rotaryTable(D, length, theta = 10000) {
  if (D % 2) throw new Error(`A head of ${D} channels has no pairs.`);
  const half = D / 2;
  const angles = Float64Array.from({ length: length * half }, (_, n) => Math.floor(n / half) * rate(D, n % half, theta));
  return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) };
}

/**
 * x (T, H * D) -> the same shape: row t turned by the angles of position start + t, each head like every other.
 * table: what rotaryTable gave for this D and at least start + T positions.
 */
export function rotate(x, H, { cos, sin }, start = 0) {
  const [T, C] = x.shape;
  const half = C / H / 2;
  if (!Number.isInteger(half)) throw new Error(`${C} channels are not ${H} heads of whole pairs.`);
  if (start < 0 || (start + T) * half > cos.length) {
    throw new Error(`Positions ${start} to ${start + T - 1} are not all in a table of ${cos.length / half}.`);
  }
  const y = tensor([T, C]);
  for (let t = 0; t < T; t++) {
    for (let pair = 0; pair < C / 2; pair++) {
      const n = (start + t) * half + (pair % half); // every head is turned by the same angles
      const i = t * C + 2 * pair;
      const [a, b] = [x.data[i], x.data[i + 1]];
      y.data[i] = a * cos[n] - b * sin[n];
      y.data[i + 1] = a * sin[n] + b * cos[n];
    }
  }
  return y;
}
