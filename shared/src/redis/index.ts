export * from "./address.js";
export * from "./append.js";
export * from "./keys.js";
export * from "./opener.js";
export * from "./pulse.js";
export type * from "./records.js";
export * from "./script.js";
export * from "./terminal.js";
