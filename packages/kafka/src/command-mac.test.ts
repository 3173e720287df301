import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  COMMAND_MAC_HEADER,
  commandMacKeys,
  createCommandSigner,
  createCommandVerifier,
  signCommands,
} from './command-mac.ts'
import type { IncomingRecord, RawRecord } from './record.ts'

const key = (kid: string) => ({ kid, key: randomBytes(32) })
const [old, current] = [key('old'), key('current')]

const command: RawRecord = {
  topic: 'ledger.commands',
  key: 'wallet',
  value: Buffer.from('value'),
  headers: {
    ce_id: 'id',
    ce_type: 'type',
    ce_source: '/pennywire/gateway',
    ce_time: '2026-01-01T00:00:00.000Z',
    ce_subject: 'subject',
    traceparent: 'trace',
  },
}

const received = ({ topic, key, value, headers }: RawRecord): IncomingRecord => ({
  topic,
  partition: 3,
  offset: 7n,
  timestamp: 0,
  key: key === null ? null : Buffer.from(key),
  value,
  headers: Object.entries(headers).flatMap(([name, values]) =>
    (typeof values === 'string' ? [values] : values).map((one): [string, Buffer] => [name, Buffer.from(one)]),
  ),
})

const sign = createCommandSigner([current])
const verify = createCommandVerifier([current, old])

test('a signed command verifies, with any partition and trace', () => {
  const signed = sign(command)
  expect(verify(received(signed))).toBeUndefined()
  expect(
    verify(received({ ...signed, headers: { ...signed.headers, traceparent: 'other' } })),
  ).toBeUndefined()
})

test('the MAC of a record stays what it is: ledgers verify what gateways of another version signed', () => {
  const signFixed = createCommandSigner([{ kid: 'fixed', key: Buffer.alloc(32, 7) }])
  const macOf = (record: Omit<RawRecord, 'topic'>) =>
    signFixed({ topic: 'ledger.commands', ...record }).headers[COMMAND_MAC_HEADER]
  const headers = { ce_id: ['id', Buffer.from([0, 200])], ce_type: 'typé', ce_subject: 'subject', other: 'x' }
  expect(macOf({ key: 'wallet', value: Buffer.from([0, 255, 10, 58, 195, 169]), headers })).toBe(
    'fixed.woKeLPVwo9RI_6TRzSSpDO57BoRpUZBEnP-bnDEq9RA',
  )
  expect(macOf({ key: null, value: null, headers: {} })).toBe(
    'fixed.ZrKtFgQS-4fxzWmXd41o0HNPikA2yCHrHaUYMpRE2qs',
  )
})

const change = (over: Partial<RawRecord>): RawRecord => ({ ...sign(command), ...over })
const header = (name: string, value: string | string[]): RawRecord => ({
  ...command,
  headers: { ...sign(command).headers, [name]: value },
})

describe('M1 X1 a record that no gateway signed is refused:', () => {
  test.each<[string, RawRecord]>([
    ['without a MAC', command],
    ['with an empty one', header(COMMAND_MAC_HEADER, '')],
    [
      'with two',
      header(
        COMMAND_MAC_HEADER,
        [0, 1].map(() => String(sign(command).headers[COMMAND_MAC_HEADER])),
      ),
    ],
    ['by an unknown key', createCommandSigner([key('other')])(command)],
    ['by another key of that name', createCommandSigner([key('current')])(command)],
    [
      'with half a MAC',
      header(COMMAND_MAC_HEADER, String(sign(command).headers[COMMAND_MAC_HEADER]).slice(0, 30)),
    ],
    ['of another topic', change({ topic: 'notifier.commands' })],
    ['of another key', change({ key: 'thief' })],
    ['of no key', change({ key: null })],
    ['of another value', change({ value: Buffer.from('more') })],
    ['of no value', change({ value: null })],
    ['with bytes moved from key to value', change({ key: 'walle', value: Buffer.from('tvalue') })],
    ...['ce_id', 'ce_type', 'ce_source', 'ce_time', 'ce_subject'].flatMap(
      (name): Array<[string, RawRecord]> => [
        [`with another ${name}`, header(name, 'other')],
        [
          `with a second ${name}`,
          header(name, [String(command.headers[name]), String(command.headers[name])]),
        ],
        [`without ${name}`, header(name, [])],
      ],
    ),
  ])('%s', (_how, record) => expect(verify(received(record))).toMatch(/MAC/))
})

test('a rotation overlaps: what the old key signed still verifies until it leaves the ring', () => {
  const earlier = received(createCommandSigner([old, current])(command))
  expect(verify(earlier)).toBeUndefined()
  expect(createCommandVerifier([current])(earlier)).toMatch('a key that this ledger does not have')
})

test('only commands are signed, and one that carries a MAC gets a new one', async () => {
  const sent: RawRecord[] = []
  const publisher = signCommands(
    {
      publish: async record => void sent.push(record),
      publishAll: async records => void sent.push(...records),
    },
    sign,
  )
  await publisher.publish(createCommandSigner([old])(command))
  await publisher.publishAll([command, { ...command, topic: 'notifier.commands' }])
  const macs = sent.map(({ headers }) => headers[COMMAND_MAC_HEADER])
  expect(macs).toEqual([expect.stringMatching(/^current\./), macs[0], undefined])
})

test.each([
  [{ kid: 'a', key: 'c2hvcnQ' }, 'key must have at least 32 bytes'],
  [{ kid: 'a.b', key: randomBytes(32).toString('base64url') }, 'must be 1 to 64'],
  [{ keys: [] }, 'Invalid input'],
])('a key ring of a wrong form is refused', (content, reason) => {
  const { error } = commandMacKeys.safeParse(content)
  expect(JSON.stringify(error?.issues)).toContain(reason)
})
