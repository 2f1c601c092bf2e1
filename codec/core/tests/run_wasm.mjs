// Runs the canary in a WebAssembly machine; node is enough.
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
process.exit(instance.exports.nnb_canary());
