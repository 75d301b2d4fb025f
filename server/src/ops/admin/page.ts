import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import express, { type Router } from "express";

const PACKAGE = dirname(createRequire(import.meta.url).resolve("@socket.io/admin-ui/package.json"));
const INSTALLED = join(PACKAGE, "ui", "dist");
const OWN = fileURLToPath(new URL("../../../src/ops/admin/page", import.meta.url));

const HEADERS = {
  "Content-Security-Policy": [
    "default-src 'self'",
    // Its components set their colours in a style element.
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
  "X-Frame-Options": "DENY",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
};

/** The installed page without its fonts and icons from other hosts; our icons and the form's first value instead. */
function pageWithoutOtherHosts(): string {
  return readFileSync(join(INSTALLED, "index.html"), "utf8")
    .replaceAll(/<link\b[^>]*\bhref="(?:https?:)?\/\/[^>]*>/g, "")
    .replace("</head>", '<link rel="stylesheet" href="icons.css"></head>')
    .replace("</body>", '<script src="own-address.js"></script></body>');
}

/** The Socket.IO admin UI at `/admin/`: all from this machine, none from another host. */
export function adminPage(): Router {
  const page = pageWithoutOtherHosts();
  const files = (folder: string) =>
    express.static(folder, { index: false, redirect: false, cacheControl: false, dotfiles: "ignore" });
  const inside = express
    .Router()
    .use((_req, res, next) => {
      res.set(HEADERS);
      next();
    })
    .get("/", (req, res) => {
      // Its files stand beside it.
      if (req.originalUrl.startsWith("/admin/")) res.type("html").send(page);
      else res.redirect("/admin/");
    })
    .use(files(OWN), files(INSTALLED));
  return express.Router({ caseSensitive: true }).use("/admin", inside);
}
