// What a figure and its host agree on. The host is the book's own script, JupyterLab, VS Code, Colab or MyST:
// each gives render({ model, el }). Hosts differ, and some throw where others work; this file hides it.
import { readSafetensors } from "../runtime/safetensors.mjs";
import { announcer } from "./announce.mjs";
import { button } from "./controls.mjs";
import { h } from "./dom.mjs";
import sheet from "./kit.css";
import { followTheme } from "./theme.mjs";

const attempt = (f) => {
  try {
    return f();
  } catch {
    return undefined; // this host has no such thing
  }
};

/**
 * Draw a figure.
 *
 * defaults(props) -> the state it opens in. clean(state, props) -> the nearest state that exists.
 * build({ props, tensors, state, update, say }) -> { controls, picture, readout, more, notes, draw, resize, stop }:
 * nodes for the places of the figure's anatomy, draw(state, theme), and optionally resize(width), stop().
 * The host's "state" (a dict) is the figure's state: Python may set it, and sees it change.
 */
export function live({ model, el }, { defaults, clean, build }) {
  const props = model.get("props");
  const said = announcer();
  const body = h("div", { class: "lf-body" }, h("p", { class: "lf-readout" }, props.alt));
  const root = h("figure", { class: "lf" }, h("style", {}, sheet), h("figcaption", { class: "lf-title" }, props.title), body, said.node);
  const read = () => clean({ ...defaults(props), ...model.get("state") }, props);
  let state = read();
  let view;
  let gone = false;

  const draw = () => view?.draw(state, root.dataset.theme);
  const update = (patch) => {
    const before = JSON.stringify(state);
    state = clean({ ...state, ...patch }, props);
    draw();
    if (JSON.stringify(state) === before) return;
    attempt(() => model.set("state", state));
    attempt(() => model.save_changes());
  };
  // Listeners come before the first wait, or an update from Python's next cell is lost.
  const heard = () => {
    const now = read();
    if (JSON.stringify(now) === JSON.stringify(state)) return;
    state = now;
    draw();
  };
  attempt(() => model.on("change:state", heard));

  const start = (bytes) => {
    if (gone) return;
    const tensors = readSafetensors(bytes);
    view = build({ props, tensors, state: () => state, update, say: said.say });
    const share = model.get("share");
    const copy = async () => {
      const url = share(state);
      const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
      said.say(copied ? "Link copied" : "The link is in the address bar");
      link.textContent = copied ? "Link copied" : "Link is in the address bar";
      setTimeout(() => (link.textContent = "Copy link"), 2000);
    };
    const link = share && button("Copy link", copy);
    const reset = button("Reset", () => {
      view.reset?.();
      update({ ...defaults(props), ...view.kept?.() });
      said.say("Reset");
    });
    body.replaceChildren(
      h("div", { class: "lf-controls" }, view.controls),
      view.picture,
      view.readout,
      ...(view.more ?? []),
      h("div", { class: "lf-actions" }, view.actions, reset, link),
      h("div", { class: "lf-notes" }, view.notes, foot(props)),
    );
    root.dataset.ready = "";
    new ResizeObserver(([entry], self) => {
      if (gone) return self.disconnect();
      root.toggleAttribute("data-wide", entry.contentRect.width >= 600);
      view.resize?.(entry.contentRect.width);
    }).observe(body);
    draw();
  };

  // JupyterLab's own shortcuts must not act on keys pressed in a figure.
  root.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
  el.append(root);
  const stopTheme = followTheme(root, draw);

  const given = model.get("tensors");
  if (given) start(given);
  else
    ask(model)
      .then(start)
      .catch((error) => body.append(h("p", { class: "lf-note" }, `This figure is not live here: ${error.message}`)));

  return () => {
    gone = true;
    stopTheme();
    said.stop();
    view?.stop?.();
    attempt(() => model.off("change:state", heard));
    root.remove();
  };
}

// The kernel keeps the numbers and sends them when asked, so that no notebook saves them.
function ask(model) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("Python did not answer. Run the cell again.")), 20_000);
    const heard = (content, buffers) => {
      if (content?.type !== "tensors" || !buffers?.length) return;
      clearTimeout(late);
      attempt(() => model.off("msg:custom", heard));
      const { buffer, byteOffset, byteLength } = buffers[0];
      resolve(buffer ? new Uint8Array(buffer, byteOffset, byteLength) : new Uint8Array(buffers[0]));
    };
    try {
      model.on("msg:custom", heard);
      model.send({ type: "tensors" });
    } catch {
      clearTimeout(late);
      reject(new Error("this page has no kernel."));
    }
  });
}

const foot = ({ code_href, card }) => [
  code_href && h("p", {}, h("a", { href: code_href }, "The code that made it")),
  card && h("p", { class: "lf-card" }, card),
];
