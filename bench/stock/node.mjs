import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";

// The control: what one gets by following Socket.IO's own documentation, every option at its default, unless the bench is
// about compression or recovery, which Socket.IO leaves off by default.
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(new Redis(process.env.REDIS_URL)),
  ...(process.env.COMPRESSION && { perMessageDeflate: true }),
  ...(process.env.RECOVERY && { connectionStateRecovery: {} }),
});

io.of("/ws/agents").on("connection", (socket) => {
  socket.join(`project:${socket.handshake.auth.project}`);
});

http.listen(0, "127.0.0.1", () => process.send({ port: http.address().port }));
process.once("disconnect", () => process.exit());
