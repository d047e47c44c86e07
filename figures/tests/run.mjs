// Every test, or those of the modules named on the command line, in one process: a process a file would take
// most of the time to start.
import { readdirSync } from "node:fs";

const here = new URL(".", import.meta.url);
const names = readdirSync(here).filter((f) => f.endsWith(".test.mjs")).map((f) => f.replace(".test.mjs", ""));
for (const name of process.argv.length > 2 ? process.argv.slice(2) : names.sort()) await import(new URL(`${name}.test.mjs`, here));
