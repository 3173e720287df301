import type { Logger } from '@pennywire/runtime/logger.ts'
import { Redis } from 'ioredis'

/** A command that takes longer counts as Redis being away; guards then refuse or go on without it. */
const COMMAND_TIMEOUT_MS = 500
const RECONNECT_MAX_MS = 1_000

/**
 * The gateway's Redis: all commands of one tick are one trip (auto pipelining), nothing waits for a connection that
 * is not there, and the caller decides what its absence means. `ca`: the authority (PEM) of a rediss: URL's certificate.
 */
export const openRedis = (url: string, logger: Logger, ca?: string): Redis => {
  const redis = new Redis(url, {
    ...(ca === undefined ? {} : { tls: { ca } }),
    enableAutoPipelining: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    connectTimeout: 2_000,
    retryStrategy: times => Math.min(100 * times, RECONNECT_MAX_MS),
  })
  // Without a listener an error event would end the process; every failed command reports itself as well.
  redis.on('error', error => logger.warn({ err: error }, 'redis'))
  return redis
}
