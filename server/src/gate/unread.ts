/** Engine.IO's connection, with what its types keep private. */
interface Answering {
  readonly writeBuffer: readonly { data?: { length: number } | undefined }[];
  on(event: "packet", listener: () => void): unknown;
  close(discard?: boolean): unknown;
}

/** So many answers may always wait: a client may ask for several things at once. */
export const FEW = 32;
/** So many never. */
export const TOO_MANY = 1000;

/**
 * Closes a connection that asks and asks, and does not read the answers: Socket.IO writes acknowledgements and refusals
 * by itself, and keeps without bound what is not taken.
 */
export function closeUnread(connection: Answering, maxBytes: number, onClose: () => void): void {
  connection.on("packet", () => {
    const { writeBuffer } = connection;
    if (writeBuffer.length <= FEW) return;
    const bytes = writeBuffer.reduce((sum, { data }) => sum + (data?.length ?? 0), 0);
    if (writeBuffer.length <= TOO_MANY && bytes <= maxBytes) return;
    onClose();
    connection.close(true);
  });
}
