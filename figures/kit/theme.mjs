// The theme of the page around a figure, and the colors of its pictures.
// One attribute on the figure's root carries it: data-theme="light" or "dark".

const PAPER = { light: [255, 255, 255], dark: [20, 23, 26] };
const BLUE = { light: [31, 111, 209], dark: [76, 148, 255] };
const ORANGE = { light: [200, 78, 0], dark: [255, 123, 43] };
// matplotlib's cividis at nine even steps.
const CIVIDIS = [
  [0, 34, 78], [33, 59, 110], [76, 85, 108], [108, 110, 114], [125, 124, 120],
  [152, 146, 116], [186, 174, 101], [222, 204, 77], [254, 232, 56],
]; // prettier-ignore

const mix = (a, b, t) => a.map((v, i) => v + (b[i] - v) * t);

/** 0..1 to a color: cividis, dark to light. On dark pages zero sinks into the paper. */
export function probability(t, theme) {
  const x = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(x), CIVIDIS.length - 2);
  const color = mix(CIVIDIS[i], CIVIDIS[i + 1], x - i);
  return theme === "dark" ? mix(mix(PAPER.dark, [0, 34, 78], 0.5), color, Math.min(1, 8 * t)) : color;
}

/** -1..1 to a color: orange below zero, blue above, the paper's own color at zero. */
export const signed = (t, theme) => mix(PAPER[theme], (t < 0 ? ORANGE : BLUE)[theme], Math.min(Math.abs(t), 1));

/** Is the page around this element dark? Sphinx, MyST, Colab, JupyterLab and VS Code each say it their way. */
export function pageIsDark() {
  const { documentElement: html, body } = document;
  if (matchMedia("print").matches) return false;
  const said = html.dataset.theme ?? html.getAttribute("theme");
  if (said) return said === "dark";
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.dataset.vscodeThemeKind) return /dark|high-contrast$/.test(body.dataset.vscodeThemeKind);
  return html.classList.contains("dark") || body.classList.contains("vscode-dark");
}

/** Keep root's data-theme in step with the page; `changed` is called after each change. Returns a stop function. */
export function followTheme(root, changed) {
  const look = () => {
    const theme = pageIsDark() ? "dark" : "light";
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    changed(theme);
  };
  const observer = new MutationObserver(look);
  observer.observe(document.documentElement, { attributes: true });
  observer.observe(document.body, { attributes: true });
  const print = matchMedia("print");
  print.addEventListener("change", look);
  look();
  return () => {
    observer.disconnect();
    print.removeEventListener("change", look);
  };
}
