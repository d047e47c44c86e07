const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; "svg:line" makes SVG, "onclick" listens, false and null are left out. */
export function h(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

/** An id that no other figure on the page has, even where each figure loads its own copy of this file. */
export const uid = () => `lf-${Math.random().toString(36).slice(2, 10)}`;

// JupyterLab takes the arrow keys from focused inputs in outputs, unless the input itself says no.
export const KEYS = { "data-lm-suppress-shortcuts": "true" };
