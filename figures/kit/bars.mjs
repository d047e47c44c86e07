import { h } from "./dom.mjs";
import { percent } from "./text.mjs";

/**
 * A real table whose second column is a picture: a filled bar (what was trained) and an upright mark
 * (what it should be). set(caption, rows, top): rows are [label, filled, marked], the bar's full width is `top`.
 */
export function bars({ filled, marked, label }) {
  const caption = h("caption", { tabindex: -1 });
  const body = h("tbody", {});
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, label),
    h("td", {}),
    h("th", { scope: "col" }, h("i", { class: "lf-key lf-key-fill" }), filled),
    h("th", { scope: "col" }, h("i", { class: "lf-key lf-key-mark" }), marked),
  );
  return {
    node: h("table", { class: "lf-table lf-bars" }, caption, h("thead", {}, head), body),
    caption,
    set(text, rows, top) {
      caption.replaceChildren(text);
      const place = (p) => `${Math.min(100, (100 * p) / top).toFixed(2)}%`;
      while (body.rows.length > rows.length) body.deleteRow(-1);
      rows.forEach(([name, a, b], i) => {
        body.rows[i] ?? body.append(line());
        const [th, picture, first, second] = body.rows[i].cells;
        th.textContent = name;
        const [bar, mark] = picture.firstChild.children;
        bar.style.width = place(a);
        mark.style.left = place(b);
        first.textContent = percent(a);
        second.textContent = percent(b);
      });
    },
  };
}

const line = () =>
  h(
    "tr",
    {},
    h("th", { scope: "row" }),
    h("td", { class: "lf-bar", "aria-hidden": "true" }, h("div", {}, h("i", { class: "lf-fill" }), h("i", { class: "lf-mark" }))),
    h("td", {}),
    h("td", {}),
  );
