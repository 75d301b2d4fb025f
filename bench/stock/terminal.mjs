import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";

// The control: what one would build of Socket.IO by itself. The worker is a client that says each chunk to its node,
// which says it to the room of the task; the adapter, with its defaults, takes it to the other nodes.
const http = createServer();
const io = new Server(http, { adapter: createAdapter(new Redis(process.env.REDIS_URL)) });

io.of("/terminal").on("connection", (socket) => {
  const { task } = socket.handshake.auth;
  socket.join(`task:${task}`);
  socket.on("output", (chunk) => socket.broadcast.to(`task:${task}`).emit("output", chunk));
});

http.listen(0, "127.0.0.1", () => process.send({ port: http.address().port }));
process.once("disconnect", () => process.exit());
