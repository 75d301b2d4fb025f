/** Engine.IO's connection, with what its types keep private. */
interface Pinged {
  sendPacket(type: "ping"): unknown;
  once(event: "packet" | "close", listener: () => void): unknown;
  off(event: "packet" | "close", listener: () => void): unknown;
}

/** Pings a client now, and resolves to whether anything comes from it within so many ms. */
export function answersPing(connection: object, withinMs: number): Promise<boolean> {
  const pinged = connection as Pinged;
  return new Promise((resolve) => {
    const end = (came: boolean) => {
      clearTimeout(timer);
      pinged.off("packet", heard);
      pinged.off("close", gone);
      resolve(came);
    };
    const heard = () => end(true);
    const gone = () => end(false);
    const timer = setTimeout(gone, withinMs);
    pinged.once("packet", heard);
    pinged.once("close", gone);
    pinged.sendPacket("ping");
  });
}
