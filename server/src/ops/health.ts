import express, { type Router } from "express";

/** `/healthz`: the process answers. `/readyz`: viewers are welcome; 503 with the reason otherwise. */
export function healthRoutes(state: () => string): Router {
  return express
    .Router()
    .get("/healthz", (_req, res) => {
      res.json({ status: "ok" });
    })
    .get("/readyz", (_req, res) => {
      const name = state();
      res.status(name === "ready" ? 200 : 503).json({ status: name });
    });
}
