import { createHmac, generateKeyPairSync, type JsonWebKey, type KeyObject, sign } from "node:crypto";
import { JWT_SECRET } from "./token.js";

/** One way to sign: what the header says, and what is written under it. */
export interface Signer {
  header: { alg: string; kid?: string };
  sign(text: string): Buffer;
}

/** A signer with a key pair; `jwk` is what a login publishes of it. */
export interface KeyPair extends Signer {
  header: { alg: string; kid: string };
  publicKey: KeyObject;
  privateKey: KeyObject;
  jwk: JsonWebKey & { kid: string; alg: string; use: string };
}

export const ISSUER = "https://login.example.com";

const bitsOf = (alg: string): string => `sha${alg.slice(2)}`;

export function bySecret(secret: string | Buffer = JWT_SECRET, alg = "HS256"): Signer {
  return { header: { alg }, sign: (text) => createHmac(bitsOf(alg), secret).update(text).digest() };
}

export function byKey(privateKey: KeyObject, header: { alg: string; kid?: string }): Signer {
  const how = { key: privateKey, dsaEncoding: "ieee-p1363" as const };
  return { header, sign: (text) => sign(bitsOf(header.alg), Buffer.from(text), how) };
}

function generate(alg: "RS256" | "ES256") {
  if (alg === "RS256") return generateKeyPairSync("rsa", { modulusLength: 2048 });
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

export function keyPair(alg: "RS256" | "ES256", kid: string): KeyPair {
  const pair = generate(alg);
  const jwk = { ...pair.publicKey.export({ format: "jwk" }), kid, alg, use: "sig" };
  const header = { alg, kid };
  return { ...pair, ...byKey(pair.privateKey, header), header, jwk };
}

export const inAnHour = (): number => Math.floor(Date.now() / 1000) + 3600;

/** What a login says of anna, who may see p1. */
export const annasClaims = () => ({
  sub: "anna",
  role: "authenticated",
  aud: "authenticated",
  iss: ISSUER,
  exp: inAnHour(),
  app_metadata: { project_ids: ["p1"] },
});

const encode = (part: unknown): string =>
  Buffer.from(typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");

/** A token of any header and any payload; a string is taken as it is, without `JSON.stringify`. */
export function craft(header: unknown, payload: unknown, write: (text: string) => Buffer): string {
  const text = `${encode(header)}.${encode(payload)}`;
  return `${text}.${write(text).toString("base64url")}`;
}

/** A well signed token of anna; what is undefined in `claims` is left out. */
export function signed(signer: Signer, claims: object = {}, header: object = {}): string {
  return craft({ typ: "JWT", ...signer.header, ...header }, { ...annasClaims(), ...claims }, signer.sign);
}
