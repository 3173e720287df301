import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { metricsText } from './metrics.ts'

/** Asks one dependency; resolves where it answers, throws or rejects with the reason where it does not. */
export type ReadinessCheck = () => unknown

const CHECK_TIMEOUT_MS = 2_000

const ask = async (check: ReadinessCheck): Promise<string> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`)), CHECK_TIMEOUT_MS)
  })
  try {
    await Promise.race([check(), late])
    return 'ok'
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The routes that every service has: `/healthz` (the process answers), `/readyz` (each dependency was asked just
 * now; 503 names those that are away) and `/metrics` (Prometheus).
 */
export const operationsRoutes = (checks: Record<string, ReadinessCheck>): Hono =>
  new Hono()
    .get('/healthz', context => context.json({ status: 'ok' }))
    .get('/readyz', async context => {
      const answers = await Promise.all(
        Object.entries(checks).map(async ([name, check]) => [name, await ask(check)] as const),
      )
      const ready = answers.every(([, answer]) => answer === 'ok')
      return context.json(
        { status: ready ? 'ready' : 'not ready', checks: Object.fromEntries(answers) },
        ready ? 200 : 503,
      )
    })
    .get('/metrics', async context =>
      context.body(await metricsText(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
    )

/** Serves an app on a port (0: a free one) and tells where; `stop` lets running requests finish. */
export const listen = async (
  app: { fetch: (request: Request, env?: unknown) => Response | Promise<Response> },
  options: { host: string; port: number },
): Promise<{ port: number; stop: () => Promise<void> }> => {
  const server = await new Promise<ReturnType<typeof serve>>((resolve, reject) => {
    const starting = serve({ fetch: app.fetch, hostname: options.host, port: options.port }, () =>
      resolve(starting),
    )
    starting.once('error', reject)
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        if ('closeIdleConnections' in server) server.closeIdleConnections()
      }),
  }
}
