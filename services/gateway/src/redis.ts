import type { Logger } from '@pennywire/runtime/logger.ts'
import { Redis } from 'ioredis'

/** A slower command counts as Redis being unavailable; guards then refuse or continue without it. */
const COMMAND_TIMEOUT_MS = 500
const RECONNECT_MAX_MS = 1_000

/**
 * The gateway's Redis: all commands of one tick are one round trip (auto pipelining), none waits for a missing
 * connection, and the caller decides how to handle its absence. `ca`: the authority (PEM) of a rediss: URL's
 * certificate.
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
