import { h, KEYS } from "./dom.mjs";
import { button } from "./controls.mjs";

/**
 * "Show as table": every number of a picture as text, in a region that scrolls inside itself.
 * build() -> { caption, columns: [text], rows: [[name, ...text]] }, called when the table is opened or changes.
 */
export function tableView({ label, build }) {
  const region = h("div", { class: "lf-scroll", role: "region", "aria-label": label, tabindex: 0, hidden: true, ...KEYS });
  const open = button("Show as table", () => toggle(region.hidden), { "aria-expanded": "false" });
  const toggle = (shown) => {
    region.hidden = !shown;
    open.setAttribute("aria-expanded", shown);
    open.textContent = shown ? "Hide table" : "Show as table";
    refresh();
  };
  function refresh() {
    if (region.hidden) return region.replaceChildren();
    const { caption, columns, rows } = build();
    const head = h("tr", {}, columns.map((text) => h("th", { scope: "col" }, text)));
    const body = rows.map(([name, ...cells]) =>
      h("tr", {}, h("th", { scope: "row" }, name), cells.map((text) => h("td", {}, text))),
    );
    region.replaceChildren(
      h("p", {}, caption),
      h("table", { class: "lf-table", "aria-label": caption }, h("thead", {}, head), h("tbody", {}, body)),
    );
  }
  return { region, button: open, refresh };
}
