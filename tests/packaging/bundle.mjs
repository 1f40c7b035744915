// Bundles talk.js with the bundler that the first argument names, into the folder of that name.

import { resolve } from "node:path";

const [name] = process.argv.slice(2);
const entry = resolve("talk.js");
const folder = resolve(name);

async function pack(bundler) {
  const output = { path: folder, filename: "talk.mjs", module: true, chunkFormat: "module" };
  const options = { mode: "production", target: ["web", "es2022"], entry, output, experiments: { outputModule: true } };
  const stats = await new Promise((done, fail) => bundler(options, (error, found) => (error ? fail(error) : done(found))));
  if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString());
}

const bundlers = {
  async vite() {
    const { build } = await import("vite");
    const lib = { entry, formats: ["es"], fileName: () => "talk.mjs" };
    await build({ configFile: false, logLevel: "error", build: { lib, outDir: folder, minify: true } });
  },
  async rollup() {
    const { rollup } = await import("rollup");
    const { nodeResolve } = await import("@rollup/plugin-node-resolve");
    const onwarn = (warning) => {
      throw new Error(warning.message);
    };
    const bundle = await rollup({ input: entry, plugins: [nodeResolve({ browser: true })], onwarn });
    await bundle.write({ file: resolve(folder, "talk.mjs"), format: "es" });
  },
  webpack: async () => pack((await import("webpack")).default),
  rspack: async () => pack((await import("@rspack/core")).rspack),
  async parcel() {
    const { Parcel } = await import("@parcel/core");
    const targets = { talk: { distDir: folder, distEntry: "talk.mjs", outputFormat: "esmodule", isLibrary: true, includeNodeModules: true } };
    const options = { entries: entry, defaultConfig: "@parcel/config-default", targets, shouldDisableCache: true };
    await new Parcel({ ...options, mode: "production", defaultTargetOptions: { shouldOptimize: false } }).run();
  },
};

await bundlers[name]();
