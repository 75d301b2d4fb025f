import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type Refusal, refusal } from "@agentwire/shared";
import type { Server as Engine } from "engine.io";
import express, { type ErrorRequestHandler, type Router } from "express";
import type { Logger } from "pino";
import { adminPage } from "./page.js";

const ENGINE_PATH = "/socket.io/";

export interface AdminListenerOptions {
  host: string;
  port: number;
  /** Whether another port is not what was asked for; otherwise a free one is taken where this one is in use. */
  exact: boolean;
  /** Without one there is no admin UI. */
  engine: Engine | undefined;
  routes: Router[];
  allows(headers: IncomingHttpHeaders): boolean;
  refuse(res: ServerResponse, refusal: Refusal): void;
  refuseUpgrade(socket: Duplex, refusal: Refusal): void;
  logger: Logger;
}

export interface AdminListener {
  port: number;
  /** Ends every connection, without a wait for the other side. */
  close(): void;
}

/**
 * The operators' door: a listener of its own.
 * @throws Error with one line when it cannot listen
 */
export async function openAdminListener(options: AdminListenerOptions): Promise<AdminListener> {
  const { host, engine, refuse, refuseUpgrade, logger } = options;
  const notFound = refusal("NOT_FOUND");
  const noUi = refusal("NOT_FOUND", "ADMIN_USERNAME and ADMIN_PASSWORD are not set: there is no admin UI");
  const onError: ErrorRequestHandler = (error, _req, res, _next) => {
    const status: unknown = error?.status;
    const theirs = typeof status === "number" && status < 500;
    if (!theirs) logger.error({ err: error }, "request of an operator failed");
    if (res.headersSent) res.destroy();
    else refuse(res, refusal(theirs ? "BAD_REQUEST" : "INTERNAL"));
  };
  const app = express().disable("x-powered-by");
  for (const router of options.routes) app.use(router);
  if (engine) app.use(adminPage());
  else app.use("/admin", (_req, res) => refuse(res, noUi));
  app.use((_req, res) => refuse(res, notFound)).use(onError);

  const http = createServer();
  const isEngines = (url = "/") =>
    engine && URL.canParse(url, "http://node") && new URL(url, "http://node").pathname === ENGINE_PATH;
  http.on("request", (req, res) => {
    if (!engine || !isEngines(req.url)) return app(req, res);
    // A page of another origin could try passwords from an operator's own machine.
    if (!options.allows(req.headers)) return refuse(res, refusal("ORIGIN_FORBIDDEN"));
    engine.handleRequest(req as Parameters<Engine["handleRequest"]>[0], res);
  });
  http.on("upgrade", (req, socket, head) => {
    socket.on("error", (error) => logger.debug({ err: error.message }, "upgrade socket error"));
    if (!engine || !isEngines(req.url)) return refuseUpgrade(socket, notFound);
    if (!options.allows(req.headers)) return refuseUpgrade(socket, refusal("ORIGIN_FORBIDDEN"));
    engine.handleUpgrade(req as Parameters<Engine["handleUpgrade"]>[0], socket, head);
  });

  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      http.once("error", reject).listen(port, host, () => {
        http.off("error", reject);
        resolve();
      });
    });
  await listen(options.port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE" || options.exact)
      throw new Error(`ADMIN_PORT: cannot listen on ${host}:${options.port}: ${error.code}`);
    logger.warn(
      { admin_port: options.port },
      "ADMIN_PORT is not set and its default is in use, taking a free port",
    );
    return listen(0);
  });

  return {
    port: (http.address() as AddressInfo).port,
    close() {
      http.close();
      engine?.close();
      http.closeAllConnections();
    },
  };
}
