import { refusal } from "@agentwire/shared";

/** The error that Socket.IO turns into a CONNECT_ERROR packet. */
export function connectError(...about: Parameters<typeof refusal>): Error {
  const data = refusal(...about);
  return Object.assign(new Error(data.message), { data });
}
