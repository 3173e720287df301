import type { Original, Wallet } from '@pennywire/rules/decide.ts'
import { NOTHING_USED, type Usage } from '@pennywire/rules/limits.ts'
import {
  arrayOf,
  BYTEA,
  type Database,
  type Element,
  type ElementType,
  INT2,
  INT8,
  TEXT,
  TIMESTAMPTZ,
  type Tx,
  UUID,
} from '@pennywire/runtime/database.ts'
import type {
  Earlier,
  HoldRow,
  JournalRow,
  LimitRow,
  PartitionRow,
  SystemWallet,
  UsersWallet,
  Writes,
} from '../store.ts'

// Each function here is async and awaits its query, so that a transaction's statements are sent in call order. The
// driver sends a query that is returned unawaited only when its caller awaits it, after all others.

/** Locks the partitions' rows in ascending order: the fence. Only a row's holder decides its partition's commands. */
export const lockPartitions = async (
  tx: Tx,
  partitions: number[],
  skipLocked = false,
): Promise<PartitionRow[]> =>
  await tx<PartitionRow[]>`
    select partition, next_offset as "nextOffset", last_digest as "lastDigest", next_seq as "nextSeq"
    from ledger.partitions where partition = any(${arrayOf(tx, partitions, INT2)})
    order by partition for update ${skipLocked ? tx`skip locked` : tx``}`

/** A wallet's usage as the table stores it: {day, sent that day, that month, deposited …, withdrawn …}. */
const readUsage = (text: string): Usage => {
  if (text === '{}') return NOTHING_USED
  const [day, ...used] = text.slice(1, -1).split(',')
  const at = (index: number) => ({ day: BigInt(used[index]!), month: BigInt(used[index + 1]!) })
  return { day: Number(day), used: { send: at(0), deposit: at(2), withdrawal: at(4) } }
}

const writeUsage = ({ day, used: { send, deposit, withdrawal } }: Usage): string =>
  `{${day},${send.day},${send.month},${deposit.day},${deposit.month},${withdrawal.day},${withdrawal.month}}`

/** Locks wallets in ascending order of id: overlapping batches of several ledgers queue instead of deadlocking (P1). */
export const lockWallets = async (tx: Tx, ids: string[], skipLocked = false): Promise<Wallet[]> => {
  const rows = await tx<
    (Omit<Wallet, 'sequence' | 'usage' | 'ownLimits'> & { sequence: bigint; usage: string })[]
  >`
    select id, user_id as "userId", currency, status, freeze_source as "freezeSource", balance, held, sequence, tier,
      usage::text
    from ledger.wallets where id = any(${arrayOf(tx, ids, UUID)})
    order by id for update ${skipLocked ? tx`skip locked` : tx``}`
  return rows.map(row => ({
    ...row,
    sequence: Number(row.sequence),
    usage: readUsage(row.usage),
    ownLimits: [],
  }))
}

/** The ids of these wallets that exist, including wallets locked by another transaction. */
export const findWallets = async (tx: Tx, ids: string[]): Promise<string[]> => {
  const rows = await tx<{ id: string }[]>`
    select id from ledger.wallets where id = any(${arrayOf(tx, ids, UUID)})`
  return rows.map(({ id }) => id)
}

/** Inserts the missing system wallets and locks them all. Only the owner of their partition calls this. */
export const openSystemWallets = async (tx: Tx, wallets: SystemWallet[], now: Date): Promise<Wallet[]> => {
  await tx`
    insert into ledger.wallets (id, system, currency, opened_at)
    select id, system, currency, ${now} from unnest(
      ${arrayOf(
        tx,
        wallets.map(w => w.id),
        UUID,
      )}, ${arrayOf(
        tx,
        wallets.map(w => w.system),
        TEXT,
      )},
      ${arrayOf(
        tx,
        wallets.map(w => w.currency),
        TEXT,
      )}) as w (id, system, currency)
    on conflict do nothing`
  return lockWallets(
    tx,
    wallets.map(w => w.id),
  )
}

/** The ledger's only clock. */
export const readClock = async (tx: Tx): Promise<Date> => {
  const [row] = await tx<[{ now: Date }]>`select clock_timestamp() as now`
  return row.now
}

/** Identifies the run of the database server by its start time, to the microsecond. */
export const readServer = async (sql: Database | Tx): Promise<string> => {
  const [row] = await sql<[{ server: string }]>`select pg_postmaster_start_time()::text as server`
  return row.server
}

export const findOutcomes = async (tx: Tx, ids: string[]): Promise<Earlier[]> =>
  await tx<Earlier[]>`
    select id, fingerprint, partition, seq from ledger.commands where id = any(${arrayOf(tx, ids, UUID)})`

/** All wallets of these users, closed ones included, oldest first. */
export const findWalletsOf = async (tx: Tx, userIds: string[]): Promise<UsersWallet[]> => {
  const rows = await tx<(Omit<UsersWallet, 'usage'> & { usage: string })[]>`
    select id, user_id as "userId", currency, status, tier, usage::text from ledger.wallets
    where user_id = any(${arrayOf(tx, userIds, UUID)}) order by opened_at, closed_at nulls last`
  return rows.map(row => ({ ...row, usage: readUsage(row.usage) }))
}

/** The limits that users and staff have set on these wallets. */
export const readLimits = async (tx: Tx, walletIds: string[]): Promise<LimitRow[]> =>
  await tx<LimitRow[]>`
    select wallet_id as "walletId", action, source, per_transaction as "perTransaction", daily, monthly
    from ledger.limits where wallet_id = any(${arrayOf(tx, walletIds, UUID)})`

export const readHolds = async (tx: Tx, ids: string[]): Promise<HoldRow[]> => {
  const rows = await tx<(Omit<HoldRow, 'placedMs' | 'untilMs'> & { placedAt: Date; until: Date | null })[]>`
    select id, type, status, user_id as "userId", wallet_id as "walletId", to_wallet as "toWalletId", amount,
      currency, fingerprint, note, metadata, requested_at as "requestedAt", placed_at as "placedAt",
      hold_until as until
    from ledger.holds where id = any(${arrayOf(tx, ids, UUID)})`
  return rows.map(({ placedAt, until, ...row }) => ({
    ...row,
    placedMs: placedAt.getTime(),
    untilMs: until?.getTime() ?? null,
  }))
}

/** The originals of reversals, each with the sum already reversed. */
export const readOriginals = async (tx: Tx, ids: string[]): Promise<Original[]> =>
  await tx<Original[]>`
    select id, type, status, from_wallet as "fromWalletId", to_wallet as "toWalletId", amount, currency,
      (select coalesce(sum(amount), 0)::bigint from ledger.reversals where original_id = t.id) as reversed
    from ledger.transfers t where id = any(${arrayOf(tx, ids, UUID)})`

/** The journal's rows at these places, in any order. */
export const readJournalAt = async (
  tx: Tx,
  places: Array<{ partition: number; seq: bigint }>,
): Promise<JournalRow[]> =>
  await tx<JournalRow[]>`
    select partition, seq, key, headers::json as headers, bytes from ledger.journal
    where (partition, seq) in (select * from unnest(
      ${arrayOf(
        tx,
        places.map(p => p.partition),
        INT2,
      )}, ${arrayOf(
        tx,
        places.map(p => p.seq),
        INT8,
      )}))`

const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)

/** Writes a batch: one statement per table, pipelined, rows sorted by id: concurrent batches lock them in one order. */
export const writeBatch = async (tx: Tx, writes: Writes): Promise<void> => {
  const balances = writes.balances.toSorted(byId)
  const transfers = writes.transfers.toSorted(byId)
  const commands = writes.commands.toSorted(byId)
  const opened = writes.opened.toSorted(byId)
  const holds = writes.holds.toSorted(byId)
  const { entries, journal, partitions, tiers, labels, limits, holdEnds, reversals } = writes
  // A wallet opened in this batch is inserted with its final status.
  const become = new Map(writes.statuses.map(status => [status.id, status]))
  const isNew = new Set(opened.map(({ id }) => id))
  const statuses = writes.statuses.filter(({ id }) => !isNew.has(id))
  const column = <Row>(rows: Row[], value: (row: Row) => Element, type: ElementType) =>
    arrayOf(tx, rows.map(value), type)

  const statements: Promise<{ count: number }>[] = []
  if (statuses.length > 0) {
    statements.push(tx`
      update ledger.wallets as wallet
      set status = new.status, freeze_source = new.freeze_source, freeze_reason = new.reason,
        closed_at = new.closed_at
      from unnest(
        ${column(statuses, w => w.id, UUID)}, ${column(statuses, w => w.status, TEXT)},
        ${column(statuses, w => w.freezeSource, TEXT)}, ${column(statuses, w => w.reason, BYTEA)},
        ${column(statuses, w => w.closedAt, TIMESTAMPTZ)})
        as new (id, status, freeze_source, reason, closed_at)
      where wallet.id = new.id`)
  }
  // After the status updates: a wallet may be opened in a currency whose previous wallet this batch closed.
  if (opened.length > 0) {
    statements.push(tx`
      insert into ledger.wallets (id, user_id, code, currency, tier, usage, opened_at, status, freeze_source,
        freeze_reason, closed_at)
      select id, user_id, code, currency, tier, usage::bigint[], opened_at, status, freeze_source, freeze_reason,
        closed_at from unnest(
        ${column(opened, w => w.id, UUID)}, ${column(opened, w => w.userId, UUID)},
        ${column(opened, w => w.code, TEXT)}, ${column(opened, w => w.currency, TEXT)},
        ${column(opened, w => w.tier, TEXT)}, ${column(opened, w => writeUsage(w.usage), TEXT)},
        ${column(opened, w => w.openedAt, TIMESTAMPTZ)},
        ${column(opened, w => become.get(w.id)?.status ?? 'active', TEXT)},
        ${column(opened, w => become.get(w.id)?.freezeSource ?? null, TEXT)},
        ${column(opened, w => become.get(w.id)?.reason ?? null, BYTEA)},
        ${column(opened, w => become.get(w.id)?.closedAt ?? null, TIMESTAMPTZ)})
        as new (id, user_id, code, currency, tier, usage, opened_at, status, freeze_source, freeze_reason, closed_at)`)
  }
  const balancesWritten =
    balances.length === 0
      ? undefined
      : tx`
      update ledger.wallets as wallet
      set balance = new.balance, held = new.held, sequence = new.sequence, usage = new.usage::bigint[]
      from unnest(
        ${column(balances, w => w.id, UUID)}, ${column(balances, w => w.balance, INT8)},
        ${column(balances, w => w.held, INT8)}, ${column(balances, w => w.sequence, INT8)},
        ${column(balances, w => (w.usage === NOTHING_USED ? '{}' : writeUsage(w.usage)), TEXT)})
        as new (id, balance, held, sequence, usage)
      where wallet.id = new.id`
  if (balancesWritten) statements.push(balancesWritten)
  if (tiers.length > 0) {
    statements.push(tx`
      update ledger.wallets as wallet set tier = new.tier
      from unnest(${column(tiers, w => w.id, UUID)}, ${column(tiers, w => w.tier, TEXT)}) as new (id, tier)
      where wallet.id = new.id`)
  }
  if (labels.length > 0) {
    statements.push(tx`
      update ledger.wallets as wallet set label = new.label
      from unnest(${column(labels, w => w.id, UUID)}, ${column(labels, w => w.label, BYTEA)}) as new (id, label)
      where wallet.id = new.id`)
  }
  if (limits.length > 0) {
    statements.push(tx`
      insert into ledger.limits (wallet_id, action, source, per_transaction, daily, monthly)
      select * from unnest(
        ${column(limits, l => l.walletId, UUID)}, ${column(limits, l => l.action, TEXT)},
        ${column(limits, l => l.source, TEXT)}, ${column(limits, l => l.perTransaction, INT8)},
        ${column(limits, l => l.daily, INT8)}, ${column(limits, l => l.monthly, INT8)})
      on conflict (wallet_id, action, source) do update
        set per_transaction = excluded.per_transaction, daily = excluded.daily, monthly = excluded.monthly`)
  }
  if (holds.length > 0) {
    statements.push(tx`
      insert into ledger.holds (id, type, user_id, wallet_id, to_wallet, amount, currency, fingerprint, note,
        metadata, requested_at, placed_at, hold_until)
      select * from unnest(
        ${column(holds, h => h.id, UUID)}, ${column(holds, h => h.type, TEXT)},
        ${column(holds, h => h.userId, UUID)}, ${column(holds, h => h.walletId, UUID)},
        ${column(holds, h => h.toWalletId, UUID)}, ${column(holds, h => h.amount, INT8)},
        ${column(holds, h => h.currency, TEXT)}, ${column(holds, h => h.fingerprint, BYTEA)},
        ${column(holds, h => h.note, BYTEA)}, ${column(holds, h => h.metadata, BYTEA)},
        ${column(holds, h => h.requestedAt, TIMESTAMPTZ)},
        ${column(holds, h => new Date(h.placedMs), TIMESTAMPTZ)},
        ${column(holds, h => (h.untilMs === null ? null : new Date(h.untilMs)), TIMESTAMPTZ)})`)
  }
  const holdsEnded =
    holdEnds.length === 0
      ? undefined
      : tx`
      update ledger.holds as hold
      set status = new.status, captured = new.captured, end_command = new.end_command, ended_at = new.ended_at
      from unnest(
        ${column(holdEnds, h => h.id, UUID)}, ${column(holdEnds, h => h.status, TEXT)},
        ${column(holdEnds, h => h.captured, INT8)}, ${column(holdEnds, h => h.commandId, UUID)},
        ${column(holdEnds, h => h.endedAt, TIMESTAMPTZ)}) as new (id, status, captured, end_command, ended_at)
      where hold.id = new.id and hold.status = 'active'`
  if (holdsEnded) statements.push(holdsEnded)
  if (reversals.length > 0) {
    statements.push(tx`
      insert into ledger.reversals (original_id, transfer_id, amount)
      select * from unnest(
        ${column(reversals, r => r.originalId, UUID)}, ${column(reversals, r => r.transferId, UUID)},
        ${column(reversals, r => r.amount, INT8)})`)
  }
  if (transfers.length > 0) {
    statements.push(tx`
      insert into ledger.transfers (id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence,
        amount, currency, fingerprint, note, metadata, requested_at, decided_at, rejection_code, rejection_detail,
        rejection_limit, rejection_used, original_id, linked_to, partition, seq)
      select * from unnest(
        ${column(transfers, t => t.id, UUID)}, ${column(transfers, t => t.type, TEXT)},
        ${column(transfers, t => t.status, TEXT)}, ${column(transfers, t => t.userId, UUID)},
        ${column(transfers, t => t.fromWallet, UUID)}, ${column(transfers, t => t.fromSequence, INT8)},
        ${column(transfers, t => t.toWallet, UUID)}, ${column(transfers, t => t.toSequence, INT8)},
        ${column(transfers, t => t.amount, INT8)}, ${column(transfers, t => t.currency, TEXT)},
        ${column(transfers, t => t.fingerprint, BYTEA)}, ${column(transfers, t => t.note, BYTEA)},
        ${column(transfers, t => t.metadata, BYTEA)}, ${column(transfers, t => t.requestedAt, TIMESTAMPTZ)},
        ${column(transfers, t => t.decidedAt, TIMESTAMPTZ)}, ${column(transfers, t => t.rejectionCode, TEXT)},
        ${column(transfers, t => t.rejectionDetail, TEXT)}, ${column(transfers, t => t.rejectionLimit, INT8)},
        ${column(transfers, t => t.rejectionUsed, INT8)}, ${column(transfers, t => t.originalId, UUID)},
        ${column(transfers, t => t.linkedTo, UUID)}, ${column(transfers, t => t.partition, INT2)}, ${column(transfers, t => t.seq, INT8)})`)
  }
  if (entries.length > 0) {
    statements.push(tx`
      insert into ledger.entries (wallet_id, sequence, transfer_id, amount, balance_after)
      select * from unnest(
        ${column(entries, e => e.walletId, UUID)}, ${column(entries, e => e.sequence, INT8)},
        ${column(entries, e => e.transferId, UUID)}, ${column(entries, e => e.amount, INT8)},
        ${column(entries, e => e.balanceAfter, INT8)})`)
  }
  if (commands.length > 0) {
    statements.push(tx`
      insert into ledger.commands (id, fingerprint, partition, seq)
      select * from unnest(
        ${column(commands, c => c.id, UUID)}, ${column(commands, c => c.fingerprint, BYTEA)},
        ${column(commands, c => c.partition, INT2)}, ${column(commands, c => c.seq, INT8)})`)
  }
  if (journal.length > 0) {
    statements.push(tx`
      insert into ledger.journal (partition, seq, key, headers, bytes)
      select * from unnest(
        ${column(journal, j => j.partition, INT2)}, ${column(journal, j => j.seq, INT8)},
        ${column(journal, j => j.key, TEXT)}, ${column(journal, j => JSON.stringify(j.headers), TEXT)},
        ${column(journal, j => j.bytes, BYTEA)})`)
  }
  statements.push(tx`
    update ledger.partitions as partition
    set next_offset = new.next_offset, last_digest = new.last_digest, next_seq = new.next_seq
    from unnest(
      ${column(partitions, p => p.partition, INT2)}, ${column(partitions, p => p.nextOffset, INT8)},
      ${column(partitions, p => p.lastDigest, BYTEA)}, ${column(partitions, p => p.nextSeq, INT8)})
      as new (partition, next_offset, last_digest, next_seq)
    where partition.partition = new.partition`)
  await Promise.all(statements)
  const updated = (await balancesWritten)?.count ?? 0
  if (updated !== balances.length) throw new Error(`${balances.length} locked wallets, ${updated} updated`)
  const ended = (await holdsEnded)?.count ?? 0
  if (ended !== holdEnds.length) throw new Error(`${holdEnds.length} holds to end, ${ended} ended (X1)`)
}
