import { randomUUID } from 'node:crypto'

/**
 * W3C trace context (https://www.w3.org/TR/trace-context/): one trace from the client's request through command,
 * event, notification and audit record. Spans are not exported here; the id alone ties the logs together.
 */
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/
const ALL_ZERO = /^0+$/

/** Random hexadecimal digits, at most 32. From UUIDs, because Node caches their random bytes: a seventh of the cost. */
const randomHex = (digits: number) => randomUUID().replaceAll('-', '').slice(-digits)

/** Continues the caller's trace with a span of our own, or begins one where there is none or it is malformed. */
export const continueTrace = (traceparent: string | undefined): string => {
  const match = TRACEPARENT.exec(traceparent ?? '')
  const span = randomHex(16)
  if (!match || ALL_ZERO.test(match[1]!) || ALL_ZERO.test(match[2]!)) {
    return `00-${randomHex(32)}-${span}-01`
  }
  return `00-${match[1]}-${span}-${match[3]}`
}

/** The trace's id, for logs. */
export const traceIdOf = (traceparent: string): string => traceparent.slice(3, 35)
