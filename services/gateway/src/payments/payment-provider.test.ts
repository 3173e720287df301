import { createHmac, randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { connectPaymentProvider, providerSecrets } from './payment-provider.ts'

const [SECRET, PREVIOUS] = ['s'.repeat(32), 'p'.repeat(32)]
const NOW = 1_800_000_000_000
const body = JSON.stringify({
  id: randomUUID(),
  kind: 'deposit',
  status: 'succeeded',
  amount: '1.00',
  currency: 'USD',
  providerReference: 'p-1',
})

const signatureBy = (secret: string, seconds = NOW / 1_000) =>
  `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`

const providerWith = (secrets: object) =>
  connectPaymentProvider({
    url: 'http://127.0.0.1:1',
    secrets: providerSecrets.parse(secrets),
    callbackUrl: '',
    clock: { now: () => NOW },
  })

describe('a callback is signed', () => {
  test('by the secret, or the one before while it is being changed; by no other', () => {
    const changing = providerWith({ secret: SECRET, previous: PREVIOUS })
    for (const secret of [SECRET, PREVIOUS]) {
      expect(changing.readCallback(signatureBy(secret), body)).toMatchObject({ amount: '1.00' })
    }
    const changed = providerWith({ secret: SECRET })
    for (const [provider, secret] of [
      [changed, PREVIOUS],
      [changing, 'x'.repeat(32)],
    ] as const) {
      expect(() => provider.readCallback(signatureBy(secret), body)).toThrow('does not fit')
    }
  })

  test('within five minutes', () => {
    const provider = providerWith({ secret: SECRET })
    for (const seconds of [-301, 301]) {
      expect(() => provider.readCallback(signatureBy(SECRET, NOW / 1_000 + seconds), body)).toThrow(
        'five minutes',
      )
    }
  })
})
