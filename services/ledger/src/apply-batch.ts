import { createHash } from 'node:crypto'
import { displacedDepositIdOf, externalWalletId, suspenseWalletId } from '@pennywire/contracts/ids.ts'
import type {
  RecordName,
  Records,
  TransferRequested,
  WalletOpenRequested,
} from '@pennywire/contracts/schemas.ts'
import { drawWalletCode } from '@pennywire/contracts/wallet-code.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import { envelope, headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { decideDeposit, decideTransfer, decideWalletOpen, post, type Wallet } from './decide.ts'
import { type Asked, readCommand } from './read-command.ts'
import type {
  Earlier,
  JournalRow,
  LedgerStore,
  LedgerTx,
  PartitionRow,
  SystemWallet,
  Writes,
} from './store.ts'

type Command = { record: IncomingRecord; asked: Asked }

export type BatchResult = {
  /** The batch's events as written to the journal, each partition's in order: committed, not yet published. */
  events: JournalRow[]
  /** Events decided earlier whose command came again: to be published once more, unchanged. */
  repeats: JournalRow[]
  /** Partitions whose next record did not come: nothing of them was applied, read again from here. */
  gaps: Array<{ partition: number; offset: bigint }>
  /** Partitions whose topic is not the one remembered. */
  strangers: Array<{ partition: number; reason: string }>
  /** For each partition with new records: how many of the last ones, in a row, were set aside; and if all were. */
  setAsideInARow: Map<number, { count: number; all: boolean }>
  /** How many records were decided by outcome, for metrics. */
  counts: {
    completed: number
    rejected: number
    opened: number
    refused: number
    repeated: number
    poison: number
    dropped: number
    suspense: number
  }
}

export type ApplyBatchParts = {
  store: LedgerStore
  codec: Codec
  /** Sets a record aside for a person, durably; called before the batch commits, so that none is lost. */
  setAside: (record: IncomingRecord, reason: string) => Promise<void>
}

/** How often a batch that met a rival is run again at once; after that it waits its turn like any failure. */
const RERUNS = 3

/**
 * The money path: applies a batch of commands, whatever has come over all partitions, in one SQL transaction, and
 * returns the events it decided. Balances, entries, transfers, events and the consumed offsets are committed
 * together or not at all (M1-M4, X1, O1); run again, it finds its records below the stored offset and drops them.
 */
export const applyBatch = async (parts: ApplyBatchParts, records: IncomingRecord[]): Promise<BatchResult> => {
  const commands: Command[] = []
  for (const record of records) commands.push({ record, asked: await readCommand(parts.codec, record) })
  for (let run = 0; ; run++) {
    try {
      return await parts.store.transact(tx => applyInTransaction(parts, tx, commands))
    } catch (error) {
      // A rival wrote an id between our look and our write. Run again, we see it: it is never blamed on a record.
      if (!parts.store.isRivalry(error) || run === RERUNS) throw error
    }
  }
}

const applyInTransaction = async (
  parts: ApplyBatchParts,
  tx: LedgerTx,
  commands: Command[],
): Promise<BatchResult> => {
  // 1. The fence, then the wallets, then what is as fresh as the locks. One trip: the server takes them in order.
  const transfers = commands.flatMap(({ asked }) =>
    asked.type === 'pennywire.ledger.TransferRequested' ? asked.value : [],
  )
  const opens = commands.flatMap(({ asked }) =>
    asked.type === 'pennywire.ledger.WalletOpenRequested' ? asked.value : [],
  )
  const ids = [
    ...transfers.map(request => request.transferId),
    ...transfers.flatMap(request =>
      request.type === 'deposit' ? displacedDepositIdOf(request.transferId) : [],
    ),
    ...opens.map(request => request.commandId),
  ]
  const systemWallets = systemWalletsOf(commands)
  const walletIds = new Set([
    ...transfers
      .flatMap(({ fromWalletId, toWalletId }) => [fromWalletId, toWalletId])
      .filter(id => id !== null),
    ...systemWallets.keys(),
  ])
  const [partitionRows, walletRows, earlierRows, openRows, now] = await Promise.all([
    tx.lockPartitions([...new Set(commands.map(({ record }) => record.partition))]),
    tx.lockWallets([...walletIds]),
    tx.findEarlier(ids),
    opens.length > 0 ? tx.findOpenWallets(opens.map(request => request.userId)) : [],
    tx.readClock(),
  ])
  const partitions = new Map(partitionRows.map(row => [row.partition, row]))
  const wallets = new Map(walletRows.map(wallet => [wallet.id, wallet]))
  const earlier = new Map(earlierRows.map(row => [row.id, row]))
  const openWallets = new Set(openRows.map(({ userId, currency }) => `${userId} ${currency}`))
  const missing = [...systemWallets.values()].filter(({ id }) => !wallets.has(id))
  if (missing.length > 0) {
    for (const wallet of await tx.openSystemWallets(missing, now)) wallets.set(wallet.id, wallet)
  }

  // 2. What is new: neither seen before nor ahead of what is still to come.
  const { accepted, gaps, strangers, dropped } = fence(partitions, commands)

  // 3. Decide each in turn, in memory.
  const writes: Writes = {
    partitions: [],
    balances: [],
    transfers: [],
    entries: [],
    opened: [],
    commands: [],
    journal: [],
  }
  const changed = new Map<string, Wallet>()
  const repeated: Earlier[] = []
  const counts = {
    completed: 0,
    rejected: 0,
    opened: 0,
    refused: 0,
    repeated: 0,
    poison: 0,
    dropped,
    suspense: 0,
  }

  /** Encodes an event and gives it its place in the journal. Throws, with nothing done, where it cannot be encoded. */
  const append = <Name extends RecordName>(
    record: IncomingRecord,
    name: Name,
    value: Records[Name],
    subject: string,
  ): JournalRow => {
    const row = partitions.get(record.partition)!
    const seq = row.nextSeq
    const headers = {
      ...envelope({
        id: `${record.partition}-${seq}`,
        type: name,
        source: 'ledger',
        time: now.getTime(),
        subject,
        traceparent: traceOf(record),
      }),
      seq: String(seq),
    }
    const entry = {
      partition: record.partition,
      seq,
      key: record.key?.toString('utf8') ?? '',
      headers: JSON.stringify(headers),
      bytes: parts.codec.encode(name, value),
    }
    row.nextSeq = seq + 1n
    writes.journal.push(entry)
    return entry
  }

  const refuse = (
    record: IncomingRecord,
    command: { id: string; type: string; fingerprint: Buffer },
    code: string,
    detail: string,
  ) => {
    const event = {
      commandId: command.id,
      commandType: command.type,
      code,
      detail,
      fingerprint: command.fingerprint,
      refusedAt: now.getTime(),
    }
    counts.refused++
    return append(record, 'pennywire.ledger.CommandRefused', event, command.id)
  }

  /** Whether the id was decided before: then the first outcome stands, and another request under it is refused. */
  const settledBefore = (
    record: IncomingRecord,
    command: { id: string; type: string; fingerprint: Buffer },
  ): boolean => {
    const first = earlier.get(command.id)
    if (!first) return false
    if (first.fingerprint.equals(command.fingerprint)) {
      repeated.push(first)
      counts.repeated++
    } else {
      refuse(
        record,
        command,
        'IDEMPOTENCY_KEY_REUSED',
        "The id belongs to a request with other content; that one's outcome stands.",
      )
    }
    return true
  }

  const reject = (record: IncomingRecord, request: TransferRequested, code: string, detail: string) => {
    const {
      transferId,
      type,
      userId,
      fromWalletId,
      toWalletId,
      amountMinor,
      currency,
      fingerprint,
      requestedAt,
    } = request
    const { seq } = append(
      record,
      'pennywire.ledger.TransferRejected',
      {
        transferId,
        type,
        userId,
        fromWalletId,
        toWalletId,
        amountMinor,
        currency,
        fingerprint,
        requestedAt,
        rejectedAt: now.getTime(),
        code,
        detail,
      },
      transferId,
    )
    writes.transfers.push({
      ...transferRow(request, now, record.partition, seq),
      status: 'rejected',
      rejectionCode: code,
      rejectionDetail: detail,
    })
    earlier.set(transferId, { id: transferId, fingerprint, partition: record.partition, seq })
    counts.rejected++
  }

  const decideMovement = (record: IncomingRecord, request: TransferRequested) => {
    const wallet = (id: string | null) => (id === null ? undefined : wallets.get(id))
    switch (request.type) {
      case 'transfer':
        return decideTransfer(
          request,
          wallet(request.fromWalletId),
          wallet(request.toWalletId),
          now.getTime(),
        )
      case 'deposit': {
        const outside = wallets.get(externalWalletId(request.currency, record.partition))!
        const suspense = wallets.get(suspenseWalletId(request.currency, record.partition))!
        return decideDeposit(request, outside, wallet(request.toWalletId), suspense)
      }
      default:
        throw new Error(`type ${request.type} is not known to this version`)
    }
  }

  const applyTransfer = (record: IncomingRecord, asked: TransferRequested) => {
    const request = asked.type === 'deposit' ? displaceDeposit(earlier, asked) : asked
    const { transferId, fingerprint } = request
    if (settledBefore(record, { id: transferId, type: 'TransferRequested', fingerprint })) return
    const decision = decideMovement(record, request)
    if (decision.outcome === 'rejected') return reject(record, request, decision.code, decision.detail)

    const entries = decision.postings.map(({ wallet, amount }) => ({
      walletId: wallet.id,
      userId: wallet.userId,
      currency: request.currency,
      amountMinor: amount,
      balanceAfterMinor: wallet.balance + amount,
      sequence: wallet.sequence + 1,
    }))
    const { expiresAt: _, authenticatedBy: __, authenticatedAt: ___, ...said } = request
    const { seq } = append(
      record,
      'pennywire.ledger.TransferCompleted',
      { ...said, completedAt: now.getTime(), entries },
      transferId,
    )
    // Decided and encoded. From here on nothing may be refused: an error below rolls the whole batch back.
    post(decision.postings)
    const [from, to] = decision.postings
    for (const { wallet } of decision.postings) changed.set(wallet.id, wallet)
    for (const entry of entries) {
      writes.entries.push({
        walletId: entry.walletId,
        sequence: entry.sequence,
        transferId,
        amount: entry.amountMinor,
        balanceAfter: entry.balanceAfterMinor,
      })
    }
    writes.transfers.push({
      ...transferRow(request, now, record.partition, seq),
      fromWallet: from.wallet.id,
      fromSequence: from.wallet.sequence,
      toWallet: to.wallet.id,
      toSequence: to.wallet.sequence,
    })
    earlier.set(transferId, { id: transferId, fingerprint, partition: record.partition, seq })
    counts.completed++
    if (request.type === 'deposit' && to.wallet.userId === null) counts.suspense++
  }

  const applyWalletOpen = (record: IncomingRecord, request: WalletOpenRequested) => {
    const { commandId, walletId, userId, currency } = request
    const fingerprint = createHash('sha256')
      .update(`${walletId} ${userId} ${currency}`)
      .digest()
      .subarray(0, 16)
    const command = { id: commandId, type: 'WalletOpenRequested', fingerprint }
    if (settledBefore(record, command)) return
    const decision = decideWalletOpen(request, openWallets.has(`${userId} ${currency}`))
    if (decision.outcome === 'refused') {
      const { seq } = refuse(record, command, decision.code, decision.detail)
      // A refusal is the command's one outcome too: the id stays taken.
      writes.commands.push({ id: commandId, fingerprint, partition: record.partition, seq })
      earlier.set(commandId, { id: commandId, fingerprint, partition: record.partition, seq })
      return
    }
    // A code that is taken breaks the unique key, and the batch runs again and draws another.
    const code = drawWalletCode()
    const event = { commandId, walletId, code, userId, currency, sequence: 0, openedAt: now.getTime() }
    const { seq } = append(record, 'pennywire.ledger.WalletOpened', event, walletId)
    writes.opened.push({ id: walletId, userId, code, currency, openedAt: now })
    writes.commands.push({ id: commandId, fingerprint, partition: record.partition, seq })
    earlier.set(commandId, { id: commandId, fingerprint, partition: record.partition, seq })
    openWallets.add(`${userId} ${currency}`)
    // Money for it later in this very batch finds it.
    wallets.set(walletId, {
      id: walletId,
      userId,
      currency,
      status: 'active',
      freezeSource: null,
      balance: 0n,
      held: 0n,
      sequence: 0,
    })
    counts.opened++
  }

  const setAsideInARow = new Map<number, { count: number; all: boolean }>()
  for (const { record, asked } of accepted) {
    const inARow = setAsideInARow.get(record.partition) ?? { count: 0, all: true }
    setAsideInARow.set(record.partition, inARow)
    try {
      if (asked.type === 'pennywire.ledger.TransferRequested') applyTransfer(record, asked.value)
      else if (asked.type === 'pennywire.ledger.WalletOpenRequested') applyWalletOpen(record, asked.value)
      else throw new UndecodableRecord(asked.reason)
      inARow.count = 0
      inARow.all = false
    } catch (error) {
      // It fails for this record alone, and would again: set it aside, and answer its id where there is one.
      counts.poison++
      inARow.count++
      await parts.setAside(record, error instanceof Error ? error.message : String(error))
      if (asked.type === 'pennywire.ledger.TransferRequested') {
        reject(
          record,
          asked.value,
          'INTERNAL_ERROR',
          'The request could not be decided; it was set aside for a person.',
        )
      }
    }
  }

  // 4. Write what was decided, and what the repeated commands are answered with.
  writes.balances = [...changed.values()]
  writes.partitions = partitionRows.filter(row =>
    accepted.some(({ record }) => record.partition === row.partition),
  )
  const places = repeated.filter(
    first => !writes.journal.some(row => row.partition === first.partition && row.seq === first.seq),
  )
  const repeats = places.length > 0 ? await tx.readJournalAt(places) : []
  if (accepted.length > 0) await tx.writeBatch(writes)
  return { events: writes.journal, repeats, gaps, strangers, setAsideInARow, counts }
}

/** The outside world's and the suspense wallets that the batch's deposits need: those of their own partition. */
const systemWalletsOf = (commands: Command[]): Map<string, SystemWallet> => {
  const wallets = new Map<string, SystemWallet>()
  for (const { record, asked } of commands) {
    if (asked.type !== 'pennywire.ledger.TransferRequested' || asked.value.type !== 'deposit') continue
    const { currency } = asked.value
    const suffix = `${currency}:${String(record.partition).padStart(2, '0')}`
    const external = externalWalletId(currency, record.partition)
    const suspense = suspenseWalletId(currency, record.partition)
    wallets.set(external, { id: external, system: `external:${suffix}`, currency })
    wallets.set(suspense, { id: suspense, system: `suspense:${suffix}`, currency })
  }
  return wallets
}

/** A deposit is a fact: if another request has its id, it is booked under one of its own instead of refused. */
const displaceDeposit = (earlier: Map<string, Earlier>, request: TransferRequested): TransferRequested => {
  const holder = earlier.get(request.transferId)
  if (!holder || holder.fingerprint.equals(request.fingerprint)) return request
  return { ...request, transferId: displacedDepositIdOf(request.transferId) }
}

/**
 * Takes exactly the next records of each partition. One below the stored offset was applied before (a redelivery, or
 * we are a zombie that lost the partition): dropped. One above it is a gap: nothing of what follows is applied. The
 * record just before the stored offset must be the one remembered: else this is another topic of the same name.
 */
const fence = (partitions: Map<number, PartitionRow>, commands: Command[]) => {
  const accepted: Command[] = []
  const gaps = new Map<number, { partition: number; offset: bigint }>()
  const strangers = new Map<number, { partition: number; reason: string }>()
  const last = new Map<number, IncomingRecord>()
  let dropped = 0
  for (const command of commands) {
    const { partition, offset } = command.record
    const row = partitions.get(partition)
    if (!row) throw new Error(`partition ${partition} has no row in ledger.partitions`)
    if (gaps.has(partition) || strangers.has(partition)) continue
    if (offset < row.nextOffset) {
      dropped++
      const remembered = last.has(partition) ? null : row.lastDigest
      if (offset === row.nextOffset - 1n && remembered && !digestOf(command.record).equals(remembered)) {
        strangers.set(partition, {
          partition,
          reason: `the record at offset ${offset} is not the one that was decided; the topic was made anew or changed`,
        })
      }
    } else if (offset > row.nextOffset) {
      gaps.set(partition, { partition, offset: row.nextOffset })
    } else {
      accepted.push(command)
      row.nextOffset = offset + 1n
      last.set(partition, command.record)
    }
  }
  for (const [partition, record] of last) partitions.get(partition)!.lastDigest = digestOf(record)
  return { accepted, gaps: [...gaps.values()], strangers: [...strangers.values()], dropped }
}

/** Tells a record from any other: over its key and value, lengths included. */
const digestOf = (record: IncomingRecord): Buffer => {
  const hash = createHash('sha256')
  for (const part of [record.key, record.value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
  return hash.digest()
}

/** The command's trace goes on in its event; anything else in that header is left behind. */
const traceOf = (record: IncomingRecord): string | undefined => {
  const traceparent = headerOf(record, 'traceparent')
  return traceparent && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)
    ? traceparent
    : undefined
}

const transferRow = (request: TransferRequested, now: Date, partition: number, seq: bigint) => ({
  id: request.transferId,
  type: request.type,
  status: 'completed' as const,
  userId: request.userId,
  fromWallet: request.fromWalletId,
  fromSequence: null,
  toWallet: request.toWalletId,
  toSequence: null,
  amount: request.amountMinor,
  currency: request.currency,
  fingerprint: request.fingerprint,
  note: request.note,
  metadata: request.metadata,
  requestedAt: new Date(request.requestedAt),
  decidedAt: now,
  rejectionCode: null,
  rejectionDetail: null,
  partition,
  seq,
})
