// Bundle every figure: figures/<name>.mjs -> src/babygpt_course/static/<name>.js, and the style sheet.
// The first line of each output names its sources and their hash, so that a test can see a stale bundle
// without Node. Run it with `make figures`.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = join(HERE, "../src/babygpt_course/static");
const SHEET = "kit/kit.css";
const text = (name) => readFileSync(join(HERE, name), "utf8").replaceAll("\r\n", "\n");

function write(name, sources, code) {
  const hash = createHash("sha256");
  for (const source of sources) hash.update(`${source}\0${text(source)}\0`);
  const stamp = `sha256 ${hash.digest("hex")} of ${sources.join(" ")}; made by make figures, edit those instead`;
  writeFileSync(join(OUT, name), `/* ${stamp} */\n${code}`);
  console.log(`${name.padEnd(20)} ${code.length} bytes, ${gzipSync(code).length} gzipped`);
}

const sheet = {
  name: "sheet",
  setup: (b) =>
    b.onLoad({ filter: /\.css$/ }, async ({ path }) => ({
      contents: (await transform(readFileSync(path, "utf8"), { loader: "css", minify: true })).code,
      loader: "text",
    })),
};

for (const file of readdirSync(HERE).filter((f) => f.endsWith(".mjs") && f !== "build.mjs")) {
  const made = await build({
    entryPoints: [join(HERE, file)],
    absWorkingDir: HERE,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    charset: "utf8",
    legalComments: "none",
    metafile: true,
    write: false,
    plugins: [sheet],
  });
  const sources = Object.keys(made.metafile.inputs).map((f) => f.replace(/^.*?:/, "")).sort();
  write(file.replace(/\.mjs$/, ".js"), ["build.mjs", ...sources.map((f) => relative(HERE, join(HERE, f)))], made.outputFiles[0].text);
}
write("live-figure.css", ["build.mjs", SHEET], (await transform(text(SHEET), { loader: "css", minify: true })).code);
