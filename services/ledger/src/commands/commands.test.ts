// A handler decides only by the rows that its `reads` name: no other row is locked.
import { inspect } from 'node:util'
import { externalWalletId, suspenseWalletId } from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { examplesOf } from '@pennywire/contracts/schema-examples.ts'
import {
  canonicalSchema,
  isLedgerCommand,
  type LedgerCommand,
  type LedgerCommandName,
  RECORD_NAMES,
  type Records,
} from '@pennywire/contracts/schemas.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import {
  bobs,
  capture,
  circumstances,
  hold,
  NOW,
  original,
  request,
  reversal,
  system,
  voidHold,
  wallet,
} from '@pennywire/rules/test-wallets.ts'
import { expect, test } from 'vitest'
import { type BatchState, openBatchState, type Rows } from '../batch-state.ts'
import { lockSetOf } from '../lock-set.ts'
import { HANDLERS } from './index.ts'

const PARTITION = 7
const [EXTERNAL, SUSPENSE] = [externalWalletId('USD', PARTITION), suspenseWalletId('USD', PARTITION)]
const head = { commandId: 'command-1', walletId: 'wallet-a', userId: 'alice' }
const fields = { ...head, fingerprint: Buffer.alloc(16), requestedAt: NOW, reason: null }
const limits = { perTransactionMinor: 1n, dailyMinor: null, monthlyMinor: null }
const withdrawn = { source: 'provider', toWalletId: null } as const

/** Commands whose variants need different rows; every other command has one example. */
const VARIANTS: { [Name in LedgerCommandName]?: Records[Name][] } = {
  'pennywire.ledger.TransferRequested': [
    ...['transfer', 'hold'].map(type => request({ type })),
    request({ type: 'withdrawal', toWalletId: null }),
    request({ type: 'deposit', fromWalletId: null }),
  ],
  'pennywire.ledger.HoldCaptureRequested': [capture(), capture(withdrawn)],
  'pennywire.ledger.HoldVoidRequested': [voidHold(), voidHold(withdrawn), voidHold({ source: 'timer' })],
  'pennywire.ledger.ReversalRequested': [reversal(), reversal({ source: 'provider', fromWalletId: null })],
  'pennywire.ledger.LimitChangeRequested': [
    { ...fields, ...limits, source: 'self', action: 'send', tier: null, keeps: [] },
    { ...fields, ...limits, source: 'kyc', action: '', tier: 'verified', keeps: [] },
  ],
}
const exampleOf = (name: LedgerCommandName) => ({
  ...(examplesOf(JSON.parse(canonicalSchema(name)), name).full as object),
  ...head,
  ...{ source: 'self', tier: 'verified' },
})
const commands = RECORD_NAMES.filter(isLedgerCommand).flatMap(type =>
  (VARIANTS[type] ?? [exampleOf(type)]).map(value => ({ type, value }) as LedgerCommand),
)

/** A map that records which keys were looked up. */
const watched = <Value>(values: Map<string, Value>): Map<string, Value> & { looked: Set<string> } => {
  const looked = new Set<string>()
  const look = (key: string) => void (key !== '' && looked.add(key))
  return Object.assign(new Map(values), {
    looked,
    get: (key: string) => {
      look(key)
      return values.get(key)
    },
    has: (key: string) => {
      look(key)
      return values.has(key)
    },
  })
}

/** A batch state with all rows, or with the system wallets alone. */
const booksOf = (type: 'hold' | 'withdrawal', filled: boolean): BatchState => {
  const held = { ...hold({ type, toWalletId: type === 'hold' ? 'wallet-b' : null }) }
  const rest = { fingerprint: Buffer.alloc(16), note: null, metadata: null, requestedAt: new Date(NOW) }
  const wallets = [system({ id: EXTERNAL }), system({ id: SUSPENSE })]
  if (filled) wallets.push(wallet({ held: 100n }), bobs({ balance: 100n }))
  const rows: Rows = {
    now: new Date(NOW),
    partitions: new Map(),
    wallets: new Map(wallets.map(one => [one.id, one])),
    usersWallets: [],
    inheritable: [],
    holds: filled ? [{ ...held, ...rest }] : [],
    originals: filled ? [original()] : [],
    wantedOriginals: [],
    outcomes: [],
  }
  const codec = {} as BatchState['codec']
  return openBatchState(rows, { codec, limitDefaults: circumstances().defaults, systemBound: MAX_MINOR })
}

const decide = <Name extends LedgerCommandName>(
  state: BatchState,
  { type, value }: { type: Name; value: Records[Name] },
) => {
  const handler = HANDLERS[type]
  return handler.decide(state, value, { ...handler.identify(value, state.outcomes), partition: PARTITION })
}

test.each(commands.map(command => [command.type, command] as const))(
  'M2: %s is decided by what is locked and read for it, and changes nothing',
  (_name, command) => {
    const set = lockSetOf([{ record: { partition: PARTITION } as IncomingRecord, command }])
    for (const [type, filled] of [
      ['hold', true],
      ['withdrawal', true],
      ['hold', false],
    ] as const) {
      const state = booksOf(type, filled)
      const before = inspect(state, { depth: null })
      const [wallets, holds, originals] = [
        watched(state.wallets),
        watched(state.holds),
        watched(state.originals),
      ]
      decide({ ...state, wallets, holds, originals }, command)
      expect(set.wallets).toEqual(expect.arrayContaining([...wallets.looked]))
      expect(set.holds).toEqual(expect.arrayContaining([...holds.looked]))
      expect(set.originals).toEqual(expect.arrayContaining([...originals.looked]))
      expect(inspect(state, { depth: null })).toBe(before)
    }
  },
)

test('X1: the id and fingerprint that a command is recorded under are among what is read', () => {
  for (const command of commands) {
    const { id } = identify(command)
    expect(lockSetOf([{ record: { partition: PARTITION } as IncomingRecord, command }]).ids).toContain(id)
  }
})

const identify = <Name extends LedgerCommandName>({ type, value }: { type: Name; value: Records[Name] }) =>
  HANDLERS[type].identify(value, new Map())
