import { expect } from "chai";
import fc from "fast-check";
import msgpack from "socket.io-msgpack-parser";
import { MessagePackReader } from "../../server/src/gate/messagepack.js";

const encode = (value: unknown): Buffer =>
  (new msgpack.Encoder().encode(value as never) as unknown as Buffer[])[0] as Buffer;
const read = (bytes: Buffer, depth = 34) => {
  const reader = new MessagePackReader(bytes, depth);
  return { value: reader.read(), flaw: reader.flaw };
};
const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)]);

describe("reading MessagePack", () => {
  it("[D19] reads what the stock encoder writes, as it was", () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 6 },
        fc.string({ unit: "binary" }),
        fc.integer(),
        fc.maxSafeInteger(),
        fc
          .double({ noNaN: true })
          .filter((n) => !Number.isInteger(n) || (Number.isSafeInteger(n) && !Object.is(n, -0))),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie("any"), { maxLength: 40 }),
        fc.dictionary(
          fc.string().filter((key) => !/^(__proto__|constructor|prototype)$/.test(key)),
          tie("any"),
          {
            noNullPrototype: true,
          },
        ),
      ),
    })).any;
    fc.assert(
      fc.property(value, (one) => {
        expect(read(encode(one))).to.deep.equal({ value: one, flaw: undefined });
      }),
      { numRuns: 2000 },
    );
    for (const length of [31, 32, 255, 256, 65_535, 65_536, 100_000]) {
      expect(read(encode("x".repeat(length))).value).to.equal("x".repeat(length));
      expect(read(encode(Array(length).fill(1))).value).to.have.length(length);
    }
    for (const number of [
      -1,
      -32,
      -33,
      -129,
      -32_769,
      -(2 ** 31),
      -(2 ** 33),
      127,
      128,
      2 ** 16,
      2 ** 32,
      0.1,
    ])
      expect(read(encode(number)).value).to.equal(number);
    expect(read(encode(["SUBSCRIBE", undefined])).value).to.deep.equal(["SUBSCRIBE", undefined]);
  });

  it("[D13] any bytes: a value, or an error, and at once", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          read(Buffer.from(bytes));
        } catch (error) {
          expect(error).to.include({ code: "BAD_REQUEST" });
        }
      }),
      { numRuns: 5000 },
    );
  });

  it("[D13] a value that is cut, or followed by another, is none", () => {
    const whole = encode({
      type: 2,
      data: ["SUBSCRIBE", { agent_ids: ["a1", "é"] }],
      more: [1.5, 300, -300, 2 ** 40],
    });
    for (let n = 0; n < whole.length; n++) expect(() => read(whole.subarray(0, n)), `${n}`).to.throw();
    expect(() => read(Buffer.concat([whole, Buffer.from([1])]))).to.throw();
    expect(() => read(Buffer.from([0xc1]))).to.throw();
    expect(() => read(Buffer.from([0x81, 0x01, 0x01])), "a key that is no text").to.throw();
  });

  it("[D13] bytes, too many levels and names of prototypes are left out, and the rest is read", () => {
    const beside = (value: unknown) => read(encode({ value, id: 7 })).value;
    expect(read(encode([Buffer.from("x"), 7]))).to.deep.equal({
      value: [undefined, 7],
      flaw: "no event takes binary data",
    });
    for (const value of [Buffer.alloc(300), new Date(), new ArrayBuffer(9), Buffer.alloc(70_000)])
      expect(beside(value)).to.deep.equal({ value: undefined, id: 7 });
    expect(read(encode(nested(34))).flaw).to.equal(undefined);
    expect(read(encode(nested(35))).flaw).to.equal("nested too deep");
    expect(beside(nested(3000))).to.have.property("id", 7);
    const { value, flaw } = read(encode(JSON.parse('{"__proto__":{"polluted":1},"id":7}')));
    expect(flaw).to.match(/__proto__/);
    expect(value).to.deep.equal({ id: 7 });
    expect(Object.getPrototypeOf(value)).to.equal(Object.prototype);
  });
});
