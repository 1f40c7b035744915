/** Puts the modules of the client into dist/; `npm pack` and `npm publish` run it first. */

import { cp, readdir, rm } from "node:fs/promises";

const web = new URL("../../chat_server/web/", import.meta.url);
const dist = new URL("dist/", import.meta.url);

await rm(dist, { recursive: true, force: true });
for (const name of await readdir(web)) {
  // The module of types has nothing that runs.
  if (/^client.*\.js$/.test(name) && name !== "client-types.js") {
    await cp(new URL(name, web), new URL(name, dist));
  }
}
