# One image for everything of ours; the command chooses: node services/<name>/src/main.ts. TypeScript runs unbuilt, so
# there is nothing to compile: the image is the repository with its production dependencies. The workspace symlinks
# stay as pnpm makes them, because Node strips no types from files that really are below node_modules.

# bootstrap.mjs pins the same versions; tests/pure/containers.test.ts compares them.
ARG NODE_VERSION=26.10.0
ARG PNPM_VERSION=12.21.0

FROM node:${NODE_VERSION}-bookworm-slim AS build
ARG PNPM_VERSION
RUN npm install --global pnpm@${PNPM_VERSION}
WORKDIR /app
COPY . .
# Optional packages are the embedded servers and the pinned Node of `npm start`: images bring their own.
RUN CI=true pnpm install --frozen-lockfile --prod --no-optional

FROM node:${NODE_VERSION}-bookworm-slim
ENV NODE_ENV=production HTTP_HOST=0.0.0.0 HTTP_PORT=8080 OPS_PORT=9090
# See docs/operations.md, Memory.
ENV NODE_OPTIONS="--max-old-space-size=512 --max-semi-space-size=16" MALLOC_ARENA_MAX=2
# A named volume that is mounted there for the first time gets their owner.
RUN install --directory --owner=node --group=node --mode=0700 /data /state \
  /checkpoints /keys /keys/gateway /keys/ledger /keys/notifier /keys/audit /keys/provider
COPY --from=build /app /app
WORKDIR /app
USER node
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=12 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.OPS_PORT}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "services/gateway/src/main.ts"]
