export * from "./append.js";
export * from "./keys.js";
export type * from "./records.js";
export * from "./script.js";
export * from "./terminal.js";
