# The image of a node; the command line of workers is in it too: docker-compose.yml runs both.

FROM node:20-slim AS build
WORKDIR /app
# What is installed depends on these only: a change of the sources does not install it again.
COPY package.json package-lock.json ./
COPY shared/package.json shared/
COPY emitter/package.json emitter/
COPY server/package.json server/
COPY client/package.json client/
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.base.json ./
COPY shared shared
COPY emitter emitter
COPY server server
COPY client client
COPY scripts/demo-packer.mjs scripts/
# Readable for the user below, whatever the sources were checked out with.
RUN npx tsc -b shared emitter server client \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
 && chmod -R a+rX .

FROM node:20-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/shared/package.json shared/
COPY --from=build /app/shared/dist shared/dist
COPY --from=build /app/shared/src/redis/*.lua shared/src/redis/
COPY --from=build /app/emitter/package.json emitter/
COPY --from=build /app/emitter/bin emitter/bin
COPY --from=build /app/emitter/dist emitter/dist
COPY --from=build /app/client/package.json client/
COPY --from=build /app/client/dist client/dist
COPY --from=build /app/client/dashboard client/dashboard
COPY --from=build /app/server/package.json server/
COPY --from=build /app/server/dist server/dist
COPY --from=build /app/server/src/redis/*.lua server/src/redis/
COPY --from=build /app/server/src/ops/admin/page server/src/ops/admin/page
COPY --from=build /app/scripts/demo-packer.mjs scripts/

USER node
EXPOSE 8080
# The process answers. Not /readyz: a node that waits for Redis must not be replaced, it has viewers.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/healthz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# The node drains. Without a shell before it, because that would keep the signal.
STOPSIGNAL SIGTERM
CMD ["node", "server/dist/main.js"]
