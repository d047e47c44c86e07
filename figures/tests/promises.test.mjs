// The promises of a tale, as Python judges them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, load } from "./harness.mjs";

const { promises } = await load("promises");
const { rules, cases } = golden("promises");

test("agrees with Python on every text", () => {
  for (const { text, ended, found } of cases) assert.deepEqual(promises(text, ended, rules), found, `${ended ? "" : "half of "}${text}`);
});

test("the beginning of a tale breaks nothing that the tale keeps", () => {
  const whole = cases.filter(({ ended, found }) => ended && found.every((p) => p.state !== "broken"));
  assert.ok(whole.length > 40);
  for (const { text } of whole) for (let n = 0; n < text.length; n += 1) for (const p of promises(text.slice(0, n), false, rules)) assert.notEqual(p.state, "broken", text.slice(0, n));
});
