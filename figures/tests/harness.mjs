// What the tests of the runtime share. tests/test_figures.py writes the golden values, one file a module, and
// names their folder in GOLDEN; RUNTIME may name another folder to test (the planted faults do).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { GOLDEN, RUNTIME } = process.env;
if (!GOLDEN) throw new Error("No golden values. Run: pytest tests/test_figures.py");
const folder = RUNTIME ? pathToFileURL(`${RUNTIME}/`) : new URL("../runtime/", import.meta.url);

/** A module of the runtime under test. */
export const load = (name) => import(new URL(`${name}.mjs`, folder));
const { readSafetensors } = await load("safetensors");

/** What tests/figures/<name>.py's golden() returned: tensors are { shape, data }, weights as the page gets them. */
export const golden = (name) => JSON.parse(readFileSync(join(GOLDEN, `${name}.json`), "utf8"), revive);
const revive = (_, value) => {
  if (value?.safetensors) return readSafetensors(Uint8Array.from(Buffer.from(value.safetensors, "base64")));
  return value?.shape && value.data ? { shape: value.shape, data: Float64Array.from(value.data) } : value;
};

/** |mine - torch| <= 1e-4 * max(1, largest |torch|), number by number. */
export function near(mine, theirs, what) {
  const bound = 1e-4 * Math.max(1, theirs.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
  assert.equal(mine.length, theirs.length, `${what}: how many`);
  theirs.forEach((v, i) => assert.ok(Math.abs(mine[i] - v) <= bound, `${what}[${i}]: ${mine[i]}, torch ${v}`));
}

/** The same for tensors, whose shapes must agree too. */
export function nearTensor(mine, theirs, what) {
  assert.ok(mine, `${what}: there is none`);
  assert.deepEqual(mine.shape, theirs.shape, `${what}: shape`);
  near(mine.data, theirs.data, what);
}

/** A tap that keeps what it is given, and near(taps): every golden tap is there and agrees. */
export function tapping() {
  const seen = {};
  const tap = (name, x) => (seen[name] = x);
  tap.seen = seen;
  tap.near = (taps, what) => Object.entries(taps).forEach(([name, x]) => nearTensor(seen[name], x, `${what}, ${name}`));
  return tap;
}

/** Every row of the last index sums to 1 (or to 0 where nothing may be read). */
export function sumsToOne({ shape, data }, what) {
  const n = shape.at(-1);
  for (let i = 0; i < data.length / n; i++) {
    const total = data.subarray(i * n, (i + 1) * n).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(total - 1) < 1e-5 || total === 0, `${what}, row ${i} sums to ${total}`);
  }
}
