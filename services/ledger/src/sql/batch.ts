import {
  arrayOf,
  BYTEA,
  type Element,
  type ElementType,
  INT2,
  INT8,
  TEXT,
  TIMESTAMPTZ,
  type Tx,
  UUID,
} from '@pennywire/runtime/database.ts'
import type { Wallet } from '../decide.ts'
import type { Earlier, JournalRow, PartitionRow, SystemWallet, Writes } from '../store.ts'

/** Locks the partitions' rows, in order: the fence. Whoever holds it is alone in deciding their commands. */
export const lockPartitions = (tx: Tx, partitions: number[]): Promise<PartitionRow[]> =>
  tx<PartitionRow[]>`
    select partition, next_offset as "nextOffset", last_digest as "lastDigest", next_seq as "nextSeq"
    from ledger.partitions where partition = any(${arrayOf(tx, partitions, INT2)})
    order by partition for update`

/** Locks wallets in ascending id: batches of several ledgers that cross queue up instead of deadlocking (P1). */
export const lockWallets = async (tx: Tx, ids: string[]): Promise<Wallet[]> => {
  const rows = await tx<(Omit<Wallet, 'sequence'> & { sequence: bigint })[]>`
    select id, user_id as "userId", currency, status, freeze_source as "freezeSource", balance, held, sequence
    from ledger.wallets where id = any(${arrayOf(tx, ids, UUID)})
    order by id for update`
  return rows.map(row => ({ ...row, sequence: Number(row.sequence) }))
}

/** Makes the system wallets that do not exist yet and locks them. Only their partition's owner ever comes here. */
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

export const findEarlier = (tx: Tx, ids: string[]): Promise<Earlier[]> =>
  tx<Earlier[]>`
    select id, fingerprint, partition, seq from ledger.transfers where id = any(${arrayOf(tx, ids, UUID)})
    union all
    select id, fingerprint, partition, seq from ledger.commands where id = any(${arrayOf(tx, ids, UUID)})`

/** Which of these users have an open wallet in which currency. */
export const findOpenWallets = (tx: Tx, userIds: string[]): Promise<{ userId: string; currency: string }[]> =>
  tx<{ userId: string; currency: string }[]>`
    select user_id as "userId", currency from ledger.wallets
    where user_id = any(${arrayOf(tx, userIds, UUID)}) and status <> 'closed'`

/** The journal's rows at these places, whatever their order. */
export const readJournalAt = (
  tx: Tx,
  places: Array<{ partition: number; seq: bigint }>,
): Promise<JournalRow[]> =>
  tx<JournalRow[]>`
    select partition, seq, key, headers, bytes from ledger.journal
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

/** Writes a batch: one statement a table, sent together, each sorted by id so that rivals meet in one order. */
export const writeBatch = async (tx: Tx, writes: Writes): Promise<void> => {
  const balances = writes.balances.toSorted(byId)
  const transfers = writes.transfers.toSorted(byId)
  const commands = writes.commands.toSorted(byId)
  const opened = writes.opened.toSorted(byId)
  const { entries, journal, partitions } = writes
  const column = <Row>(rows: Row[], value: (row: Row) => Element, type: ElementType) =>
    arrayOf(tx, rows.map(value), type)

  const statements: Promise<{ count: number }>[] = []
  if (opened.length > 0) {
    statements.push(tx`
      insert into ledger.wallets (id, user_id, code, currency, opened_at)
      select * from unnest(
        ${column(opened, w => w.id, UUID)}, ${column(opened, w => w.userId, UUID)},
        ${column(opened, w => w.code, TEXT)}, ${column(opened, w => w.currency, TEXT)},
        ${column(opened, w => w.openedAt, TIMESTAMPTZ)})`)
  }
  const balancesWritten =
    balances.length === 0
      ? undefined
      : tx`
      update ledger.wallets as wallet set balance = new.balance, sequence = new.sequence
      from unnest(
        ${column(balances, w => w.id, UUID)}, ${column(balances, w => w.balance, INT8)},
        ${column(balances, w => w.sequence, INT8)}) as new (id, balance, sequence)
      where wallet.id = new.id`
  if (balancesWritten) statements.push(balancesWritten)
  if (transfers.length > 0) {
    statements.push(tx`
      insert into ledger.transfers (id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence,
        amount, currency, fingerprint, note, metadata, requested_at, decided_at, rejection_code, rejection_detail,
        partition, seq)
      select * from unnest(
        ${column(transfers, t => t.id, UUID)}, ${column(transfers, t => t.type, TEXT)},
        ${column(transfers, t => t.status, TEXT)}, ${column(transfers, t => t.userId, UUID)},
        ${column(transfers, t => t.fromWallet, UUID)}, ${column(transfers, t => t.fromSequence, INT8)},
        ${column(transfers, t => t.toWallet, UUID)}, ${column(transfers, t => t.toSequence, INT8)},
        ${column(transfers, t => t.amount, INT8)}, ${column(transfers, t => t.currency, TEXT)},
        ${column(transfers, t => t.fingerprint, BYTEA)}, ${column(transfers, t => t.note, BYTEA)},
        ${column(transfers, t => t.metadata, BYTEA)}, ${column(transfers, t => t.requestedAt, TIMESTAMPTZ)},
        ${column(transfers, t => t.decidedAt, TIMESTAMPTZ)}, ${column(transfers, t => t.rejectionCode, TEXT)},
        ${column(transfers, t => t.rejectionDetail, TEXT)}, ${column(transfers, t => t.partition, INT2)},
        ${column(transfers, t => t.seq, INT8)})`)
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
        ${column(journal, j => j.key, TEXT)}, ${column(journal, j => j.headers, TEXT)},
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
}
