import { expect, test } from 'vitest'
import { findSignatureFault, signBody } from './provider-signature.ts'

const now = 1_800_000_000
const body = '{"amount":"12.50"}'
const good = signBody('secret', body, now)

test('a signature is hmac-sha256 of "t.body", as anybody can compute it', () => {
  // printf '1800000000.{"amount":"12.50"}' | openssl dgst -sha256 -hmac secret
  expect(good).toBe('t=1800000000,v1=46742a5631495ba6078f2ae3cfd288f7cf0e9aeddb5f999e65f7166d1707b6d1')
})

test.each([
  ['as made', body, good, now, undefined],
  ['five minutes late', body, good, now + 300, undefined],
  ['five minutes early', body, good, now - 300, undefined],
  ['absent', body, undefined, now, 'missing'],
  ['not in the form', body, 'v1=00', now, 'must be t='],
  ['for another body', '{"amount":"99.50"}', good, now, 'does not fit'],
  ['with another secret', body, signBody('guess', body, now), now, 'does not fit'],
  ['with another time', body, good.replace(`t=${now}`, `t=${now + 1}`), now, 'does not fit'],
  ['too old', body, good, now + 301, 'five minutes off'],
  ['from the future', body, good, now - 301, 'five minutes off'],
])('a signature %s', (_what, text, header, time, fault) => {
  const found = findSignatureFault('secret', text, header, time)
  if (fault) expect(found).toContain(fault)
  else expect(found).toBeUndefined()
})
