export * from "./append.js";
export * from "./elsewhere.js";
export * from "./keys.js";
export * from "./pulse.js";
export type * from "./records.js";
export * from "./script.js";
export * from "./terminal.js";
