import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import express, { type Router } from "express";

const require = createRequire(import.meta.url);
/** The folder of an installed package. */
const folderOf = (name: string): string => dirname(require.resolve(`${name}/package.json`));

/** The demo page at `/`, and the modules it imports: all from this machine, none from another host. */
export function dashboardRoutes(): Router {
  const client = folderOf("@agentwire/client");
  const files = (folder: string) => express.static(folder, { index: false, redirect: false });
  return express
    .Router()
    .get("/", (_req, res) => {
      res.sendFile(join(client, "dashboard", "index.html"));
    })
    .use("/assets/dashboard", files(join(client, "dashboard")))
    .use("/assets/client", files(join(client, "dist")))
    .use("/assets/shared", files(join(folderOf("@agentwire/shared"), "dist")))
    .get("/assets/socket.io-client.js", (_req, res) => {
      res.sendFile(join(folderOf("socket.io-client"), "dist", "socket.io.esm.min.js"));
    });
}
