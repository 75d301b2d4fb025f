import { z } from "zod";
import { limits } from "./limits.js";

/** Agent, project, task and event ids: 1 to 128 characters of `[A-Za-z0-9_.-]`. */
export const Id = z
  .string()
  .regex(
    new RegExp(`^[A-Za-z0-9_.-]{1,${limits.idLength}}$`),
    "must be 1 to 128 characters of A-Z a-z 0-9 _ . -",
  );
