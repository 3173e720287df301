import { systemClock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { type Command, Redis } from 'ioredis'

/** A slower command counts as Redis being unavailable; guards then refuse or continue without it. */
const COMMAND_TIMEOUT_MS = 500
const RECONNECT_MAX_MS = 1_000

/**
 * Rejects a command without an answer after COMMAND_TIMEOUT_MS, and after this process has read what has arrived by
 * then. The option `commandTimeout` of ioredis does not read first: a turn of the event loop longer than the timeout
 * then counts as Redis being unavailable, although its answer is there.
 */
class TimedRedis extends Redis {
  override sendCommand(command: Command, ...rest: [stream?: Parameters<Redis['sendCommand']>[1]]): unknown {
    const expire = () => command.reject(new Error('Command timed out'))
    // Timers run before the event loop reads, immediates after it.
    const cancel = systemClock.after(COMMAND_TIMEOUT_MS, () => setImmediate(expire))
    command.promise.then(cancel, cancel)
    return super.sendCommand(command, ...rest)
  }
}

/**
 * The gateway's Redis: all commands of one tick are one round trip (auto pipelining), none waits for a missing
 * connection, and the caller decides how to handle its absence. `ca`: the authority (PEM) of a rediss: URL's
 * certificate.
 */
export const openRedis = (url: string, logger: Logger, ca?: string): Redis => {
  const redis = new TimedRedis(url, {
    ...(ca === undefined ? {} : { tls: { ca } }),
    enableAutoPipelining: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 2_000,
    retryStrategy: times => Math.min(100 * times, RECONNECT_MAX_MS),
  })
  // Without a listener an error event would end the process; every failed command reports itself as well.
  redis.on('error', error => logger.warn({ err: error }, 'redis'))
  return redis
}
