#!/usr/bin/env bash
# MessagePack in JavaScript: five libraries disagree on whole numbers above 32 bits and on a key that
# is named __proto__, both of which are valid.
#
# Expected: the number 2 ** 32 is written as an integer and read as a Number, as it is exact in both;
# {"__proto__": 1} is read as an object with that one key, as JSON.parse reads it.
# Observed: the table that this prints.
# It matters to who talks to a server in another language: a decoder that expects an integer refuses
# a float, a BigInt fails in arithmetic with Numbers and in JSON.stringify, and a key is lost.
# Exits with 1 when that changes.
set -euo pipefail
command -v npm >/dev/null || { echo "npm is missing"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund msgpackr@2.1.4 @msgpack/msgpack@3.1.3 msgpack-lite@0.2.2 \
  notepack.io@3.0.1 msgpack5@6.1.0
cat >compare.cjs <<'JAVASCRIPT'
const msgpack5 = require("msgpack5")();
const libraries = {
  "msgpackr": [require("msgpackr").pack, require("msgpackr").unpack],
  "@msgpack/msgpack": [require("@msgpack/msgpack").encode, require("@msgpack/msgpack").decode],
  "msgpack-lite": [require("msgpack-lite").encode, require("msgpack-lite").decode],
  "notepack.io": [require("notepack.io").encode, require("notepack.io").decode],
  "msgpack5": [(value) => msgpack5.encode(value).slice(), msgpack5.decode],
};
const number = Buffer.from("cf0000000100000000", "hex"); // uint64, 2 ** 32
const proto = Buffer.concat([Buffer.from([0x81, 0xa9]), Buffer.from("__proto__"), Buffer.from([1])]);
const formats = { 0xcb: "float64", 0xcf: "uint64", 0xd3: "int64" };
const keys = (decode) => {
  try {
    return JSON.stringify(Object.keys(decode(proto)));
  } catch (error) {
    return error.constructor.name;
  }
};
const expected = {
  "msgpackr": ["float64", "bigint", '["__proto_"]'],
  "@msgpack/msgpack": ["uint64", "number", "DecodeError"],
  "msgpack-lite": ["float64", "number", "[]"],
  "notepack.io": ["uint64", "number", "[]"],
  "msgpack5": ["uint64", "number", "SyntaxError"],
};
const observed = {};
for (const [name, [encode, decode]] of Object.entries(libraries)) {
  observed[name] = [formats[encode(2 ** 32)[0]], typeof decode(number), keys(decode)];
}
console.log("library: 2 ** 32 is written as, uint64 is read as, keys of {__proto__: 1} or the error");
for (const [name, row] of Object.entries(observed)) {
  console.log(`${name} ${require(`./node_modules/${name}/package.json`).version}: ${row.join(", ")}`);
}
process.exit(JSON.stringify(observed) === JSON.stringify(expected) ? 0 : 1);
JAVASCRIPT
node compare.cjs
