// The book's host for live figures. Each one is in the page as a picture with a table, readable without
// this script; here it becomes live. Everything comes from this site: the figure's module and its numbers
// lie beside this file.

class Model {
  #values;
  #listeners = {};
  constructor(values) {
    this.#values = values;
  }
  get(name) {
    return this.#values[name];
  }
  set(name, value) {
    this.#values[name] = value;
    this.#listeners[`change:${name}`]?.forEach((f) => f());
  }
  on(event, f) {
    (this.#listeners[event] ??= new Set()).add(f);
  }
  off(event, f) {
    this.#listeners[event]?.delete(f);
  }
  save_changes() {}
  send() {
    throw new Error("There is no Python behind a static page.");
  }
}

/** The figure's numbers: from the file beside this one that the page names, or from the page. */
async function numbers(place) {
  const file = place.querySelector("script[data-tensors-file]");
  if (!file) return Uint8Array.from(atob(place.querySelector("script[data-tensors]").textContent), (c) => c.charCodeAt(0));
  const answer = await fetch(new URL(JSON.parse(file.textContent), import.meta.url));
  if (!answer.ok) throw new Error(`its numbers could not be fetched (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

// "#live-bigram-1?step=100&view=counted" opens the page's first bigram figure in that state.
function stateInAddress(id) {
  const [name, query] = location.hash.slice(1).split("?");
  return name === id && query ? Object.fromEntries(new URLSearchParams(query)) : undefined;
}

async function hydrate(place, id) {
  const { figure, version } = place.dataset;
  const { default: module } = await import(new URL(`${figure}.js?v=${version}`, import.meta.url));
  const state = stateInAddress(id);
  const share = (now) => {
    history.replaceState(null, "", `#${id}?${new URLSearchParams(now)}`);
    return location.href;
  };
  const props = JSON.parse(place.querySelector("script[data-props]").textContent);
  const tensors = await numbers(place);
  const el = document.createElement("div");
  await module.render({ model: new Model({ props, tensors, state, share }), el });
  place.replaceChildren(el);
  place.id = id;
  if (state) place.scrollIntoView();
}

const seen = {};
for (const place of document.querySelectorAll("div.live-figure[data-figure]")) {
  const name = place.dataset.figure;
  seen[name] = (seen[name] ?? 0) + 1;
  hydrate(place, `live-${name}-${seen[name]}`).catch((error) => {
    console.warn(`The figure ${name} stays a picture:`, error);
    const note = document.createElement("p");
    note.textContent = "This figure is a still picture here: its live version could not start.";
    place.append(note);
  });
}
