import { h } from "./dom.mjs";

const NAMES = { " ": "space", "\n": "newline", "\t": "tab" };

/** A character in words where it could not be seen: "space", "newline". */
export const nameOf = (char) => NAMES[char] ?? char;

const SAID = {
  ".": "period", ",": "comma", "!": "exclamation mark", "?": "question mark", "'": "apostrophe", '"': "quotation mark",
  "-": "hyphen", ":": "colon", ";": "semicolon", "(": "left parenthesis", ")": "right parenthesis",
}; // prettier-ignore

/** A character for a sentence, and for a voice that skips punctuation and capitals. */
export const spoken = (char) => NAMES[char] ?? SAID[char] ?? (/[A-Z]/.test(char) ? `capital ${char}` : char);

/** A character in one letter's width: a space and a line break are drawn, so no font can lack them. */
export function glyph(char) {
  const path = { " ": "M2 9v4h10V9", "\n": "M12 3v6H3m3-3L3 9l3 3", "\t": "M2 8h10m-3-3 3 3-3 3" }[char];
  if (!path) return h("span", {}, char);
  const drawn = h("svg:path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": 1.6 });
  return h("svg:svg", { viewBox: "0 0 14 16", width: 12, height: 14, role: "img", "aria-label": nameOf(char) }, drawn);
}

/** A token of one or more characters, its spaces and line breaks drawn; one longer than `most` is cut. */
export function token(text, most = Infinity) {
  const chars = [...text];
  if (chars.length === 1) return glyph(text);
  const kept = chars.length > most ? [...chars.slice(0, most - 1), "…"] : chars;
  const runs = kept.join("").split(/([ \n\t])/).filter(Boolean);
  return h("span", {}, runs.map((run) => (run in NAMES ? glyph(run) : run)));
}

export const percent = (p) => {
  const v = 100 * p;
  return `${v >= 99.95 || v === 0 ? v.toFixed(0) : v < 0.1 ? (v < 0.01 ? "<0.01" : v.toFixed(2)) : v.toFixed(1)}\u00a0%`; // a line may not break before the sign
};

/** A change of probability in percentage points, with a true minus sign. */
export const points = (d) => {
  const v = Math.abs(100 * d);
  return v < 0.005 ? "0" : `${d < 0 ? "−" : "+"}${v < 0.1 ? v.toFixed(2) : v.toFixed(1)}`;
};

export const nats = (x) => x.toFixed(3);
export const count = (n) => n.toLocaleString("en-US");
