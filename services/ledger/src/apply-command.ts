// What each command does to the books of a batch, in memory: decided by the rules, then written down as one event and
// the rows that belong to it. Everything here happens after the wallets are locked and before anything is written.
import { createHash } from 'node:crypto'
import { displacedDepositIdOf, externalWalletId, suspenseWalletId } from '@pennywire/contracts/ids.ts'
import type {
  HoldCaptureRequested,
  HoldVoidRequested,
  LimitChangeRequested,
  RecordName,
  Records,
  ReversalRequested,
  TransferRequested,
  WalletCloseRequested,
  WalletFreezeRequested,
  WalletOpenRequested,
  WalletUnfreezeRequested,
} from '@pennywire/contracts/schemas.ts'
import { drawWalletCode } from '@pennywire/contracts/wallet-code.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import {
  type Accepted,
  checkMovement,
  type Decision,
  decideCapture,
  decideDeposit,
  decideHold,
  decideReversal,
  decideTransfer,
  decideVoid,
  decideWithdrawal,
  type Original,
  post,
  type Rejected,
  type Wallet,
} from '@pennywire/rules/decide.ts'
import { isTier, type LimitDefaults, NOTHING_USED } from '@pennywire/rules/limits.ts'
import {
  decideClose,
  decideFreeze,
  decideLimitChange,
  decideUnfreeze,
  decideWalletOpen,
} from '@pennywire/rules/wallet-rules.ts'
import type { Understood } from './read-command.ts'
import type { Earlier, HoldRow, JournalRow, LimitRow, StatusRow, UsersWallet, Writes } from './store.ts'

/** A batch's view of the books: what was read under the locks, changed by one command after the other. */
export type Books = {
  now: Date
  limitDefaults: LimitDefaults
  wallets: Map<string, Wallet>
  /** All wallets of the users who open one, oldest first, and what was set for those that are closed. */
  usersWallets: UsersWallet[]
  inheritable: LimitRow[]
  holds: Map<string, HoldRow>
  originals: Map<string, Original>
  wantedOriginals: Set<string>
  earlier: Map<string, Earlier>
  repeated: Earlier[]
  changed: Map<string, Wallet>
  writes: Writes
  counts: {
    completed: number
    rejected: number
    held: number
    released: number
    opened: number
    /** Frozen, unfrozen, closed, limited. */
    changed: number
    refused: number
    repeated: number
    suspense: number
  }
  /** Encodes an event and gives it its place in the journal. Throws, with nothing done, where it cannot be encoded. */
  append: <Name extends RecordName>(
    record: IncomingRecord,
    name: Name,
    value: Records[Name],
    subject: string,
  ) => JournalRow
}

type CommandHead = { id: string; type: string; fingerprint: Buffer }

/** What a transfer says of itself, whichever command asked for it. */
type Said = {
  transferId: string
  type: string
  userId: string
  fromWalletId: string | null
  toWalletId: string | null
  amountMinor: bigint
  currency: string
  fingerprint: Buffer
  requestedAt: number
  note: Buffer | null
  metadata: Buffer | null
}

/** Decides one command and notes what it changes. Throws, with nothing noted, where it can neither be done nor refused. */
export const applyCommand = (books: Books, record: IncomingRecord, asked: Understood): void => {
  switch (asked.type) {
    case 'pennywire.ledger.TransferRequested':
      applyTransfer(books, record, asked.value)
      break
    case 'pennywire.ledger.ReversalRequested':
      applyReversal(books, record, asked.value)
      break
    case 'pennywire.ledger.HoldCaptureRequested':
      applyCapture(books, record, asked.value)
      break
    case 'pennywire.ledger.HoldVoidRequested':
      applyVoid(books, record, asked.value)
      break
    case 'pennywire.ledger.WalletOpenRequested':
      applyWalletOpen(books, record, asked.value)
      break
    case 'pennywire.ledger.WalletFreezeRequested':
      applyFreeze(books, record, asked.value)
      break
    case 'pennywire.ledger.WalletUnfreezeRequested':
      applyUnfreeze(books, record, asked.value)
      break
    case 'pennywire.ledger.WalletCloseRequested':
      applyClose(books, record, asked.value)
      break
    case 'pennywire.ledger.LimitChangeRequested':
      applyLimitChange(books, record, asked.value)
      break
  }
}

const UNDECIDED = {
  outcome: 'rejected',
  code: 'INTERNAL_ERROR',
  detail: 'The request could not be decided; it was set aside for a person.',
} as const satisfies Rejected

/** The outcome of a command that was set aside, so that whoever waits for it need not wait for a person. */
export const answerUndecided = (books: Books, record: IncomingRecord, asked: Understood): void => {
  if (asked.type === 'pennywire.ledger.TransferRequested') {
    reject(books, record, asked.value, UNDECIDED)
  } else if (asked.type === 'pennywire.ledger.ReversalRequested') {
    reject(books, record, reversalSaid(asked.value), UNDECIDED, asked.value.originalId)
  } else {
    const { value, type } = asked
    const fingerprint = 'fingerprint' in value ? value.fingerprint : openFingerprint(value)
    refuseForGood(books, record, { id: value.commandId, type: shortName(type), fingerprint }, UNDECIDED)
  }
}

const shortName = (type: string) => type.slice(type.lastIndexOf('.') + 1)

// ---- what was decided before, and refusals

/** Whether the id was decided before: then the first outcome stands, and another request under it is refused. */
const settledBefore = (books: Books, record: IncomingRecord, command: CommandHead): boolean => {
  const first = books.earlier.get(command.id)
  if (!first) return false
  if (first.fingerprint.equals(command.fingerprint)) {
    books.repeated.push(first)
    books.counts.repeated++
  } else {
    refuse(books, record, command, {
      code: 'IDEMPOTENCY_KEY_REUSED',
      detail: "The id belongs to a request with other content; that one's outcome stands.",
    })
  }
  return true
}

const refuse = (
  books: Books,
  record: IncomingRecord,
  command: CommandHead,
  { code, detail }: { code: string; detail: string },
): JournalRow => {
  books.counts.refused++
  return books.append(
    record,
    'pennywire.ledger.CommandRefused',
    {
      commandId: command.id,
      commandType: command.type,
      code,
      detail,
      fingerprint: command.fingerprint,
      refusedAt: books.now.getTime(),
    },
    command.id,
  )
}

/**
 * Notes a command's one outcome under its id, whatever its kind: a repeat is answered with this event, and a rival with
 * the same id, in another partition at the same moment, breaks the unique key (X1).
 */
const settle = (
  books: Books,
  record: IncomingRecord,
  command: Pick<CommandHead, 'id' | 'fingerprint'>,
  { seq }: Pick<JournalRow, 'seq'>,
) => {
  const row = { id: command.id, fingerprint: command.fingerprint, partition: record.partition, seq }
  books.writes.commands.push(row)
  books.earlier.set(command.id, row)
}

/** A refusal is the command's one outcome too: the id stays taken. */
const refuseForGood = (
  books: Books,
  record: IncomingRecord,
  command: CommandHead,
  why: { code: string; detail: string },
) => settle(books, record, command, refuse(books, record, command, why))

const reject = (
  books: Books,
  record: IncomingRecord,
  said: Said,
  { code, detail, breach }: Rejected,
  originalId: string | null = null,
) => {
  const { note: _, metadata: __, ...request } = said
  const { seq } = books.append(
    record,
    'pennywire.ledger.TransferRejected',
    {
      transferId: request.transferId,
      type: request.type,
      userId: request.userId,
      fromWalletId: request.fromWalletId,
      toWalletId: request.toWalletId,
      amountMinor: request.amountMinor,
      currency: request.currency,
      fingerprint: request.fingerprint,
      requestedAt: request.requestedAt,
      rejectedAt: books.now.getTime(),
      code,
      detail,
      limitMinor: breach?.limit ?? null,
      usedMinor: breach?.used ?? null,
    },
    said.transferId,
  )
  books.writes.transfers.push({
    ...transferRow(books, record, said, seq),
    status: 'rejected',
    rejectionCode: code,
    rejectionDetail: detail,
    rejectionLimit: breach?.limit ?? null,
    rejectionUsed: breach?.used ?? null,
    originalId,
  })
  settle(books, record, { id: said.transferId, fingerprint: said.fingerprint }, { seq })
  noteOriginal(books, { ...said, status: 'rejected' })
  books.counts.rejected++
}

/** What is given back later in this very batch is found. */
const noteOriginal = (books: Books, said: Said & Pick<Original, 'status'>) => {
  if (!books.wantedOriginals.has(said.transferId)) return
  const { transferId: id, type, status, fromWalletId, toWalletId, amountMinor: amount, currency } = said
  books.originals.set(id, { id, type, status, fromWalletId, toWalletId, amount, currency, reversed: 0n })
}

// ---- money

const applyTransfer = (books: Books, record: IncomingRecord, asked: TransferRequested) => {
  const request = asked.type === 'deposit' ? displaceDeposit(books.earlier, asked) : asked
  const { transferId, fingerprint } = request
  if (settledBefore(books, record, { id: transferId, type: 'TransferRequested', fingerprint })) return
  const decision = decideMovement(books, record, request)
  if (decision.outcome === 'rejected') return reject(books, record, request, decision)
  if (decision.postings.length === 0) return placeHold(books, record, request, decision)
  complete(books, record, request, decision)
  settle(books, record, { id: transferId, fingerprint }, books.writes.journal.at(-1)!)
}

const decideMovement = (books: Books, record: IncomingRecord, request: TransferRequested): Decision => {
  const wallet = (id: string | null) => (id === null ? undefined : books.wallets.get(id))
  const from = wallet(request.fromWalletId)
  const to = wallet(request.toWalletId)
  const circumstances = { nowMs: books.now.getTime(), defaults: books.limitDefaults }
  switch (request.type) {
    case 'transfer':
      return decideTransfer(request, from, to, circumstances)
    case 'hold':
      return decideHold(request, from, to, circumstances)
    case 'withdrawal':
      return decideWithdrawal(request, from, circumstances)
    case 'deposit': {
      const { outside, suspense } = systemWallets(books, record, request.currency)
      return decideDeposit(request, outside, to, suspense)
    }
    default:
      throw new Error(`type ${request.type} is not known to this version`)
  }
}

const systemWallets = (books: Books, { partition }: IncomingRecord, currency: string) => ({
  outside: books.wallets.get(externalWalletId(currency, partition))!,
  suspense: books.wallets.get(suspenseWalletId(currency, partition))!,
})

/** A deposit is a fact: if another request has its id, it is booked under one of its own instead of refused. */
const displaceDeposit = (earlier: Map<string, Earlier>, request: TransferRequested): TransferRequested => {
  const holder = earlier.get(request.transferId)
  if (!holder || holder.fingerprint.equals(request.fingerprint)) return request
  return { ...request, transferId: displacedDepositIdOf(request.transferId) }
}

/** The entries that an accepted movement makes, as its event tells them. */
const entriesOf = ({ postings }: Accepted) =>
  postings.map(({ wallet, amount }) => ({
    walletId: wallet.id,
    userId: wallet.userId,
    currency: wallet.currency,
    amountMinor: amount,
    balanceAfterMinor: wallet.balance + amount,
    sequence: wallet.sequence + 1,
  }))

/** Posts a movement with entries and writes it as a completed transfer, whose event stands at `seq`. */
const book = (
  books: Books,
  record: IncomingRecord,
  said: Said,
  movement: Accepted,
  seq: bigint,
  originalId: string | null = null,
) => {
  const entries = entriesOf(movement)
  apply(books, movement)
  const [from, to] = movement.postings
  for (const entry of entries) {
    books.writes.entries.push({
      walletId: entry.walletId,
      sequence: entry.sequence,
      transferId: said.transferId,
      amount: entry.amountMinor,
      balanceAfter: entry.balanceAfterMinor,
    })
  }
  books.writes.transfers.push({
    ...transferRow(books, record, said, seq),
    fromWallet: from!.wallet.id,
    fromSequence: from!.wallet.sequence,
    toWallet: to!.wallet.id,
    toSequence: to!.wallet.sequence,
    originalId,
  })
  const [fromWalletId, toWalletId] = [from!.wallet.id, to!.wallet.id]
  noteOriginal(books, { ...said, status: 'completed', fromWalletId, toWalletId })
  books.counts.completed++
  const toSystem = to!.wallet.userId === null
  if (toSystem && toWalletId === suspenseWalletId(said.currency, record.partition)) books.counts.suspense++
}

/** Applies a movement to the wallets in memory and notes which changed. */
const apply = (books: Books, movement: Accepted) => {
  post(movement, books.now.getTime())
  for (const { wallet } of movement.postings) books.changed.set(wallet.id, wallet)
  for (const touched of [movement.held, movement.counted]) {
    if (touched) books.changed.set(touched.wallet.id, touched.wallet)
  }
}

const complete = (
  books: Books,
  record: IncomingRecord,
  said: Said,
  movement: Accepted,
  captured: { commandId: string; holdMinor: bigint } | null = null,
) => {
  const { transferId, type, userId, fromWalletId, toWalletId, amountMinor, currency } = said
  checkMovement(movement)
  const { seq } = books.append(
    record,
    'pennywire.ledger.TransferCompleted',
    {
      transferId,
      type,
      userId,
      fromWalletId,
      toWalletId,
      amountMinor,
      currency,
      fingerprint: said.fingerprint,
      requestedAt: said.requestedAt,
      note: said.note,
      metadata: said.metadata,
      completedAt: books.now.getTime(),
      entries: entriesOf(movement),
      commandId: captured?.commandId ?? null,
      holdMinor: captured?.holdMinor ?? null,
    },
    captured?.commandId ?? transferId,
  )
  book(books, record, said, movement, seq)
}

const placeHold = (books: Books, record: IncomingRecord, request: TransferRequested, movement: Accepted) => {
  const { transferId, type, userId, toWalletId, amountMinor, currency, fingerprint } = request
  const { wallet } = movement.held!
  const nowMs = books.now.getTime()
  // A withdrawal ends by what the provider says, whatever the time.
  const holdUntil = type === 'withdrawal' ? null : request.holdUntil
  checkMovement(movement)
  const event = books.append(
    record,
    'pennywire.ledger.HoldPlaced',
    {
      transferId,
      type,
      userId,
      fromWalletId: wallet.id,
      toWalletId,
      amountMinor,
      currency,
      fingerprint,
      requestedAt: request.requestedAt,
      placedAt: nowMs,
      holdUntil,
      balanceMinor: wallet.balance,
      heldMinor: wallet.held + amountMinor,
      sequence: wallet.sequence,
      note: request.note,
      metadata: request.metadata,
      toUserId: books.wallets.get(toWalletId ?? '')?.userId ?? null,
    },
    transferId,
  )
  apply(books, movement)
  const hold: HoldRow = {
    id: transferId,
    type: type === 'withdrawal' ? 'withdrawal' : 'hold',
    status: 'active',
    userId,
    walletId: wallet.id,
    toWalletId,
    amount: amountMinor,
    currency,
    placedMs: nowMs,
    untilMs: holdUntil,
    fingerprint,
    note: request.note,
    metadata: request.metadata,
    requestedAt: new Date(request.requestedAt),
  }
  books.writes.holds.push({ ...hold })
  books.holds.set(hold.id, hold)
  settle(books, record, { id: transferId, fingerprint }, event)
  books.counts.held++
}

const applyCapture = (books: Books, record: IncomingRecord, command: HoldCaptureRequested) => {
  const { commandId, holdId, fingerprint } = command
  const head = { id: commandId, type: 'HoldCaptureRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const hold = books.holds.get(holdId)
  const recipient = books.wallets.get(
    command.toWalletId ?? externalWalletId(command.currency, record.partition),
  )
  const payer = books.wallets.get(command.walletId)
  const decision = decideCapture(command, hold, payer, recipient, books.now.getTime())
  if (decision.outcome === 'rejected') return refuseForGood(books, record, head, decision)
  const said: Said = {
    transferId: holdId,
    type: hold!.type === 'withdrawal' ? 'withdrawal' : 'transfer',
    userId: hold!.userId,
    fromWalletId: hold!.walletId,
    toWalletId: hold!.toWalletId,
    amountMinor: decision.postings[1]!.amount,
    currency: hold!.currency,
    fingerprint: hold!.fingerprint,
    requestedAt: hold!.requestedAt.getTime(),
    note: hold!.note,
    metadata: hold!.metadata,
  }
  complete(books, record, said, decision, { commandId, holdMinor: hold!.amount })
  settle(books, record, head, books.writes.journal.at(-1)!)
  endHold(books, hold!, 'captured', said.amountMinor, commandId)
}

const applyVoid = (books: Books, record: IncomingRecord, command: HoldVoidRequested) => {
  const { commandId, holdId, fingerprint, source } = command
  const head = { id: commandId, type: 'HoldVoidRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const hold = books.holds.get(holdId)
  const payer = books.wallets.get(command.walletId)
  const recipient = books.wallets.get(command.toWalletId ?? '')
  const decision = decideVoid(command, hold, payer, recipient, books.now.getTime())
  if (decision.outcome === 'rejected') return refuseForGood(books, record, head, decision)
  const { wallet, amount } = decision.held!
  checkMovement(decision)
  const event = books.append(
    record,
    'pennywire.ledger.HoldEnded',
    {
      commandId,
      holdId,
      type: hold!.type,
      reason: source === 'timer' ? 'expired' : source === 'provider' ? 'payment_failed' : 'voided',
      userId: hold!.userId,
      fromWalletId: wallet.id,
      toWalletId: hold!.toWalletId,
      amountMinor: hold!.amount,
      currency: hold!.currency,
      balanceMinor: wallet.balance,
      heldMinor: wallet.held + amount,
      sequence: wallet.sequence,
      endedAt: books.now.getTime(),
      toUserId: books.wallets.get(hold!.toWalletId ?? '')?.userId ?? null,
    },
    commandId,
  )
  apply(books, decision)
  settle(books, record, head, event)
  endHold(books, hold!, source === 'timer' ? 'expired' : 'voided', 0n, commandId)
  books.counts.released++
}

const endHold = (
  books: Books,
  hold: HoldRow,
  status: 'captured' | 'voided' | 'expired',
  captured: bigint,
  commandId: string,
) => {
  hold.status = status
  books.writes.holdEnds.push({ id: hold.id, status, captured, commandId, endedAt: books.now })
}

const reversalSaid = (request: ReversalRequested): Said => ({ ...request, type: 'reversal', metadata: null })

const applyReversal = (books: Books, record: IncomingRecord, request: ReversalRequested) => {
  const { transferId, originalId, fingerprint, currency } = request
  if (settledBefore(books, record, { id: transferId, type: 'ReversalRequested', fingerprint })) return
  const original = books.originals.get(originalId)
  const decision = decideReversal(request, original, {
    payer: books.wallets.get(request.fromWalletId ?? ''),
    payee: books.wallets.get(request.toWalletId ?? ''),
    ...systemWallets(books, record, currency),
  })
  const said = reversalSaid(request)
  if (decision.outcome === 'rejected') return reject(books, record, said, decision, originalId)
  const reversed = original!.reversed + request.amountMinor
  checkMovement(decision)
  const event = books.append(
    record,
    'pennywire.ledger.TransferReversed',
    {
      transferId,
      originalId,
      type: 'reversal',
      userId: request.userId,
      source: request.source,
      fromWalletId: request.fromWalletId,
      toWalletId: request.toWalletId,
      amountMinor: request.amountMinor,
      currency,
      originalAmountMinor: original!.amount,
      reversedMinor: reversed,
      fingerprint,
      requestedAt: request.requestedAt,
      completedAt: books.now.getTime(),
      note: request.note,
      entries: entriesOf(decision),
    },
    transferId,
  )
  book(books, record, said, decision, event.seq, originalId)
  original!.reversed = reversed
  books.writes.reversals.push({ originalId, transferId, amount: request.amountMinor })
  settle(books, record, { id: transferId, fingerprint }, event)
}

// ---- wallets

const openFingerprint = ({ walletId, userId, currency }: WalletOpenRequested): Buffer =>
  createHash('sha256').update(`${walletId} ${userId} ${currency}`).digest().subarray(0, 16)

const applyWalletOpen = (books: Books, record: IncomingRecord, request: WalletOpenRequested) => {
  const { commandId, walletId, userId, currency } = request
  const command = { id: commandId, type: 'WalletOpenRequested', fingerprint: openFingerprint(request) }
  if (settledBefore(books, record, command)) return
  const before = books.usersWallets.filter(wallet => wallet.userId === userId && wallet.currency === currency)
  const decision = decideWalletOpen(
    request,
    books.wallets.has(walletId) || before.some(({ status }) => status !== 'closed'),
  )
  if (decision.outcome === 'refused') return refuseForGood(books, record, command, decision)
  // Whoever closes a wallet and opens another goes on with what was used of its limits, and with what staff set.
  const last = before.at(-1)
  const tier =
    last?.tier === 'verified' || !isTier(request.tier) ? (last?.tier ?? 'unverified') : request.tier
  const usage = last?.usage ?? NOTHING_USED
  const ownLimits = books.inheritable
    .filter(limits => limits.walletId === last?.id)
    .map(limits => ({ ...limits, walletId }))
  // A code that is taken breaks the unique key, and the batch runs again and draws another.
  const code = drawWalletCode()
  const event = { commandId, walletId, code, userId, currency, sequence: 0, openedAt: books.now.getTime() }
  settle(books, record, command, books.append(record, 'pennywire.ledger.WalletOpened', event, commandId))
  books.writes.opened.push({ id: walletId, userId, code, currency, tier, usage, openedAt: books.now })
  books.writes.limits.push(...ownLimits)
  books.usersWallets.push({
    id: walletId,
    userId,
    currency,
    status: 'active',
    tier,
    usage,
  })
  // Money for it later in this very batch finds it.
  books.wallets.set(walletId, {
    id: walletId,
    userId,
    currency,
    status: 'active',
    freezeSource: null,
    balance: 0n,
    held: 0n,
    sequence: 0,
    tier,
    usage,
    ownLimits,
  })
  books.counts.opened++
}

/** Notes a wallet's new state, and that its command is done. */
const changeStatus = (
  books: Books,
  record: IncomingRecord,
  command: CommandHead,
  event: JournalRow,
  wallet: Wallet,
  change: Omit<StatusRow, 'id'>,
) => {
  wallet.status = change.status
  wallet.freezeSource = change.freezeSource
  const { writes } = books
  writes.statuses = [...writes.statuses.filter(row => row.id !== wallet.id), { id: wallet.id, ...change }]
  settle(books, record, command, event)
  books.counts.changed++
}

const applyFreeze = (books: Books, record: IncomingRecord, command: WalletFreezeRequested) => {
  const { commandId, walletId, fingerprint, userId, reason } = command
  const head = { id: commandId, type: 'WalletFreezeRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const wallet = books.wallets.get(walletId)
  const decision = decideFreeze(command, wallet)
  if (decision.outcome === 'refused') return refuseForGood(books, record, head, decision)
  const { source } = decision
  const event = books.append(
    record,
    'pennywire.ledger.WalletFrozen',
    {
      commandId,
      walletId,
      userId,
      ownerId: wallet!.userId!,
      source,
      reason,
      sequence: wallet!.sequence,
      frozenAt: books.now.getTime(),
    },
    commandId,
  )
  const change = { status: 'frozen', freezeSource: source, reason, closedAt: null } as const
  changeStatus(books, record, head, event, wallet!, change)
}

const applyUnfreeze = (books: Books, record: IncomingRecord, command: WalletUnfreezeRequested) => {
  const { commandId, walletId, fingerprint, userId, source, reason } = command
  const head = { id: commandId, type: 'WalletUnfreezeRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const wallet = books.wallets.get(walletId)
  const decision = decideUnfreeze(command, wallet)
  if (decision.outcome === 'refused') return refuseForGood(books, record, head, decision)
  const event = books.append(
    record,
    'pennywire.ledger.WalletUnfrozen',
    {
      commandId,
      walletId,
      userId,
      ownerId: wallet!.userId!,
      source,
      reason,
      sequence: wallet!.sequence,
      unfrozenAt: books.now.getTime(),
    },
    commandId,
  )
  const change = { status: 'active', freezeSource: null, reason: null, closedAt: null } as const
  changeStatus(books, record, head, event, wallet!, change)
}

const applyClose = (books: Books, record: IncomingRecord, command: WalletCloseRequested) => {
  const { commandId, walletId, fingerprint } = command
  const head = { id: commandId, type: 'WalletCloseRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const wallet = books.wallets.get(walletId)
  const decision = decideClose(command, wallet)
  if (decision.outcome === 'refused') return refuseForGood(books, record, head, decision)
  const event = books.append(
    record,
    'pennywire.ledger.WalletClosed',
    {
      commandId,
      walletId,
      userId: wallet!.userId!,
      currency: wallet!.currency,
      sequence: wallet!.sequence,
      closedAt: books.now.getTime(),
    },
    commandId,
  )
  const change = { status: 'closed', freezeSource: null, reason: null, closedAt: books.now } as const
  changeStatus(books, record, head, event, wallet!, change)
  // Opened anew in this very batch, it goes on with what it has become in it.
  const own = books.usersWallets.find(({ id }) => id === walletId)
  if (!own) return
  Object.assign(own, { status: 'closed', tier: wallet!.tier, usage: wallet!.usage })
  books.inheritable = [
    ...books.inheritable.filter(limits => limits.walletId !== walletId),
    ...wallet!.ownLimits.map(limits => ({ ...limits, walletId })),
  ]
}

const applyLimitChange = (books: Books, record: IncomingRecord, command: LimitChangeRequested) => {
  const { commandId, walletId, fingerprint, userId, source } = command
  const head = { id: commandId, type: 'LimitChangeRequested', fingerprint }
  if (settledBefore(books, record, head)) return
  const wallet = books.wallets.get(walletId)
  const decision = decideLimitChange(command, wallet, books.limitDefaults)
  if (decision.outcome === 'refused') return refuseForGood(books, record, head, decision)
  const { limits, tier } = decision
  const event = books.append(
    record,
    'pennywire.ledger.LimitChanged',
    {
      commandId,
      walletId,
      userId,
      ownerId: wallet!.userId!,
      source,
      action: limits?.action ?? '',
      perTransactionMinor: limits?.perTransaction ?? null,
      dailyMinor: limits?.daily ?? null,
      monthlyMinor: limits?.monthly ?? null,
      tier,
      sequence: wallet!.sequence,
      changedAt: books.now.getTime(),
    },
    commandId,
  )
  const { writes } = books
  if (tier !== null) {
    wallet!.tier = tier
    writes.tiers = [...writes.tiers.filter(row => row.id !== walletId), { id: walletId, tier }]
  }
  if (limits !== null) {
    const isOther = (other: { action: string; source: string }) =>
      other.action !== limits.action || other.source !== limits.source
    wallet!.ownLimits = [...wallet!.ownLimits.filter(isOther), limits]
    writes.limits = [
      ...writes.limits.filter(row => row.walletId !== walletId || isOther(row)),
      { walletId, ...limits },
    ]
  }
  settle(books, record, head, event)
  books.counts.changed++
}

const transferRow = (books: Books, record: IncomingRecord, said: Said, seq: bigint) => ({
  id: said.transferId,
  type: said.type,
  status: 'completed' as const,
  userId: said.userId,
  fromWallet: said.fromWalletId,
  fromSequence: null,
  toWallet: said.toWalletId,
  toSequence: null,
  amount: said.amountMinor,
  currency: said.currency,
  fingerprint: said.fingerprint,
  note: said.note,
  metadata: said.metadata,
  requestedAt: new Date(said.requestedAt),
  decidedAt: books.now,
  rejectionCode: null,
  rejectionDetail: null,
  rejectionLimit: null,
  rejectionUsed: null,
  originalId: null,
  partition: record.partition,
  seq,
})
