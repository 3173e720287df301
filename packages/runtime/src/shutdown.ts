import type { Logger } from './logger.ts'

/** How long an orderly stop may take before the process ends anyway; unfinished work is redelivered. */
const GRACE_MS = 15_000

/**
 * Stops a service in order on SIGTERM or SIGINT: the steps run one after the other, each even if one before it failed,
 * and the process ends with 0. An uncaught error ends it at once with 1: after such an error nothing in memory can be
 * trusted, and everything that matters is in Postgres and Kafka.
 */
export const onShutdown = (logger: Logger, steps: Array<() => unknown>): void => {
  let stopping = false
  const stop = async (signal: string) => {
    if (stopping) return
    stopping = true
    logger.info({ signal }, 'stopping')
    setTimeout(() => {
      logger.error('did not stop in time')
      process.exit(1)
    }, GRACE_MS).unref()
    for (const step of steps) {
      try {
        await step()
      } catch (error) {
        logger.error({ err: error }, 'a step of the stop failed')
      }
    }
    logger.info('stopped')
    process.exit(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      logger.fatal({ err: error }, event)
      process.exit(1)
    })
  }
}
