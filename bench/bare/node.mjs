import { createServer } from "node:http";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";

// The floor: reads ready packets from a stream and writes each to every socket of its room, and nothing else.
const http = createServer();
const server = new WebSocketServer({ server: http });
const rooms = new Map();

server.on("connection", (socket, { url }) => {
  const room = new URL(url, "http://node").searchParams.get("room");
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
  socket.once("close", () => rooms.get(room).delete(socket));
});

async function read(redis) {
  for (let last = "0"; ; ) {
    const [[, entries]] = await redis.xreadBuffer("COUNT", 100, "BLOCK", 0, "STREAMS", "ws", last);
    for (const [id, [, room, , packet]] of entries) {
      for (const socket of rooms.get(room.toString()) ?? []) socket.send(packet, { binary: false });
      last = id;
    }
  }
}

read(new Redis(process.env.REDIS_URL));
http.listen(0, "127.0.0.1", () => process.send({ port: http.address().port }));
process.once("disconnect", () => process.exit());
