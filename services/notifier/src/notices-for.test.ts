import { linkedTransferIdOf, notificationIdOf, referenceOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import type {
  IdentityEvent,
  LedgerEvent,
  Records,
  TransferCompleted,
  TransferRejected,
} from '@pennywire/contracts/schemas.ts'
import { transferCompleted, transferReversed } from '@pennywire/contracts/test-records.ts'
import { renderNotice } from '@pennywire/messages/render-notice.ts'
import { expect, test } from 'vitest'
import { type Notice, noticesFor, noticesForAccount } from './notices-for.ts'

const alice = '11111111-1111-4111-8111-111111111111'
const bob = '22222222-2222-4222-8222-222222222222'
const transferId = transferIdOf(alice, 'key')
const reference = referenceOf(transferId)

const request = {
  transferId,
  type: 'transfer',
  userId: alice,
  fromWalletId: alice,
  toWalletId: bob,
  amountMinor: 1250n,
  currency: 'USD',
  fingerprint: Buffer.alloc(16),
  requestedAt: 1_700_000_000_000,
}
const entry = (userId: string | null, amountMinor: bigint, balanceAfterMinor: bigint) => ({
  walletId: userId ?? '33333333-3333-4333-8333-333333333333',
  userId,
  currency: 'USD',
  amountMinor,
  balanceAfterMinor,
  sequence: 1,
})
const completed = (changed: Partial<TransferCompleted>): LedgerEvent => ({
  type: 'pennywire.ledger.TransferCompleted',
  value: transferCompleted({
    ...{ ...request, completedAt: 1_700_000_000_123 },
    entries: [entry(alice, -1250n, 8750n), entry(bob, 1250n, 1250n)],
    ...changed,
  }),
})
const rejected = (changed: Partial<TransferRejected>): LedgerEvent => ({
  type: 'pennywire.ledger.TransferRejected',
  value: {
    ...request,
    rejectedAt: 1_700_000_000_456,
    code: 'INSUFFICIENT_BALANCE',
    detail: 'amount: the balance is 1.00 USD.',
    limitMinor: null,
    usedMinor: null,
    note: null,
    metadata: null,
    originalId: null,
    toUserId: bob,
    ...changed,
  },
})

/** Notices with their words, as somebody reads them to whom nobody has a name. */
const messagesFor = (record: LedgerEvent) =>
  noticesFor(record).map(notice => ({ ...notice, ...renderNotice('en', notice, null) }))

test('a transfer tells both sides, each its own balance and the other by id', () => {
  expect(noticesFor(completed({}))).toEqual([
    {
      id: notificationIdOf(transferId, alice, 'transfer_sent'),
      userId: alice,
      type: 'transfer_sent',
      data: { amount: '12.50', currency: 'USD', balance: '87.50' },
      aboutUserId: bob,
      transferId,
      createdAt: 1_700_000_000_123,
    },
    {
      id: notificationIdOf(transferId, bob, 'transfer_received'),
      userId: bob,
      type: 'transfer_received',
      data: { amount: '12.50', currency: 'USD', balance: '12.50' },
      aboutUserId: alice,
      transferId,
      createdAt: 1_700_000_000_123,
    },
  ])
})

test('a deposit tells the owner; the outside world is told nothing', () => {
  const deposit = completed({
    type: 'deposit',
    entries: [entry(null, -500n, -500n), entry(alice, 500n, 900n)],
  })
  expect(messagesFor(deposit)).toMatchObject([
    {
      userId: alice,
      type: 'deposit_completed',
      title: 'Deposit completed',
      body: `5.00 USD came into your wallet. Your balance is 9.00 USD (${reference}).`,
    },
  ])
})

test('a type that is newer than this version is money that came or went', () => {
  expect(messagesFor(completed({ type: 'exchange' }))).toMatchObject([
    { type: 'exchange_sent', title: 'Money sent' },
    { type: 'exchange_received', title: 'Money received' },
  ])
})

test.each<[string, Partial<TransferRejected>, object]>([
  [
    'a transfer',
    {},
    {
      type: 'transfer_rejected',
      title: 'Transfer declined',
      body: `Your transfer of 12.50 USD was not made. The balance is too low (${reference}).`,
    },
  ],
  [
    'what a limit refuses, with the limit and what is used of it',
    { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 500_000n, usedMinor: 499_000n },
    {
      body: `Your transfer of 12.50 USD was not made. The limit of the day is used up (limit 5,000.00 USD, used 4,990.00 USD) (${reference}).`,
    },
  ],
  ['a hold', { type: 'hold' }, { type: 'hold_rejected', title: 'Hold declined' }],
  [
    'a reversal',
    { type: 'reversal', code: 'NOT_REVERSIBLE' },
    {
      type: 'reversal_rejected',
      title: 'Reversal declined',
      body: `Your reversal of 12.50 USD was not made. The transfer cannot be reversed (${reference}).`,
    },
  ],
  ['a deposit', { type: 'deposit' }, { type: 'deposit_rejected', title: 'Deposit declined' }],
  [
    'a code newer than this version',
    { code: 'NEW_CODE', detail: 'Something new' },
    { body: `Your transfer of 12.50 USD was not made. Something new (${reference}).` },
  ],
])('a rejection tells who asked, and nobody else: %s', (_what, changed, expected) => {
  expect(messagesFor(rejected(changed))).toEqual([
    expect.objectContaining({ userId: alice, createdAt: 1_700_000_000_456, ...expected }),
  ])
})

const hold: Records['pennywire.ledger.HoldPlaced'] = {
  ...request,
  type: 'hold',
  placedAt: 1_700_000_000_000,
  holdUntil: 1_700_000_600_000,
  balanceMinor: 10_000n,
  heldMinor: 1250n,
  sequence: 3,
  note: null,
  metadata: null,
  toUserId: bob,
}
const end: Records['pennywire.ledger.HoldEnded'] = {
  ...{ commandId: bob, holdId: transferId, type: 'hold', reason: 'voided', userId: alice },
  ...{ fromWalletId: alice, toWalletId: bob, toUserId: bob, amountMinor: 1250n, currency: 'USD' },
  ...{ balanceMinor: 10_000n, heldMinor: 0n, sequence: 3, endedAt: 1_700_000_000_000 },
  commandFingerprint: null,
}
const reversal = transferReversed({
  ...{ transferId, originalId: transferIdOf(bob, 'original'), userId: 'staff' },
  ...{
    fromWalletId: bob,
    toWalletId: alice,
    amountMinor: 500n,
    originalAmountMinor: 1250n,
    reversedMinor: 500n,
  },
  completedAt: 1_700_000_000_000,
  entries: [entry(bob, -500n, 750n), entry(alice, 500n, 9250n)],
})
const original = referenceOf(reversal.originalId)
const staff = '44444444-4444-4444-8444-444444444444'
const change = {
  ...{ commandId: staff, walletId: bob, userId: staff, ownerId: alice, source: 'staff', reason: null },
  ...{ sequence: 3, previousSource: null, commandFingerprint: null },
}
const limits = {
  ...{ perTransactionMinor: 1n, dailyMinor: null, monthlyMinor: null, tier: null, changedAt: 5 },
  ...{ previousPerTransactionMinor: null, previousDailyMinor: null, previousMonthlyMinor: null },
  ...{ previousTier: null, commandFingerprint: null },
}

type Told = [userId: string, type: string, title: string, body: string]

test.each<[string, LedgerEvent, Told[]]>([
  [
    'a withdrawal that was paid out tells the owner',
    completed({
      type: 'withdrawal',
      holdMinor: 1250n,
      entries: [entry(alice, -1250n, 8750n), entry(null, 1250n, 0n)],
    }),
    [
      [
        alice,
        'withdrawal_completed',
        'Withdrawal completed',
        `12.50 USD was paid out. Your balance is 87.50 USD (${reference}).`,
      ],
    ],
  ],
  [
    'what came with a transfer is in the balance, and is told to whom the transfer does not touch',
    completed({
      entries: [
        ...[entry(alice, -1250n, 8750n), { ...entry(null, 1250n, 0n), walletId: 'a desk' }],
        ...[entry(alice, -10n, 8740n), { ...entry(null, 10n, 10n), walletId: 'the house' }],
        ...[{ ...entry(null, -1100n, 0n), walletId: 'another desk' }, entry(bob, 1100n, 1100n)],
      ],
      linked: [
        { transferId: linkedTransferIdOf(transferId, 1), type: 'fee' },
        { transferId: linkedTransferIdOf(transferId, 2), type: 'exchange' },
      ],
    }),
    [
      [alice, 'transfer_sent', 'Money sent', `You sent 12.50 USD. Your balance is 87.40 USD (${reference}).`],
      [
        bob,
        'exchange_received',
        'Money received',
        `You received 11.00 USD. Your balance is 11.00 USD (${referenceOf(linkedTransferIdOf(transferId, 2))}).`,
      ],
    ],
  ],
  [
    'a hold that is captured in part tells both sides, and the payer what is free again',
    completed({ commandId: staff, holdMinor: 2000n }),
    [
      [
        alice,
        'hold_captured',
        'Held money taken',
        `12.50 USD of the 20.00 USD that was held was taken. 7.50 USD is available again. Your balance is 87.50 USD (${reference}).`,
      ],
      [
        bob,
        'transfer_received',
        'Money received',
        `You received 12.50 USD. Your balance is 12.50 USD (${reference}).`,
      ],
    ],
  ],
  [
    'a hold that is captured whole leaves nothing over',
    completed({
      commandId: staff,
      holdMinor: 1250n,
      entries: [entry(alice, -1250n, 8750n), entry(null, 1250n, 0n)],
    }),
    [
      [
        alice,
        'hold_captured',
        'Held money taken',
        `12.50 USD of the 12.50 USD that was held was taken. Your balance is 87.50 USD (${reference}).`,
      ],
    ],
  ],
  [
    'a hold tells both sides until when',
    { type: 'pennywire.ledger.HoldPlaced', value: hold },
    [
      [
        alice,
        'hold_placed',
        'Money held',
        `12.50 USD is held in your wallet until Nov 14, 2023, 10:23 PM UTC. 87.50 USD is available (${reference}).`,
      ],
      [
        bob,
        'incoming_hold_placed',
        'Money held for you',
        `12.50 USD is held for you until Nov 14, 2023, 10:23 PM UTC (${reference}).`,
      ],
    ],
  ],
  [
    'a withdrawal on its way tells the owner',
    {
      type: 'pennywire.ledger.HoldPlaced',
      value: { ...hold, type: 'withdrawal', toWalletId: null, toUserId: null, holdUntil: null },
    },
    [
      [
        alice,
        'withdrawal_started',
        'Withdrawal started',
        `12.50 USD is on its way out and is held for it. 87.50 USD is available (${reference}).`,
      ],
    ],
  ],
  [
    'a hold that is let go tells both sides',
    { type: 'pennywire.ledger.HoldEnded', value: end },
    [
      [
        alice,
        'hold_released',
        'Money no longer held',
        `12.50 USD is no longer held: the hold was lifted. 100.00 USD is available (${reference}).`,
      ],
      [
        bob,
        'incoming_hold_released',
        'Money no longer held for you',
        `12.50 USD is no longer held for you: the hold was lifted (${reference}).`,
      ],
    ],
  ],
  [
    'a hold whose time is over says so',
    { type: 'pennywire.ledger.HoldEnded', value: { ...end, reason: 'expired', toUserId: null } },
    [
      [
        alice,
        'hold_released',
        'Money no longer held',
        `12.50 USD is no longer held: its time is over. 100.00 USD is available (${reference}).`,
      ],
    ],
  ],
  [
    'a withdrawal that failed tells the owner',
    {
      type: 'pennywire.ledger.HoldEnded',
      value: { ...end, type: 'withdrawal', reason: 'payment_failed', toWalletId: null, toUserId: null },
    },
    [
      [
        alice,
        'withdrawal_failed',
        'Withdrawal failed',
        `12.50 USD could not be paid out and stays in your wallet. 100.00 USD is available (${reference}).`,
      ],
    ],
  ],
  [
    'a reversal tells both sides, and not the staff',
    { type: 'pennywire.ledger.TransferReversed', value: reversal },
    [
      [
        bob,
        'reversal_sent',
        'Money taken back',
        `5.00 USD of ${original} was given back. Your balance is 7.50 USD (${reference}).`,
      ],
      [
        alice,
        'reversal_received',
        'Money came back',
        `5.00 USD of ${original} came back to you. Your balance is 92.50 USD (${reference}).`,
      ],
    ],
  ],
  [
    'a payout that came back tells the owner',
    {
      type: 'pennywire.ledger.TransferReversed',
      value: {
        ...reversal,
        source: 'provider',
        entries: [entry(null, -500n, 0n), entry(alice, 500n, 9250n)],
      },
    },
    [
      [
        alice,
        'withdrawal_returned',
        'Withdrawal returned',
        `5.00 USD of ${original} could not be paid out and came back. Your balance is 92.50 USD (${reference}).`,
      ],
    ],
  ],
  ...(
    [
      ['self', 'You froze your wallet: no money leaves it.'],
      ['pin', 'Your wallet was frozen after too many wrong PINs: no money leaves it.'],
      ['staff', 'Our staff froze your wallet: no money leaves it or comes in.'],
      ['new', 'Your wallet was frozen: no money leaves it.'],
    ] as const
  ).map(([source, body]): [string, LedgerEvent, Told[]] => [
    `a freeze tells the owner (${source})`,
    { type: 'pennywire.ledger.WalletFrozen', value: { ...change, source, frozenAt: 5 } },
    [[alice, 'wallet_frozen', 'Wallet frozen', body]],
  ]),
  [
    'a freeze that is lifted tells the owner',
    { type: 'pennywire.ledger.WalletUnfrozen', value: { ...change, unfrozenAt: 5 } },
    [
      [
        alice,
        'wallet_unfrozen',
        'Wallet active again',
        'Our staff lifted the freeze. Your wallet may be used again.',
      ],
    ],
  ],
  [
    'a closing tells the owner',
    {
      type: 'pennywire.ledger.WalletClosed',
      value: {
        commandId: bob,
        walletId: bob,
        userId: alice,
        currency: 'USD',
        sequence: 3,
        closedAt: 5,
        commandFingerprint: null,
      },
    },
    [[alice, 'wallet_closed', 'Wallet closed', 'Your USD wallet is closed. Its history stays.']],
  ],
  [
    'limits that staff changed tell the owner',
    { type: 'pennywire.ledger.LimitChanged', value: { ...change, action: 'send', ...limits } },
    [
      [
        alice,
        'limits_changed',
        'Limits changed',
        'Our staff changed the limits of sending money for one of your wallets.',
      ],
    ],
  ],
  [
    'limits of one’s own tell nobody',
    {
      type: 'pennywire.ledger.LimitChanged',
      value: { ...change, userId: alice, source: 'self', action: 'send', ...limits },
    },
    [],
  ],
])('%s', (_what, record, told) => {
  const notifications = messagesFor(record)
  expect(notifications.map(({ userId, type, title, body }) => [userId, type, title, body])).toEqual(told)
  // Once per event, however often it is delivered; and who did it is never told.
  expect(messagesFor(record)).toEqual(notifications)
  expect(JSON.stringify(notifications)).not.toContain(staff)
})

test('the messages of one hold have ids of their own', () => {
  const records: LedgerEvent[] = [
    { type: 'pennywire.ledger.HoldPlaced', value: hold },
    { type: 'pennywire.ledger.HoldEnded', value: end },
    completed({ commandId: staff, holdMinor: 2000n }),
  ]
  const notifications = records.flatMap(messagesFor)
  expect(new Set(notifications.map(({ id }) => id)).size).toBe(6)
  expect(new Set(notifications.map(({ transferId: about }) => about))).toEqual(new Set([transferId]))
})

test('what is about a wallet names no transfer, and each event is told once', () => {
  const frozen = (commandId: string): LedgerEvent => ({
    type: 'pennywire.ledger.WalletFrozen',
    value: { ...change, commandId, frozenAt: 1_700_000_000_000 },
  })
  const [first, again, second] = [alice, alice, bob].flatMap(id => messagesFor(frozen(id)))
  expect(first).toMatchObject({ transferId: null, createdAt: 1_700_000_000_000 })
  expect(again!.id).toBe(first!.id)
  expect(second!.id).not.toBe(first!.id)
})

test.each<[string, Notice[], Array<[type: string, about: string | null]>]>([
  ['a refused transfer, the recipient', noticesFor(rejected({})), [['transfer_rejected', bob]]],
  [
    'a refused request to oneself, nobody',
    noticesFor(rejected({ toUserId: alice })),
    [['transfer_rejected', null]],
  ],
  [
    'a hold, payer and payee each other',
    noticesFor({ type: 'pennywire.ledger.HoldPlaced', value: hold }),
    [
      ['hold_placed', bob],
      ['incoming_hold_placed', alice],
    ],
  ],
  [
    'a reversal, both sides each other',
    noticesFor({ type: 'pennywire.ledger.TransferReversed', value: reversal }),
    [
      ['reversal_sent', alice],
      ['reversal_received', bob],
    ],
  ],
  [
    'a deposit, nobody',
    noticesFor(
      completed({ type: 'deposit', entries: [entry(null, -500n, -500n), entry(alice, 500n, 900n)] }),
    ),
    [['deposit_completed', null]],
  ],
])('the other side is named by its id: of %s', (_what, notices, expected) => {
  expect(notices.map(({ type, aboutUserId }) => [type, aboutUserId])).toEqual(expected)
})

const account = { eventId: staff, userId: alice, occurredAt: 5 }
const started = { ...account, sessionId: staff, addressHash: null, method: 'password' }

const hook = {
  ...{ ...account, webhookId: staff, byUserId: null, origin: 'https://hooks.example.com:8443' },
  sealedOrigin: null,
}
const changedHook = (reason: string, over: object = {}): IdentityEvent => ({
  type: 'pennywire.identity.WebhookChanged',
  value: {
    ...{ ...hook, eventTypes: [], changed: ['url', 'state'], state: 'active', reason, staffReason: null },
    ...over,
  },
})

test('a webhook is told by its host, with what changed', () => {
  expect(noticesForAccount(changedHook('asked')).map(({ data }) => data)).toEqual([
    { url: 'hooks.example.com:8443', changed: 'url,state' },
  ])
})

test('webhooks that an ended account pauses at one moment are told once; the operator’s are nobody’s', () => {
  const paused = ['one', 'two'].flatMap(eventId =>
    noticesForAccount(changedHook('password_reset', { eventId })),
  )
  expect(new Set(paused.map(({ id }) => id)).size).toBe(1)
  expect(paused[0]).toMatchObject({ type: 'webhooks_paused', data: { reason: 'password_reset' } })
  const later = noticesForAccount(changedHook('password_reset', { occurredAt: 6 }))
  expect(later[0]!.id).not.toBe(paused[0]!.id)
  expect(noticesForAccount(changedHook('asked', { userId: null }))).toEqual([])
})

test.each<[string, IdentityEvent, string[]]>([
  [
    'a sign-in from somewhere new',
    { type: 'pennywire.identity.SessionStarted', value: { ...started, isNewPlace: true } },
    ['signed_in'],
  ],
  [
    'any other sign-in tells nobody anything',
    { type: 'pennywire.identity.SessionStarted', value: { ...started, isNewPlace: false } },
    [],
  ],
  ['a new PIN by a mailed code', { type: 'pennywire.identity.PinReset', value: account }, ['pin_changed']],
  [
    'a new webhook',
    { type: 'pennywire.identity.WebhookAdded', value: { ...hook, eventTypes: [] } },
    ['webhook_added'],
  ],
  ['a changed one', changedHook('asked'), ['webhook_changed']],
  ['one that staff turned off', changedHook('disabled_by_staff'), ['webhook_disabled_by_staff']],
  ['one that failed for too long: the notifier has told it', changedHook('failing'), []],
  ['one that is deleted', { type: 'pennywire.identity.WebhookRemoved', value: hook }, ['webhook_removed']],
  [
    'what staff looked at stays theirs',
    {
      type: 'pennywire.identity.StaffViewed',
      value: {
        ...account,
        byUserId: bob,
        what: 'user',
        subject: null,
        method: 'GET',
        path: '/',
        status: 200,
      },
    } as unknown as IdentityEvent,
    [],
  ],
])('an account: %s', (_what, record, types) => {
  const notices = noticesForAccount(record)
  expect(notices.map(({ type }) => type)).toEqual(types)
  for (const notice of notices) {
    expect(notice).toMatchObject({ userId: alice, transferId: null, aboutUserId: null, createdAt: 5 })
    expect(notice.id).toBe(notificationIdOf(account.eventId, alice, notice.type))
  }
})

test('other records tell nobody anything', () => {
  const opened = {
    walletId: alice,
    userId: alice,
    currency: 'USD',
    commandId: alice,
    code: 'PW-X',
    sequence: 0,
    tier: null,
  }
  expect(messagesFor({ type: 'pennywire.ledger.WalletOpened', value: { ...opened, openedAt: 0 } })).toEqual(
    [],
  )
})
