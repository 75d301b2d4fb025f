import { Id } from "@agentwire/shared";
import type { Policy } from "./policy.js";

/** The right to a project stands in the token: `app_metadata.project_ids`. What is no id there gives no right. */
export const claimsPolicy: Policy = {
  async projectsOf({ claims }) {
    const metadata = claims.app_metadata;
    const ids =
      typeof metadata === "object" && metadata !== null && "project_ids" in metadata
        ? metadata.project_ids
        : [];
    return new Set(Array.isArray(ids) ? ids.filter((id) => Id.safeParse(id).success) : []);
  },
};
