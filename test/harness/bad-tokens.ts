import { constants, createHmac, generateKeyPairSync, sign } from "node:crypto";
import {
  annasClaims,
  byKey,
  bySecret,
  craft,
  inAnHour,
  type KeyPair,
  keyPair,
  type Signer,
  signed,
} from "./login.js";
import { JWT_SECRET } from "./token.js";

export interface BadTokenOptions {
  /** How a good token is signed for whoever gets these. */
  signer: Signer;
  /** The login's keys, public to everybody. */
  rsa: KeyPair;
  ec: KeyPair;
  /** An address where nobody must ask; it would serve the key of {@link stranger}. */
  trap: string;
}

/** Signs tokens that no login ever saw. */
export const stranger = keyPair("RS256", "stranger");
const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });

const uuids = (count: number) => Array.from({ length: count }, () => crypto.randomUUID());
/** A good token, but for its length. */
export const long = (signer: Signer, projects: number) =>
  signed(signer, { app_metadata: { project_ids: uuids(projects) } });

/** Tokens that must not come in, each with what is wrong with it. */
export function badTokens({ signer, rsa, ec, trap }: BadTokenOptions): [what: string, token: string][] {
  const good = signed(signer);
  const [header = "", payload = "", signature = ""] = good.split(".");
  const [, anotherPayload = "", anotherSignature = ""] = signed(signer, { sub: "ben" }).split(".");
  const nothing = () => Buffer.alloc(0);
  const claims = annasClaims();
  const by = (alg: unknown, write: Signer["sign"], more: object = {}) =>
    craft({ typ: "JWT", kid: signer.header.kid, alg, ...more }, claims, write);
  const raw = (text: string) => craft({ typ: "JWT", ...signer.header }, text, signer.sign);
  const withClaim = (name: string, text: string) =>
    raw(JSON.stringify({ ...claims, [name]: "@" }).replace('"@"', text));
  const pem = ({ publicKey }: KeyPair) => publicKey.export({ type: "spki", format: "pem" });
  const asSecret = (key: string | Buffer, kid: string) => by("HS256", bySecret(key).sign, { kid });
  const strange = (more: object) => signed(stranger, {}, more);
  const flipped = Buffer.from(signature, "base64url");
  flipped[0] = (flipped[0] ?? 0) ^ 1;

  return [
    // Nobody signed.
    ...["none", "None", "NONE", "nOnE", "none ", ""].map((alg): [string, string] => [
      `alg ${JSON.stringify(alg)}, unsigned`,
      by(alg, nothing),
    ]),
    ["alg none, well signed", by("none", signer.sign)],
    ["no alg", by(undefined, signer.sign)],
    ["alg null", by(null, signer.sign)],
    ["alg in a list", by([signer.header.alg], signer.sign)],
    ["alg in small letters", by(signer.header.alg.toLowerCase(), signer.sign)],
    ["an empty signature", `${header}.${payload}.`],
    ["no signature", `${header}.${payload}`],
    ["one wrong bit in the signature", `${header}.${payload}.${flipped.toString("base64url")}`],
    ["half a signature", `${header}.${payload}.${signature.slice(0, signature.length / 2)}`],
    ["a signature of zeros", by("ES256", () => Buffer.alloc(64), { kid: ec.header.kid })],
    ["the signature of another token", `${header}.${payload}.${anotherSignature}`],
    ["the payload of another token", `${header}.${anotherPayload}.${signature}`],
    [
      "a signature of another header",
      `${Buffer.from(JSON.stringify({ ...signer.header, x: 1 })).toString("base64url")}.${payload}.${signature}`,
    ],

    // Signed with something that everybody has.
    ["the RSA public key as a secret", asSecret(pem(rsa), rsa.header.kid)],
    ["the same without its last line end", asSecret(String(pem(rsa)).trim(), rsa.header.kid)],
    ["the same in binary", asSecret(rsa.publicKey.export({ type: "spki", format: "der" }), rsa.header.kid)],
    ["the EC public key as a secret", asSecret(pem(ec), ec.header.kid)],
    ["the JWK as a secret", asSecret(JSON.stringify(rsa.jwk), rsa.header.kid)],
    ["an empty secret", asSecret("", "")],
    ["another secret", asSecret("another-secret", "")],

    // Well signed, in a way that is not agreed on.
    ["HS384", by("HS384", bySecret(JWT_SECRET, "HS384").sign)],
    ["HS512", by("HS512", bySecret(JWT_SECRET, "HS512").sign)],
    ["RS384", signed(byKey(rsa.privateKey, { alg: "RS384", kid: rsa.header.kid }))],
    ["RS512", signed(byKey(rsa.privateKey, { alg: "RS512", kid: rsa.header.kid }))],
    [
      "PS256",
      by(
        "PS256",
        (text) =>
          sign("sha256", Buffer.from(text), {
            key: rsa.privateKey,
            padding: constants.RSA_PKCS1_PSS_PADDING,
            saltLength: 32,
          }),
        { kid: rsa.header.kid },
      ),
    ],
    ["ES384", signed(byKey(p384.privateKey, { alg: "ES384", kid: ec.header.kid }))],
    ["RS256 that names the EC key", signed(rsa, {}, { kid: ec.header.kid })],
    ["ES256 that names the RSA key", signed(ec, {}, { kid: rsa.header.kid })],
    ["RSA-signed and called ES256", signed(rsa, {}, { alg: "ES256" })],
    ["EC-signed and called RS256", signed(ec, {}, { alg: "RS256" })],

    // A header that says where the key is, or brings it along.
    [
      "kid: a path, signed with nothing",
      by("HS256", bySecret("").sign, { kid: "../../../../../../dev/null" }),
    ],
    ...[
      "../../../../etc/passwd",
      "/dev/null",
      "' OR '1'='1",
      "' UNION SELECT 'key' --",
      trap,
      "__proto__",
      "constructor",
      "stranger",
      "",
      "\u0000",
      rsa.header.kid,
      "x".repeat(5000),
    ].map((kid): [string, string] => [
      `kid ${JSON.stringify(kid).slice(0, 40)}, signed by a stranger`,
      strange({ kid }),
    ]),
    ["kid: a number", signed(rsa, {}, { kid: 1 })],
    ["kid: a list", signed(rsa, {}, { kid: [rsa.header.kid] })],
    ["kid: an object", signed(rsa, {}, { kid: { toString: rsa.header.kid } })],
    ["no kid", signed(rsa, {}, { kid: undefined })],
    ...(["stranger", rsa.header.kid] as const).flatMap((kid): [string, string][] => [
      [`jku, kid ${kid}`, strange({ kid, jku: trap })],
      [`x5u, kid ${kid}`, strange({ kid, x5u: trap })],
      [`jwk, kid ${kid}`, strange({ kid, jwk: { ...stranger.jwk, kid } })],
      [
        `x5c, kid ${kid}`,
        strange({
          kid,
          x5c: [stranger.publicKey.export({ type: "spki", format: "der" }).toString("base64")],
        }),
      ],
      [
        `jku, x5u, jwk and iss, kid ${kid}`,
        signed(stranger, { iss: trap }, { kid, jku: trap, x5u: trap, jwk: stranger.jwk }),
      ],
    ]),
    ["crit", signed(signer, {}, { crit: ["exp"] })],
    ["crit that makes the payload another one", signed(signer, {}, { crit: ["b64"], b64: false })],

    // Well signed, and not for us.
    ["another aud", signed(signer, { aud: "another" })],
    ["aud in a list", signed(signer, { aud: ["authenticated"] })],
    ["aud in a list of several", signed(signer, { aud: ["another", "authenticated"] })],
    ["aud: an object", signed(signer, { aud: { 0: "authenticated" } })],
    ["an empty aud", signed(signer, { aud: "" })],
    ["no aud", signed(signer, { aud: undefined })],
    ["another iss", signed(signer, { iss: "https://another.example.com" })],
    ["iss with more behind it", signed(signer, { iss: `${claims.iss}/` })],
    ["iss in a list", signed(signer, { iss: [claims.iss] })],
    ["no iss", signed(signer, { iss: undefined })],

    // Well signed, and no user's.
    ["role anon", signed(signer, { role: "anon" })],
    ["role service_role", signed(signer, { role: "service_role" })],
    ["role: a list", signed(signer, { role: ["authenticated"] })],
    ["role: null", signed(signer, { role: null })],
    ["no sub", signed(signer, { sub: undefined })],
    ["sub: a number", signed(signer, { sub: 7 })],
    ["sub: null", signed(signer, { sub: null })],
    ["sub: a list", signed(signer, { sub: ["anna"] })],
    ["sub: an object", signed(signer, { sub: { id: "anna" } })],
    ["an empty sub", signed(signer, { sub: "" })],
    ["a sub of 257 characters", signed(signer, { sub: "a".repeat(257) })],
    ["a line end in sub", signed(signer, { sub: "anna\nben" })],
    ["a NUL in sub", signed(signer, { sub: "anna\u0000" })],
    ["a C1 control in sub", signed(signer, { sub: "anna\u0085" })],
    ["half a character in sub", withClaim("sub", '"anna\\ud800"')],

    // Well signed, and not now.
    ["no exp", signed(signer, { exp: undefined })],
    ["exp: null", signed(signer, { exp: null })],
    ["exp: a string", signed(signer, { exp: String(inAnHour()) })],
    ["exp: a list", signed(signer, { exp: [inAnHour()] })],
    ["exp: true", signed(signer, { exp: true })],
    ["exp in the year 2286", signed(signer, { exp: 9_999_999_999 })],
    ["exp in ms", signed(signer, { exp: inAnHour() * 1000 })],
    ["exp 1e300", withClaim("exp", "1e300")],
    ["exp beyond all numbers", withClaim("exp", "1e999")],
    ["exp in eleven years", signed(signer, { exp: inAnHour() + 11 * 365 * 86_400 })],
    ["exp below 0", signed(signer, { exp: -inAnHour() })],
    ["exp 0", signed(signer, { exp: 0 })],
    ["expired a second ago", signed(signer, { exp: Math.floor(Date.now() / 1000) - 1 })],
    ["nbf in an hour", signed(signer, { nbf: inAnHour() })],
    ["nbf: a string", signed(signer, { nbf: "0" })],
    ["nbf: null", signed(signer, { nbf: null })],

    // No claims at all, or no token.
    ["payload: null", raw("null")],
    ["payload: a list", raw("[]")],
    ["payload: a string", raw('"anna"')],
    ["payload: no JSON", raw("{")],
    ["payload: nothing", raw("")],
    ["64 KB, well signed", long(signer, 1250)],
    ["64 KB of one letter", "a".repeat(65_536)],
    ["64 KB of dots", ".".repeat(65_536)],
    [
      "a header of 40 KB of brackets",
      `${Buffer.from("[".repeat(30_000)).toString("base64url")}.${payload}.${signature}`,
    ],
    ["garbage", "no.token"],
    ["more garbage", "a.b.c"],
    ["three dots", "..."],
    ["two dots", ".."],
    ["four parts", `${good}.x`],
    ["an encrypted token", `${good}.x.y`],
    ["header: null", craft("null", claims, signer.sign)],
    ["header: a list", craft("[]", claims, signer.sign)],
    ["header: a string", craft('"HS256"', claims, signer.sign)],
    ["letters from elsewhere", `${good.slice(0, -3)}éøя`],
    ["an emoji", "🦊.🦊.🦊"],
    ["a space before", ` ${good}`],
    ["a space behind", `${good} `],
    ["a line end behind", `${good}\n`],
    ["a space within", `${header}. ${payload}.${signature}`],
    ["a NUL behind", `${good}\u0000`],
    ["padding", `${good}==`],
    ["quotes", `"${good}"`],
    ["Bearer in it", `Bearer ${good}`],
    ["null", "null"],
    [
      "a signature over nothing",
      `${header}..${createHmac("sha256", JWT_SECRET).update(`${header}.`).digest("base64url")}`,
    ],
    ["white space alone", "   "],
  ];
}
