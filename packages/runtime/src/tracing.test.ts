import { describe, expect, test } from 'vitest'
import { continueTrace, traceIdOf } from './tracing.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'
const FORM = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

describe('a trace', () => {
  test('that the caller began goes on, with a span of our own and the same flags', () => {
    for (const flags of ['00', '01']) {
      const ours = continueTrace(`00-${TRACE}-${SPAN}-${flags}`)
      expect(ours).toMatch(FORM)
      expect([traceIdOf(ours), ours.slice(53)]).toEqual([TRACE, flags])
      expect(ours).not.toContain(SPAN)
    }
  })

  test.each([
    ['none', undefined],
    ['empty', ''],
    ['text', 'trace me'],
    ['another version', `01-${TRACE}-${SPAN}-01`],
    ['capitals', `00-${TRACE.toUpperCase()}-${SPAN}-01`],
    ['a trace of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`],
    ['a span of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['too short', `00-${TRACE.slice(1)}-${SPAN}-01`],
    ['more behind it', `00-${TRACE}-${SPAN}-01-more`],
    ['a line break', `00-${TRACE}-${SPAN}-01\n`],
  ])('begins anew where the caller’s is %s', (_what, given) => {
    const ours = continueTrace(given)
    expect(ours).toMatch(FORM)
    expect(ours.endsWith('-01')).toBe(true)
    expect(traceIdOf(ours)).not.toBe(TRACE)
    expect(traceIdOf(continueTrace(given))).not.toBe(traceIdOf(ours))
  })
})
