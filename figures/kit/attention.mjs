import { h } from "./dom.mjs";
import { heatmap } from "./heatmap.mjs";
import { tableView } from "./table.mjs";
import { spoken, token } from "./text.mjs";

/** A token for a sentence: one character by its name, more in quotation marks. */
export const inSentence = (text) => ([...text].length === 1 ? spoken(text) : `“${text}”`);

/**
 * An attention map: rows are the queries (who reads), columns the keys (what is read), shades 0..1 in cividis.
 * One tab stop; arrow keys or a click call onmove(t, s), which is expected to call cursor(t, s).
 * It returns node, table ({ button, region } for the figure's actions and more) and
 *   set({ reads, read, weights, may, theme }): tokens of the rows, of the columns (the same if left out), the
 *     (T, S) weights of one head as a flat array, may(t, s) = false where the mask hides the key (hatched);
 *   cursor(t, s), fit(width) in CSS pixels, words(t, s): the cell as a sentence.
 */
export function attentionMap({ label = "Attention", rows = "reads", columns = "is read", onmove }) {
  let now = { reads: [], read: [], weights: [], may: () => true };
  const map = heatmap({
    label: `${label}. Rows: the token that reads. Columns: the token that is read. Arrow keys move.`,
    rows,
    columns,
    even: true,
    least: 20,
    most: 40,
    onmove,
    onhover: (t, s) => (cell.textContent = words(t, s)),
  });
  const cell = h("p", { class: "lf-cell" });
  map.node.append(cell);

  const weight = (t, s) => now.weights[t * now.read.length + s];
  const put = (t, s) => (now.may(t, s) ? weight(t, s).toFixed(3) : "hidden");
  const name = (tokens, i) => `${inSentence(tokens[i])} at ${i + 1}`;
  const words = (t, s) => {
    const may = now.may(t, s);
    return `${name(now.reads, t)} ${may ? "reads" : "may not read"} ${name(now.read, s)}${may ? `: weight ${put(t, s)}` : ""}`;
  };
  const numbered = (tokens) => tokens.map((text, i) => `${i + 1} ${inSentence(text)}`);
  const table = tableView({
    label: `${label} in numbers`,
    build: () => ({
      caption: `${label}: weights; each row sums to 1. Row: the token that reads; column: the token that is read.`,
      columns: ["reads", ...numbered(now.read)],
      rows: numbered(now.reads).map((text, t) => [text, ...now.read.map((_, s) => put(t, s))]),
    }),
  });

  let shown = "";
  return {
    node: map.node,
    table,
    words,
    fit: map.fit,
    set({ reads, read = reads, weights, may = () => true, theme }) {
      now = { reads, read, weights, may };
      const names = JSON.stringify([reads, read]);
      if (names !== shown) map.names(reads.map((text) => token(text, 10)), read.map((text) => token(text, 10)));
      shown = names;
      map.draw(Float32Array.from(weights, (w, i) => (may(Math.floor(i / read.length), i % read.length) ? w : NaN)), { theme });
      table.refresh();
    },
    cursor(t, s) {
      map.cursor(t, s);
      cell.textContent = words(t, s);
    },
  };
}
