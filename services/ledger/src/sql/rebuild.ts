import { finished, pipeline } from 'node:stream/promises'
import { deserialize, serialize } from 'node:v8'
import { arrayOf, BYTEA, type Database, INT2, INT8, type Tx, UUID } from '@pennywire/runtime/database.ts'
import { type CopyColumn, encodeCopy } from '../copy-rows.ts'
import type { ReplayedWallet } from '../replay-events.ts'
import type { Earlier, EntryRow, HoldEnd, JournalRow, TransferRow } from '../store.ts'

// A rebuild's own tables are in the schema `rebuild` of the new database: how far it is, and what has no place yet in
// the ledger's tables. The large tables have no indexes until all events are read.

export type Phase = 'made' | 'reading' | 'indexing' | 'built'
/** How far a partition is rebuilt: the last event, its record's offset, and the offset of its command. */
export type RebuiltPosition = {
  partition: number
  seq: bigint
  offset: bigint
  commandOffset: bigint | null
}

/** Tables without indexes while they are filled. */
const FILLED = ['transfers', 'entries', 'commands', 'journal']

export const hasDatabase = async (sql: Database, name: string): Promise<boolean> => {
  const rows = await sql`select 1 from pg_database where datname = ${name}`
  return rows.length > 0
}

/** Creates an empty database, closed to all but its owner. */
export const createDatabaseOf = async (sql: Database, name: string, owner: string): Promise<void> => {
  try {
    await sql`create database ${sql(name)} owner ${sql(owner)}`
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error
    throw new Error(
      `${owner} may not create databases: set SUPERUSER_DATABASE_URL, or run as an administrator: create database ${name} owner ${owner}`,
    )
  }
  await sql`revoke all on database ${sql(name)} from public`
}

export const dropDatabase = async (sql: Database, name: string): Promise<void> => {
  await sql`drop database ${sql(name)}`
}

/** The phase of the rebuild in this database; undefined if it has none. */
export const readPhase = async (sql: Database): Promise<Phase | undefined> => {
  const [there] = await sql<[{ run: string | null }]>`select to_regclass('rebuild.run')::text as run`
  if (!there.run) return undefined
  const [row] = await sql<[{ phase: Phase }]>`select phase from rebuild.run`
  return row.phase
}

/** What a database contains that is neither Postgres' own nor a rebuild's. */
export const findContents = async (sql: Database): Promise<string | undefined> => {
  const [row] = await sql<{ name: string }[]>`
    select 'schema ' || nspname as name from pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
    union all
    select 'public.' || relname from pg_class where relnamespace = 'public'::regnamespace
    order by 1 limit 1`
  return row?.name
}

export const createRun = (sql: Database): Promise<unknown> =>
  sql.begin(async tx => {
    await tx`create schema rebuild`
    await tx`
      create table rebuild.run (
        single boolean primary key default true check (single), phase text not null)`
    await tx`
      create table rebuild.positions (
        partition smallint primary key, seq bigint not null, record_offset bigint not null, command_offset bigint)`
    await tx`create table rebuild.wallets (id uuid primary key, user_id uuid, state bytea not null)`
    await tx`create index wallets_of_user on rebuild.wallets (user_id, id)`
    await tx`create table rebuild.unmatched (hold uuid primary key, state bytea not null)`
    await tx`
      create table rebuild.hold_ends (
        id uuid not null, status text not null, captured bigint not null, end_command uuid not null,
        ended_at timestamptz not null)`
    await tx`create table rebuild.repeats (partition smallint not null, seq bigint not null, bytes bytea not null)`
    await tx`create table rebuild.indexes (number serial primary key, statement text not null)`
    await tx`create table rebuild.horizon (partition smallint primary key, seq bigint not null)`
    await tx`insert into rebuild.run (phase) values ('made')`
  })

export const dropRun = (sql: Database): Promise<unknown> =>
  sql.begin(async tx => {
    await tx`drop schema if exists ledger_api cascade`
    await tx`drop schema if exists ledger cascade`
    await tx`drop schema if exists rebuild cascade`
  })

/** Drops the large tables' indexes, and notes how to create them again. */
export const dropIndexes = (sql: Database): Promise<unknown> =>
  sql.begin(async tx => {
    const constraints = await tx<{ table: string; name: string; definition: string }[]>`
      select relname as "table", conname as name, pg_get_constraintdef(c.oid) as definition
      from pg_constraint c join pg_class on pg_class.oid = conrelid
      where connamespace = 'ledger'::regnamespace and contype in ('p', 'u') and relname in ${tx(FILLED)} order by 1, 2`
    for (const { table, name, definition } of constraints) {
      await tx`
        insert into rebuild.indexes (statement) values (${`alter table ledger.${table} add constraint ${name} ${definition}`})`
      await tx`alter table ${tx(`ledger.${table}`)} drop constraint ${tx(name)}`
    }
    const indexes = await tx<{ name: string; definition: string }[]>`
      select indexname as name, indexdef as definition from pg_indexes
      where schemaname = 'ledger' and tablename in ${tx(FILLED)} order by 1`
    for (const { name, definition } of indexes) {
      await tx`insert into rebuild.indexes (statement) values (${definition})`
      await tx`drop index ${tx(`ledger.${name}`)}`
    }
    await tx`update rebuild.run set phase = 'reading'`
  })

/** Creates the next index; false if all exist. Each is a transaction of its own, so that a stop loses one at most. */
export const createNextIndex = (sql: Database): Promise<boolean> =>
  sql.begin(async tx => {
    const [next] = await tx<{ number: number; statement: string }[]>`
      delete from rebuild.indexes where number = (select min(number) from rebuild.indexes) returning number, statement`
    if (!next) return false
    await tx`set local maintenance_work_mem = '256MB'`
    await tx.unsafe(next.statement)
    return true
  }) as Promise<boolean>

export const countIndexes = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ count: number }]>`select count(*)::int as count from rebuild.indexes`
  return row.count
}

export const setPhase = async (sql: Database | Tx, phase: Phase): Promise<void> => {
  await sql`update rebuild.run set phase = ${phase}`
}

// What is read of the topic

export const readRebuiltPositions = (sql: Database): Promise<RebuiltPosition[]> =>
  sql<RebuiltPosition[]>`
    select partition, seq, record_offset as "offset", command_offset as "commandOffset" from rebuild.positions`

/**
 * Moves positions on from where this rebuild left them. Throws if another one has moved them: two at once would write
 * every event twice.
 */
export const writeRebuiltPositions = async (
  tx: Tx,
  moves: Array<{ from: bigint; to: RebuiltPosition }>,
): Promise<void> => {
  const column = <Value extends number | bigint | null>(
    value: (move: (typeof moves)[number]) => Value,
    type: typeof INT2 | typeof INT8,
  ) => arrayOf(tx, moves.map(value), type)
  const { count } = await tx`
    insert into rebuild.positions as position (partition, seq, record_offset, command_offset)
    select partition, seq, record_offset, command_offset from unnest(
      ${column(({ to }) => to.partition, INT2)}, ${column(({ to }) => to.seq, INT8)},
      ${column(({ to }) => to.offset, INT8)}, ${column(({ to }) => to.commandOffset, INT8)})
      as new (partition, seq, record_offset, command_offset)
    on conflict (partition) do update
      set seq = excluded.seq, record_offset = excluded.record_offset, command_offset = excluded.command_offset
      where position.record_offset = (
        select before from unnest(${column(({ to }) => to.partition, INT2)}, ${column(({ from }) => from, INT8)})
          as known (partition, before) where known.partition = position.partition)`
  if (count !== moves.length) throw new Error('another rebuild is at work in this database')
}

const TRANSFERS: CopyColumn<TransferRow>[] = [
  { name: 'id', type: 'uuid', value: t => t.id },
  { name: 'type', type: 'text', value: t => t.type },
  { name: 'status', type: 'text', value: t => t.status },
  { name: 'user_id', type: 'uuid', value: t => t.userId },
  { name: 'from_wallet', type: 'uuid', value: t => t.fromWallet },
  { name: 'from_sequence', type: 'int8', value: t => t.fromSequence },
  { name: 'to_wallet', type: 'uuid', value: t => t.toWallet },
  { name: 'to_sequence', type: 'int8', value: t => t.toSequence },
  { name: 'amount', type: 'int8', value: t => t.amount },
  { name: 'currency', type: 'text', value: t => t.currency },
  { name: 'fingerprint', type: 'bytea', value: t => t.fingerprint },
  { name: 'note', type: 'bytea', value: t => t.note },
  { name: 'metadata', type: 'bytea', value: t => t.metadata },
  { name: 'requested_at', type: 'timestamptz', value: t => t.requestedAt },
  { name: 'decided_at', type: 'timestamptz', value: t => t.decidedAt },
  { name: 'rejection_code', type: 'text', value: t => t.rejectionCode },
  { name: 'rejection_detail', type: 'text', value: t => t.rejectionDetail },
  { name: 'rejection_limit', type: 'int8', value: t => t.rejectionLimit },
  { name: 'rejection_used', type: 'int8', value: t => t.rejectionUsed },
  { name: 'original_id', type: 'uuid', value: t => t.originalId },
  { name: 'linked_to', type: 'uuid', value: t => t.linkedTo },
  { name: 'partition', type: 'int2', value: t => t.partition },
  { name: 'seq', type: 'int8', value: t => t.seq },
]
const ENTRIES: CopyColumn<EntryRow>[] = [
  { name: 'wallet_id', type: 'uuid', value: e => e.walletId },
  { name: 'sequence', type: 'int8', value: e => e.sequence },
  { name: 'transfer_id', type: 'uuid', value: e => e.transferId },
  { name: 'amount', type: 'int8', value: e => e.amount },
  { name: 'balance_after', type: 'int8', value: e => e.balanceAfter },
]
const COMMANDS: CopyColumn<Earlier>[] = [
  { name: 'id', type: 'uuid', value: c => c.id },
  { name: 'fingerprint', type: 'bytea', value: c => c.fingerprint },
  { name: 'partition', type: 'int2', value: c => c.partition },
  { name: 'seq', type: 'int8', value: c => c.seq },
]
const JOURNAL: CopyColumn<JournalRow>[] = [
  { name: 'partition', type: 'int2', value: j => j.partition },
  { name: 'seq', type: 'int8', value: j => j.seq },
  { name: 'key', type: 'text', value: j => j.key },
  { name: 'headers', type: 'text', value: j => JSON.stringify(j.headers) },
  { name: 'bytes', type: 'bytea', value: j => j.bytes },
]
const REPEATS: CopyColumn<JournalRow>[] = JOURNAL.filter(({ name }) =>
  ['partition', 'seq', 'bytes'].includes(name),
)
const HOLD_ENDS: CopyColumn<HoldEnd>[] = [
  { name: 'id', type: 'uuid', value: h => h.id },
  { name: 'status', type: 'text', value: h => h.status },
  { name: 'captured', type: 'int8', value: h => h.captured },
  { name: 'end_command', type: 'uuid', value: h => h.commandId },
  { name: 'ended_at', type: 'timestamptz', value: h => h.endedAt },
]

const copy = async <Row>(
  tx: Tx,
  table: string,
  rows: readonly Row[],
  columns: readonly CopyColumn<Row>[],
) => {
  if (rows.length === 0) return
  const names = columns.map(({ name }) => name)
  // By the simple protocol: by the other one the driver waits for ever for the end of a COPY that failed.
  const stream = await tx`copy ${tx(table)} (${tx(names)}) from stdin (format binary)`.simple().writable()
  stream.end(encodeCopy(rows, columns))
  await finished(stream)
}

/** Adds the rows that events make, by COPY: all or none. */
export const copyReplayed = async (
  tx: Tx,
  rows: {
    transfers: TransferRow[]
    entries: EntryRow[]
    commands: Earlier[]
    journal: JournalRow[]
    holdEnds: HoldEnd[]
    repeats: JournalRow[]
  },
): Promise<void> => {
  await copy(tx, 'ledger.transfers', rows.transfers, TRANSFERS)
  await copy(tx, 'ledger.entries', rows.entries, ENTRIES)
  await copy(tx, 'ledger.commands', rows.commands, COMMANDS)
  await copy(tx, 'ledger.journal', rows.journal, JOURNAL)
  await copy(tx, 'rebuild.hold_ends', rows.holdEnds, HOLD_ENDS)
  await copy(tx, 'rebuild.repeats', rows.repeats, REPEATS)
}

/** Wallets as the events read so far leave them, ready to be stored. */
export const sealWallets = (wallets: ReplayedWallet[]) =>
  wallets.map(wallet => ({ id: wallet.id, userId: wallet.userId, state: serialize(wallet) }))

export const saveWallets = async (tx: Tx, wallets: ReturnType<typeof sealWallets>): Promise<void> => {
  if (wallets.length === 0) return
  await tx`
    insert into rebuild.wallets (id, user_id, state)
    select * from unnest(
      ${arrayOf(
        tx,
        wallets.map(w => w.id),
        UUID,
      )}, ${arrayOf(
        tx,
        wallets.map(w => w.userId),
        UUID,
      )},
      ${arrayOf(
        tx,
        wallets.map(w => w.state),
        BYTEA,
      )})
    on conflict (id) do update set user_id = excluded.user_id, state = excluded.state`
}

const unseal = ({ state }: { state: Buffer }): ReplayedWallet => deserialize(state) as ReplayedWallet

export const loadWallets = async (sql: Database, ids: string[]): Promise<ReplayedWallet[]> => {
  const rows = await sql<{ state: Buffer }[]>`
    select state from rebuild.wallets where id = any(${arrayOf(sql, ids, UUID)})`
  return rows.map(unseal)
}

/** The wallets of the next users, each user's all together. */
export const loadWalletsOfNextUsers = async (
  tx: Tx,
  after: string | undefined,
  users: number,
): Promise<ReplayedWallet[]> => {
  const rows = await tx<{ state: Buffer }[]>`
    select state from rebuild.wallets where user_id in (
      select distinct user_id from rebuild.wallets
      where user_id is not null ${after === undefined ? tx`` : tx`and user_id > ${after}`}
      order by user_id limit ${users})
    order by user_id, id`
  return rows.map(unseal)
}

export const loadSystemWallets = async (tx: Tx): Promise<ReplayedWallet[]> => {
  const rows = await tx<
    { state: Buffer }[]
  >`select state from rebuild.wallets where user_id is null order by id`
  return rows.map(unseal)
}

export const countRebuiltWallets = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ count: number }]>`select count(*)::int as count from rebuild.wallets`
  return row.count
}

/** Replaces the ends of holds that no event has placed so far. */
export const saveUnmatched = async (tx: Tx, unmatched: ReadonlyMap<string, object>): Promise<void> => {
  await tx`delete from rebuild.unmatched`
  if (unmatched.size === 0) return
  await tx`
    insert into rebuild.unmatched (hold, state)
    select * from unnest(
      ${arrayOf(tx, [...unmatched.keys()], UUID)},
      ${arrayOf(
        tx,
        [...unmatched.values()].map(one => serialize(one)),
        BYTEA,
      )})`
}

export const loadUnmatched = async <Value>(sql: Database): Promise<Map<string, Value>> => {
  const rows = await sql<{ hold: string; state: Buffer }[]>`select hold, state from rebuild.unmatched`
  return new Map(rows.map(({ hold, state }) => [hold, deserialize(state) as Value]))
}

// What is done once all events are read

/** Ends the holds that events end; resolves with the number of ends that found no active hold. */
export const endHolds = async (tx: Tx): Promise<bigint> => {
  const [row] = await tx<[{ lost: bigint }]>`
    with ended as (
      update ledger.holds as hold
      set status = e.status, captured = e.captured, end_command = e.end_command, ended_at = e.ended_at
      from rebuild.hold_ends e where hold.id = e.id and hold.status = 'active' returning 1)
    select (select count(*) from rebuild.hold_ends) - (select count(*) from ended) as lost`
  return row.lost
}

/** Sets the positions: deciding would go on behind the command of each partition's last event. */
export const writePartitions = async (tx: Tx): Promise<void> => {
  await tx`
    insert into ledger.partitions (partition, next_offset, next_seq, macs_from)
    select partition, coalesce(command_offset + 1, 0), seq + 1, 0 from rebuild.positions
    on conflict (partition) do update set next_offset = excluded.next_offset, next_seq = excluded.next_seq`
  await tx`
    insert into ledger.published (partition, published_through) select partition, seq from rebuild.positions
    on conflict (partition) do update set published_through = excluded.published_through`
}

/** A repeated record of the topic that is not the event that it repeats. Needs the journal's index. */
export const findOtherRepeat = async (
  sql: Database,
): Promise<{ partition: number; seq: bigint } | undefined> => {
  const [row] = await sql<{ partition: number; seq: bigint }[]>`
    select r.partition, r.seq from rebuild.repeats r join ledger.journal j using (partition, seq)
    where r.bytes <> j.bytes order by 1, 2 limit 1`
  return row
}

export const analyze = async (sql: Database): Promise<void> => {
  await sql`analyze`
}

// The live books at one moment

export type Horizon = Map<number, bigint>

export const readHorizon = async (sql: Database): Promise<Horizon> => {
  const rows = await sql<{ partition: number; seq: bigint }[]>`select partition, seq from rebuild.horizon`
  return new Map(rows.map(({ partition, seq }) => [partition, seq]))
}

const columnsOf = async (sql: Database | Tx, table: string): Promise<string[]> => {
  const rows = await sql<{ name: string }[]>`
    select column_name as name from information_schema.columns
    where table_schema = 'ledger' and table_name = ${table} order by ordinal_position`
  return rows.map(({ name }) => name)
}

/**
 * Copies what the live books change in place (wallets, limits) at one moment, and notes through which event they are:
 * one short snapshot. Everything else stays as it was decided, so it can be compared at any later time.
 */
export const copyMoment = async (target: Database, live: Database): Promise<Horizon> => {
  const horizon = (await target.begin(async tx => {
    await tx`delete from rebuild.horizon`
    return live.begin('isolation level repeatable read read only', async snapshot => {
      const rows = await snapshot<{ partition: number; seq: bigint }[]>`
        select partition, next_seq - 1 as seq from ledger.partitions`
      for (const table of ['wallets', 'limits']) {
        const columns = await columnsOf(tx, table)
        const copied = `rebuild.live_${table}`
        await tx`drop table if exists ${tx(copied)}`
        await tx`create table ${tx(copied)} (like ${tx(`ledger.${table}`)})`
        const from =
          await snapshot`copy ${snapshot(`ledger.${table}`)} (${snapshot(columns)}) to stdout`.readable()
        const to = await tx`copy ${tx(copied)} (${tx(columns)}) from stdin`.simple().writable()
        await pipeline(from, to)
      }
      await tx`create unique index on rebuild.live_wallets (id)`
      await tx`create unique index on rebuild.live_limits (wallet_id, action, source)`
      await tx`
        insert into rebuild.horizon (partition, seq)
        select * from unnest(${arrayOf(
          tx,
          rows.map(r => r.partition),
          INT2,
        )}, ${arrayOf(
          tx,
          rows.map(r => r.seq),
          INT8,
        )})`
      return new Map(rows.map(({ partition, seq }) => [partition, seq]))
    })
  })) as Horizon
  return horizon
}
