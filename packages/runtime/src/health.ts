import { Hono } from 'hono'
import { metricsText } from './metrics.ts'

/** Checks one dependency; resolves if it answers, throws or rejects with the reason if it does not. */
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

/** Runs one call at a time and caches its result for `ms`; a failure is not cached. */
const keptFor = <Result>(ms: number, make: () => Promise<Result>): (() => Promise<Result>) => {
  let kept: Promise<Result> | undefined
  let until = 0
  return () => {
    if (kept && performance.now() < until) return kept
    until = Number.POSITIVE_INFINITY
    const flight = make()
    kept = flight
    flight.then(
      () => {
        until = performance.now() + ms
      },
      () => {
        kept = undefined
      },
    )
    return flight
  }
}

/** `/healthz`: the process answers. It checks no dependency, so it may be publicly reachable. */
export const healthRoutes = (): Hono => new Hono().get('/healthz', context => context.json({ status: 'ok' }))

/**
 * The routes of the operations listener (OPS_HOST, OPS_PORT), which is for operators only: `/healthz`, `/readyz` (each
 * dependency was checked within the last `keptMs`; 503 names those that are away) and `/metrics` (Prometheus). Both
 * answers are cached for `keptMs` and computed one call at a time, so that frequent requests cost the dependencies
 * nothing.
 */
export const operationsRoutes = (checks: Record<string, ReadinessCheck>, keptMs: number): Hono => {
  const readiness = keptFor(keptMs, async () => {
    const answers = await Promise.all(
      Object.entries(checks).map(async ([name, check]) => [name, await ask(check)] as const),
    )
    return { ready: answers.every(([, answer]) => answer === 'ok'), checks: Object.fromEntries(answers) }
  })
  const metrics = keptFor(keptMs, metricsText)
  return healthRoutes()
    .get('/readyz', async context => {
      const { ready, checks } = await readiness()
      return context.json({ status: ready ? 'ready' : 'not ready', checks }, ready ? 200 : 503)
    })
    .get('/metrics', async context =>
      context.body(await metrics(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
    )
}
