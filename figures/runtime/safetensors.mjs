// The safetensors file: 8 bytes with the header's length, a JSON header, then the numbers.
import { fromF16 } from "./f16.mjs";

const READ = {
  F16: (b) => Float32Array.from(new Uint16Array(b), fromF16),
  F32: (b) => new Float32Array(b),
  I32: (b) => new Int32Array(b),
};

/** Every tensor of a file: { name: { shape, data } }. */
export function readSafetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
      const read = READ[dtype];
      if (!read) throw new Error(`Tensor ${name} is ${dtype}; this reader knows ${Object.keys(READ)}.`);
      if (start + to > bytes.length) throw new Error(`Tensor ${name} ends after the file does.`);
      return [name, { shape, data: read(bytes.slice(start + from, start + to).buffer) }];
    }),
  );
}
