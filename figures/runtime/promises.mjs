// Chapter 09: whether a tale keeps its promises, by simple rules on the text. As live/babygpt.py's promises().

const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Which of the words stand in a text, in order. None begins with another and a space. */
export function mentions(words, text, flags = "g") {
  return [...text.matchAll(new RegExp(`\\b(?:${[...words].map(escaped).join("|")})\\b`, flags))].map((m) => m[0]);
}

/**
 * text, as far as it is written; ended: nothing more comes -> [{ kind: "name" | "wish" | "count", state, said }],
 * state: "none" (no such promise yet), "open", "kept" or "broken". rules: those of live/babygpt.py.
 */
export function promises(text, ended, { children, toys, items, numbers, aside, unsure }) {
  text = text.replace(new RegExp(aside, "g"), (m) => "#".repeat(m.length));
  const judged = ended ? "kept" : "open";
  const once = (list) => list.indexOf(list.at(-1)) === list.length - 1;
  const distinct = (list) => [...new Set(list)];

  const named = mentions(children, text);
  let name = named.length ? judged : "none";
  if (ended && named.length && once(named)) name = "broken";

  const toyNames = Object.keys(toys);
  const wished = mentions(toyNames, text);
  let wish = wished.length > 1 ? judged : "none";
  if (ended && distinct(wished).length > 1 && once(wished)) wish = "broken";
  for (const [toy, fun] of Object.entries(toys)) {
    const before = mentions(toyNames, text.slice(0, Math.max(text.indexOf(fun), 0)));
    if (before.length && before.at(-1) !== toy) wish = "broken";
  }

  if (!ended) text = text.replace(new RegExp(unsure, "i"), "");
  const said = mentions(numbers, text, "gi").map((n) => n.toLowerCase());
  const values = said.map((n) => numbers.indexOf(n) + 1);
  const coins = mentions(["coins"], text).length > 0; // three numbers, the largest is the sum
  const counts = coins || mentions(items, text).length > 0; // two, and their sum later
  let count = counts && said.length > 2 ? judged : "none";
  if (count !== "none") {
    const parts = coins ? values.slice(0, 3).sort((a, b) => a - b).slice(0, 2) : values.slice(0, 2);
    const sum = parts[0] + parts[1];
    const total = coins ? Math.max(...values.slice(0, 3)) : sum;
    const stray = values.some((n) => ![...parts, total].includes(n));
    if (sum !== total || stray || (ended && values.at(-1) !== total)) count = "broken";
  }
  return [
    { kind: "name", state: name, said: distinct(named) },
    { kind: "wish", state: wish, said: distinct(wished) },
    { kind: "count", state: count, said: counts ? distinct(said) : [] },
  ];
}
