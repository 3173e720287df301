import { expect, test } from 'vitest'
import { type RequestScope, runInScope } from '../queues/request-scope.ts'
import { commandRecord } from './command-record.ts'

const make = () =>
  commandRecord({ encode: () => Buffer.from('command') }, 'pennywire.ledger.WalletCloseRequested', 'wallet', {
    ...{
      commandId: 'id',
      walletId: 'wallet',
      userId: 'user-1',
      fingerprint: Buffer.alloc(16),
      requestedAt: 0,
    },
  })
const REQUEST: RequestScope = { requestId: 'request-1', address: '192.0.2.1', known: true, gone: undefined }
const CAUSES = ['request_id', 'actor', 'actor_role', 'actor_key', 'address_hash']
const causesOf = ({ headers }: ReturnType<typeof make>) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => CAUSES.includes(name)))

test('a command names the request that asks', () => {
  const scope = { ...REQUEST }
  expect(causesOf(runInScope(scope, make))).toEqual({ request_id: 'request-1' })
  expect(scope.isRecorded).toBe(true)
})

test('and who asks: the user, their role, the API key, and the keyed hash of the address, never the address', () => {
  const record = runInScope(
    { ...REQUEST, addressHash: 'hash', userId: 'user-1', role: 'admin', apiKeyId: 'key-1' },
    make,
  )
  expect(causesOf(record)).toEqual({
    ...{ request_id: 'request-1', actor: 'user-1', actor_role: 'admin', actor_key: 'key-1' },
    address_hash: 'hash',
  })
  expect(JSON.stringify(record.headers)).not.toContain('192.0.2.1')
})

test('a worker’s command names none', () => {
  expect(causesOf(make())).toEqual({})
})
