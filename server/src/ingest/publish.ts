import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { AgentwireError, type ProgressReport, parseEvent, type Refusal, refusal } from "@agentwire/shared";
import { type Appended, parseStatusChange } from "@agentwire/shared/redis";
import express, { type ErrorRequestHandler, type RequestHandler, type Response, type Router } from "express";
import type { Logger } from "pino";
import { z } from "zod";
import { parseProgressReport } from "./progress-message.js";
import { parseTerminalReport, type TerminalReport } from "./terminal-report.js";

export const PUBLISH_PATH = "/api/v1/internal/ws/publish";

export interface PublishOptions {
  serviceKeys: string[];
  /** Answers with the refusal's status and body. */
  refuse(res: Response, refusal: Refusal): void;
  maxBytes: number;
  append(change: ReturnType<typeof parseStatusChange>): Promise<Appended>;
  /** Why Redis failed, where more is known than the error says. */
  reason(error: unknown): unknown;
  /** Says how far a task is. It stands in no log. */
  report(report: ProgressReport): Promise<void>;
  /** Says what a task wrote. It stands nowhere. */
  say(output: TerminalReport): Promise<void>;
  logger: Logger;
}

/** The ids stand beside the payload; in the payload they may be repeated, but not contradicted. */
const Body = z.object({
  event_type: z.enum(["AGENT_STATUS_CHANGED", "PROGRESS_UPDATE", "TERMINAL_OUTPUT"]),
  agent_id: z.unknown().optional(),
  project_id: z.unknown().optional(),
  task_id: z.unknown().optional(),
  event_id: z.unknown().optional(),
  payload: z.record(z.string(), z.unknown()),
});

/**
 * `POST /api/v1/internal/ws/publish`: one event from a service that has a key. 202 means: it is in the log; of progress
 * and output, that it is on its way.
 */
export function publishRoute({
  serviceKeys,
  refuse,
  maxBytes,
  append,
  reason,
  report,
  say,
  logger,
}: PublishOptions): Router {
  // Keys are compared by their digests: those are of one length, and take the same time whatever is wrong.
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const known = serviceKeys.map(digest);
  const authenticate: RequestHandler = (req, res, next) => {
    const key = req.get("X-Internal-Service-Key");
    if (!key) return refuse(res, refusal("UNAUTHORIZED", "X-Internal-Service-Key is missing"));
    const given = digest(key);
    if (!known.some((one) => timingSafeEqual(one, given))) {
      return refuse(res, refusal("FORBIDDEN", "X-Internal-Service-Key is not known"));
    }
    next();
  };

  const publish: RequestHandler = async (req, res) => {
    const { event_type, ...said } = eventOf(req.body);
    if (event_type === "PROGRESS_UPDATE" || event_type === "TERMINAL_OUTPUT") {
      if (event_type === "PROGRESS_UPDATE") await report(parseProgressReport(said));
      else await say(parseTerminalReport(said));
      const { event_id = randomUUID() } = said;
      res.status(202).json({ event_id, sequence_id: null, duplicate: false });
    } else res.status(202).json(await append(parseStatusChange(said)));
  };

  const onError: ErrorRequestHandler = (error, req, res, _next) => {
    if (error instanceof AgentwireError) return refuse(res, refusal(error.code, error.message));
    if (error?.type === "entity.too.large") return refuse(res, refusal("PAYLOAD_TOO_LARGE"));
    if (error?.status >= 400 && error?.status < 500) {
      return refuse(res, refusal("BAD_REQUEST", "the body is not valid JSON"));
    }
    const cause = reason(error);
    const message = cause instanceof Error ? cause.message : String(cause);
    logger.warn({ err: message, service: req.get("X-Service-Name") }, "publish failed");
    refuse(res, refusal("UNAVAILABLE", `Redis did not confirm: ${message}`));
  };

  return express
    .Router()
    .post(PUBLISH_PATH, authenticate, express.json({ limit: maxBytes, type: () => true }), publish)
    .all(PUBLISH_PATH, (_req, res) => refuse(res, refusal("BAD_REQUEST", "only POST")))
    .use(onError);
}

function eventOf(body: unknown): Record<string, unknown> & { event_type: string } {
  const { payload, event_type, ...ids } = parseEvent(Body, body, "body");
  for (const [name, value] of Object.entries(ids)) {
    if (name in payload && value !== undefined && payload[name] !== value) {
      throw new AgentwireError("INVALID_EVENT", `${name}: differs from payload.${name}`);
    }
  }
  return {
    ...payload,
    event_type,
    ...Object.fromEntries(Object.entries(ids).filter(([, value]) => value !== undefined)),
  };
}
