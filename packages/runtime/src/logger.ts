import { type DestinationStream, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

/** Members that are never written, at any place in a logged object (two levels deep). */
const SECRETS = [
  'pin',
  'password',
  'token',
  'secret',
  'accessToken',
  'refreshToken',
  'stepUpToken',
  'authorization',
]

/**
 * A service's logger: JSON lines on stdout (or to another destination), each with the service and instance. Secrets are
 * redacted by name.
 */
export const createLogger = (
  service: string,
  options: { level: string; instance: string },
  destination: DestinationStream = pino.destination(1),
): Logger => {
  const settings = {
    level: options.level,
    base: { service, instance: options.instance },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRETS.flatMap(name => [name, `*.${name}`, `*.*.${name}`]), censor: '[redacted]' },
  }
  return pino(settings, destination)
}
