export * from "./append.js";
export * from "./keys.js";
export * from "./script.js";
